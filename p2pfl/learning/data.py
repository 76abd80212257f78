"""From a configuration to a data set: found, named, filtered."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import platformdirs

from p2pfl.config import DataConfig
from p2pfl.errors import ConfigError, DataError
from p2pfl.learning.dataset import Dataset
from p2pfl.learning.filters import apply
from p2pfl.learning.own_data import read_folder, read_npz
from p2pfl.learning.published import PUBLISHED

__all__ = ["Dataset", "data_folder", "load"]


def load(config: DataConfig) -> Dataset:
    """The data set that `config` asks for, with its filters applied.

    A function of `config` and the files alone: nodes that ask for the same hold out, keep and number the
    same. Raises DataError for data that is missing or damaged, ConfigError for options that do not fit it.
    """
    if len(set(config.classes)) < len(config.classes):
        raise ConfigError(f"classes: a name occurs twice in {','.join(config.classes)}")
    if config.dataset in PUBLISHED:
        dataset = _renamed(PUBLISHED[config.dataset](data_folder(config)), config.classes)
    else:
        path = _find(config)
        dataset = (read_folder if path.is_dir() else read_npz)(path, config.classes)
    dataset = apply(dataset, config)
    if config.task:
        dataset = dataclasses.replace(dataset, task=dataclasses.replace(dataset.task, name=config.task))
    return dataset


def data_folder(config: DataConfig) -> Path:
    """Where data sets lie: `data_dir`, else the user's data folder (~/.local/share/p2pfl on Linux)."""
    if config.data_dir:
        return Path(config.data_dir).expanduser()
    return platformdirs.user_data_path("p2pfl", appauthor=False)


def _find(config: DataConfig) -> Path:
    """A folder or .npz file, by its path from here or from the data folder."""
    given = Path(config.dataset).expanduser()
    if config.dataset:
        for path in (given, data_folder(config) / given):
            if path.is_dir() or (path.is_file() and path.suffix == ".npz"):
                return path
    raise DataError(
        f"data set {config.dataset!r} is none of {', '.join(PUBLISHED)}, and there is no such folder or .npz "
        f"file here or in {data_folder(config)}"
    )


def _renamed(dataset: Dataset, classes: tuple[str, ...]) -> Dataset:
    task = dataset.task
    if not classes:
        return dataset
    if len(classes) != len(task.classes):
        raise ConfigError(f"classes: {task.name} has {len(task.classes)} classes, not {len(classes)}")
    return dataclasses.replace(dataset, task=dataclasses.replace(task, classes=classes))

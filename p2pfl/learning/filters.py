"""What of a data set is kept before it is split. Equal options keep equal samples at all nodes."""

from __future__ import annotations

import dataclasses

import numpy as np

from p2pfl.config import DataConfig
from p2pfl.errors import ConfigError
from p2pfl.gossip.messages import Task
from p2pfl.learning.dataset import Dataset, Labels
from p2pfl.learning.learner import Indices

FILTER_SEED = 40  # keeps the draws of a filter apart from those of a partition with the same seed


def apply(dataset: Dataset, config: DataConfig) -> Dataset:
    """keep-classes, then keep-writers, then keep-per-class. Raises ConfigError for what fits nothing."""
    if config.keep_classes:
        dataset = keep_classes(dataset, config.keep_classes)
    if config.keep_writers is not None:
        dataset = keep_writers(dataset, config.keep_writers)
    if config.keep_per_class:
        dataset = keep_per_class(dataset, config.keep_per_class, config.partition_seed)
    return dataset


def keep_classes(dataset: Dataset, names: tuple[str, ...]) -> Dataset:
    """The samples of these classes, of the held-out data too, as another task: mnist becomes mnist[3,7].

    The classes keep their order and are numbered anew: of --keep-classes 7,3 class 3 is 0 and class 7 is 1.
    """
    task = dataset.task
    kept = sorted({_position(task, name, "keep-classes") for name in names})
    if len(kept) < 2:
        raise ConfigError("keep-classes: keep at least 2 classes, there is nothing to tell apart in one")
    if len(kept) == len(task.classes):
        return dataset
    classes = tuple(task.classes[label] for label in kept)
    train, test = (
        np.flatnonzero(np.isin(labels, kept)) for labels in (dataset.train_labels, dataset.test_labels)
    )

    def renumbered(labels: Labels) -> Labels:
        return np.searchsorted(np.array(kept), labels).astype(np.int64)

    return Dataset(
        dataclasses.replace(task, name=f"{task.name}[{','.join(classes)}]", classes=classes),
        dataset.train_images[train],
        renumbered(dataset.train_labels[train]),
        dataset.test_images[test],
        renumbered(dataset.test_labels[test]),
        None if dataset.writers is None else dataset.writers[train],
    )


def keep_writers(dataset: Dataset, count: int) -> Dataset:
    """The training samples of the `count` writers with the lowest numbers; held-out data stays whole."""
    if dataset.writers is None:
        raise ConfigError(
            f"keep-writers: {dataset.task.name} does not say who wrote what; mnist does, with "
            "MNIST/writers-train.npy (one number for each training image) in the data folder"
        )
    names = np.unique(dataset.writers)
    if count > len(names):
        raise ConfigError(f"keep-writers: {dataset.task.name} has {len(names)} writers here, not {count}")
    return _training(dataset, np.flatnonzero(dataset.writers <= names[count - 1]))


def keep_per_class(dataset: Dataset, shares: tuple[str, ...], seed: int) -> Dataset:
    """A random share of each class's training samples, `NAME=SHARE` or `rest=SHARE`; unnamed classes stay.

    Held-out data stays whole. A share above 0 keeps one sample at least.
    """
    task = dataset.task
    wanted: dict[int, float] = {}
    rest = 1.0
    for item in shares:
        name, equals, text = item.rpartition("=")
        share = _share(text)
        if not equals or share is None:
            raise ConfigError(
                f"keep-per-class: {item!r} is not CLASS=SHARE with a share from 0 to 1, such as 0=0.5"
            )
        if name == "rest" and "rest" not in task.classes:
            rest = share
            continue
        label = _position(task, name, "keep-per-class")
        if label in wanted:
            raise ConfigError(f"keep-per-class: class {name} occurs twice")
        wanted[label] = share
    kept = [np.zeros(0, dtype=np.int64)]
    for label in np.unique(dataset.train_labels):
        own = np.flatnonzero(dataset.train_labels == label)
        share = wanted.get(int(label), rest)
        rng = np.random.default_rng([FILTER_SEED, seed, int(label)])
        kept.append(rng.permutation(own)[: max(round(share * len(own)), int(share > 0))])
    return _training(dataset, np.sort(np.concatenate(kept)))


def _training(dataset: Dataset, kept: Indices) -> Dataset:
    if not len(kept):
        raise ConfigError(f"the filters keep no training samples of {dataset.task.name}")
    return dataclasses.replace(
        dataset,
        train_images=dataset.train_images[kept],
        train_labels=dataset.train_labels[kept],
        writers=None if dataset.writers is None else dataset.writers[kept],
    )


def _position(task: Task, name: str, option: str) -> int:
    if name not in task.classes:
        raise ConfigError(
            f"{option}: {task.name} has no class {name!r}; its classes are {', '.join(task.classes)}"
        )
    return task.classes.index(name)


def _share(text: str) -> float | None:
    try:
        share = float(text)
    except ValueError:
        return None
    return share if 0 <= share <= 1 else None

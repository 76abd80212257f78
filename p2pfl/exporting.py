"""A model out of a state directory, and one into it: for `p2pfl node export` and `p2pfl node import`."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from p2pfl.config import DataConfig
from p2pfl.errors import ConfigError, StorageError
from p2pfl.gossip.messages import Layout, Task
from p2pfl.storage import atomic, exported
from p2pfl.storage.checkpoint import Checkpoint
from p2pfl.storage.directory import StateDirectory, newest
from p2pfl.storage.exported import Exported

log = logging.getLogger(__name__)

# Of a file that is given away, as the user's own settings for new files have it.
MODE = 0o666


def export(state_dir: str, file: Path, *, overwrite: bool) -> Checkpoint:
    """Write the newest model in `state_dir` to `file`; a running node is not disturbed. Returns what it was.

    Raises StorageError.
    """
    checkpoint, damaged = newest(Path(state_dir))
    for name, reason in damaged:
        log.warning("file=%s is damaged (%s); the checkpoint before it is taken", name, reason)
    if checkpoint is None:
        raise StorageError(f"{state_dir} holds no checkpoint; is it the --state-dir of a node?")
    if file.exists() and not overwrite:
        raise StorageError(f"{file} is there already; give --overwrite, or another file")
    try:
        atomic.replace(file, exported.encode(checkpoint), MODE)
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror}") from error
    return checkpoint


def import_(
    state_dir: str, file: Path, *, data: DataConfig | None, model: str | None, overwrite: bool
) -> Checkpoint:
    """Make the weights in `file` the state from which a node with this `state_dir` starts. Returns it.

    data, model: what they are weights of; None if the file says so itself.
    Raises StorageError, ConfigError, and what loading the data set and building the model raise.
    """
    try:
        given = exported.decode(file.read_bytes())
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise StorageError(f"{file} is not a model in a safetensors file: {error}") from error
    task, layout = _what(file, given, data, model)
    try:
        weights = exported.flatten(given.tensors, layout)
    except ValueError as error:
        raise StorageError(f"{file} does not fit: {error}") from error
    state = StateDirectory(state_dir)
    try:
        before = state.load()
        if before is not None and not overwrite:
            raise StorageError(
                f"{state_dir} holds a state already, {before.layout.model} of {before.task.name} after round "
                f"{before.round}; give --overwrite to start from {file} instead, or another --state-dir"
            )
        checkpoint = Checkpoint(
            id=before.id if before else "",  # a new node names itself
            round=0,
            age=given.age,
            weights=weights,
            optimiser=np.empty(0, np.float32),
            task=task,
            layout=layout,
            version=before.version + 1 if before else 0,
            peers=before.peers if before else (),
        )
        if left_out := state.save(checkpoint):
            log.warning("%s", left_out)
    finally:
        state.close()
    return checkpoint


def _what(file: Path, given: Exported, data: DataConfig | None, model: str | None) -> tuple[Task, Layout]:
    """What the tensors are of, by the file and by what the user said; they must not differ."""
    task, layout = given.task, given.layout
    if task is None and (data is None or model is None):
        raise ConfigError(f"{file} does not say what it was trained for; give --dataset and --model")
    if data is not None:
        # Imported here: torch and the data sets are slow, and a file of ours needs neither.
        from p2pfl.learning.data import load

        said = load(data).task
        if task is not None and (difference := said.difference(task)):
            raise ConfigError(f"{file} is of another task: {difference} (here: the flags, there: the file)")
        task = said
    assert task is not None
    if model is not None:
        from p2pfl.learning.models import build
        from p2pfl.learning.weights import layout_of

        if layout is not None and layout.model != model:
            raise ConfigError(f"{file} is of the model {layout.model}, not {model}")
        layout = layout_of(build(model, task), model)
    assert layout is not None
    return task, layout

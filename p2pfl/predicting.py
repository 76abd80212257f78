"""What a model says of a picture: for a node's page, beside its training, and for `p2pfl predict`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import trio

from p2pfl.errors import BadPicture, ConfigError, DataError, ModelError, StorageError
from p2pfl.gossip.messages import Task, Vector
from p2pfl.learning.learner import Learner, Probabilities
from p2pfl.learning.pictures import Invert, Pixels, pixels_of
from p2pfl.storage import exported

Model = Callable[[Vector, Pixels], Probabilities]
MAX_FILE = 64 * 1024 * 1024
"""Bytes of a picture in a file of the user's own."""


@dataclass(frozen=True)
class Prediction:
    """probabilities: of each class, in label order.  pixels: (C, H, W) uint8, what the model saw."""

    probabilities: tuple[float, ...]
    pixels: Pixels


@runtime_checkable
class Predicting(Protocol):
    """A learner that predicts, too. It need not: Learner has what a node needs to train."""

    def predict(self, weights: Vector, pixels: Pixels) -> Probabilities:
        """weights: (P,) float32, not modified.  pixels: (n, *input_shape) uint8. Returns (n, C) float32.

        Called in a thread of its own, one call at a time, also while fit or evaluate run: they must share no
        state that it changes.
        """
        ...


class Predictor:
    """Predicts in a worker thread of this process, one picture at a time: training goes on beside it."""

    def __init__(self, learner: Predicting, task: Task) -> None:
        self._learner = learner
        self._task = task
        self._limiter = trio.CapacityLimiter(1)

    async def __call__(self, weights: Vector, content: bytes, drawn: bool, invert: Invert) -> Prediction:
        """content: of a picture's file. Raises BadPicture, CannotPredict."""
        work = partial(predict, self._learner.predict, weights, self._task, content, drawn, invert)
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


def predictor(learner: Learner) -> Predictor | None:
    """None if the learner does not predict."""
    return Predictor(learner, learner.task) if isinstance(learner, Predicting) else None


def predict(
    model: Model, weights: Vector, task: Task, content: bytes, drawn: bool, invert: Invert
) -> Prediction:
    pixels = pixels_of(content, task, drawn=drawn, invert=invert)
    row = model(weights, pixels[None])[0]
    return Prediction(tuple(float(share) for share in row), pixels)


def of_files(
    file: Path, pictures: Iterable[Path], *, model: str | None, drawn: bool, invert: Invert
) -> tuple[Task, list[Prediction]]:
    """What the model in a file of `p2pfl node export` says of pictures. model: as _loaded takes it.

    Raises StorageError, ConfigError, ModelError, DataError.
    """
    task, weights, inference = _loaded(file, model)
    found = []
    for picture in pictures:
        try:
            if picture.stat().st_size > MAX_FILE:
                raise DataError(f"{picture} has more than {MAX_FILE // 2**20} MiB")
            found.append(predict(inference, weights, task, picture.read_bytes(), drawn, invert))
        except OSError as error:
            raise DataError(f"{picture} cannot be read: {error.strerror}") from error
        except BadPicture as error:
            raise DataError(f"{picture}: {error}") from error
    return task, found


def _loaded(file: Path, model: str | None) -> tuple[Task, Vector, Model]:
    """model: the name of a model of the user's own. A file's word for it is not taken: it would name code."""
    from p2pfl.learning.inference import Inference  # torch is slow, and a node's service has no need of it
    from p2pfl.learning.models import MODELS, build
    from p2pfl.learning.weights import FlatModule

    try:
        given = exported.decode(file.read_bytes())
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise StorageError(f"{file} is not a model in a safetensors file: {error}") from error
    if given.task is None or given.layout is None:
        raise ConfigError(f"{file} does not say what it was trained for; take one of p2pfl node export")
    name = given.layout.model
    if name not in MODELS and name != model:
        raise ConfigError(
            f"{file} is of the model {name}, code of somebody's own; if you trust it, give --model {name}"
        )
    net = FlatModule(build(name, given.task), name)
    if net.layout != given.layout:
        raise ModelError(f"{file} holds other tensors than {name} has here; it is of another version")
    try:
        weights = exported.flatten(given.tensors, given.layout)
    except ValueError as error:
        raise StorageError(f"{file} does not fit: {error}") from error
    return given.task, weights, Inference(net, given.task)

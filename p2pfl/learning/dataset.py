"""A data set in memory: unsigned bytes, labels, and the task that they pose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from p2pfl.errors import DataError
from p2pfl.gossip.messages import Task

Images = npt.NDArray[np.uint8]  # (n, C, H, W)
Labels = npt.NDArray[np.int64]  # (n,) positions in task.classes
Writers = npt.NDArray[np.int64]  # (n,) who wrote each sample

HELD_OUT = 0.2  # where no split is published
SPLIT_SEED = 20  # constant: every node, whatever its other seeds, holds out the same samples


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training data and held-out data of one task; what is held out never trains, at any node.

    train_images, test_images: (n, C, H, W) uint8, not modified; who computes with them scales them to
    [0, 1] and normalises them with the task's mean and std.  train_labels, test_labels: (n,) int64.
    writers: (n,) who wrote each training sample, None where nobody knows.
    Raises DataError if the arrays do not agree with each other and with the task.
    """

    task: Task
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    writers: Writers | None = None

    def __post_init__(self) -> None:
        name, count = self.task.name, len(self.task.classes)
        if count < 2:
            raise DataError(f"{name} has {count} class; learning to tell classes apart needs at least 2")
        for part, images, labels in (
            ("training", self.train_images, self.train_labels),
            ("held-out", self.test_images, self.test_labels),
        ):
            if not len(images):
                raise DataError(f"{name} has no {part} samples")
            if images.dtype != np.uint8 or images.shape[1:] != self.task.input_shape:
                raise DataError(
                    f"{name}: {part} images are {images.dtype} {images.shape[1:]}, "
                    f"not uint8 {self.task.input_shape}"
                )
            if labels.dtype != np.int64 or labels.shape != (len(images),):
                raise DataError(f"{name} has {len(images)} {part} images and {len(labels)} labels")
            if labels.min() < 0 or labels.max() >= count:
                raise DataError(
                    f"{name}: {part} labels run from {labels.min()} to {labels.max()}, "
                    f"but there are {count} class names"
                )
        if self.writers is not None and self.writers.shape != self.train_labels.shape:
            raise DataError(f"{name} names {len(self.writers)} writers for {len(self.train_labels)} samples")


def hold_out(labels: Labels) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(training, held-out) positions, each sorted: of every class 80 % and 20 %, by a constant seed.

    A class of two or more samples has at least one on either side; a single sample trains.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        count = max(1, round(HELD_OUT * len(own))) if len(own) > 1 else 0
        held[own[:count]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)

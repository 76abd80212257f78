"""Attacks on a node's own training data: the node trains honestly on lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from netsim.attacks.attack import Attack
from p2pfl.config import check, option
from p2pfl.errors import ConfigError
from p2pfl.learning.dataset import Dataset, Images, Labels
from p2pfl.learning.learner import Indices

REVERSE = "reverse"


@dataclass(frozen=True, kw_only=True)
class LabelFlip(Attack):
    """Labels are exchanged by a fixed map; by default y becomes C - 1 - y of C classes (9 - y of digits).

    Fang et al. 2020, "Local model poisoning attacks to Byzantine-robust federated learning".
    """

    poisons: ClassVar[bool] = True
    mapping: str = option(
        REVERSE, "reverse: y becomes C - 1 - y; or pairs of class positions, 3:8,8:3; * is all others."
    )

    def __post_init__(self) -> None:
        if self.mapping != REVERSE:
            _pairs(self.mapping)

    def poison(self, dataset: Dataset, own: Indices, rng: np.random.Generator) -> tuple[Images, Labels]:
        table = _table(self.mapping, len(dataset.task.classes))
        return dataset.train_images[own], table[dataset.train_labels[own]]


def _pairs(text: str) -> list[tuple[str, int]]:
    """ "3:8,*:0" -> [("3", 8), ("*", 0)]."""
    found: dict[str, int] = {}
    for part in text.split(","):
        source, colon, target = (piece.strip() for piece in part.partition(":"))
        if not colon or not (source == "*" or source.isdecimal()) or not target.isdecimal():
            raise ConfigError(f"mapping {text!r} is neither reverse nor pairs such as 3:8,8:3 or *:0")
        check(source not in found, f"mapping {text!r} names {source} twice")
        found[source] = int(target)
    return list(found.items())


def _table(text: str, classes: int) -> Labels:
    """(C,) int64: what each class becomes. ConfigError if there is no such class."""
    if text == REVERSE:
        return np.arange(classes, dtype=np.int64)[::-1].copy()
    pairs = dict(_pairs(text))
    for named in [int(source) for source in pairs if source != "*"] + list(pairs.values()):
        check(named < classes, f"mapping {text!r}: there is no class {named}; the last one is {classes - 1}")
    others = pairs.get("*")
    table = np.arange(classes, dtype=np.int64) if others is None else np.full(classes, others, np.int64)
    for source, target in pairs.items():
        if source != "*":
            table[int(source)] = target
    return table


@dataclass(frozen=True, kw_only=True)
class RandomLabels(Attack):
    """Every label is drawn anew, uniformly from all classes, once for the whole run."""

    poisons: ClassVar[bool] = True

    def poison(self, dataset: Dataset, own: Indices, rng: np.random.Generator) -> tuple[Images, Labels]:
        drawn = rng.integers(len(dataset.task.classes), size=len(dataset.train_labels))
        return dataset.train_images[own], drawn[own]


@dataclass(frozen=True, kw_only=True)
class BackDoor(Attack):
    """A share of the samples bears a bright square in the lower right corner, and the target's label.

    Gu et al. 2017, "BadNets: identifying vulnerabilities in the machine learning model supply chain".
    What it gains is measured on held-out pictures of other classes that bear the square (back_door.py).
    """

    poisons: ClassVar[bool] = True
    target: int = option(0, "Class position that pictures with the trigger are to be taken for.")
    size: int = option(3, "Pixels of a side of the square.")
    poisoned: float = option(0.5, "Share of its samples that bear the trigger.")

    def __post_init__(self) -> None:
        check(self.target >= 0, "target is a class position, 0 or more")
        check(self.size >= 1, "size must be at least 1 pixel")
        check(0 < self.poisoned <= 1, "poisoned must be a share above 0, up to 1")

    def poison(self, dataset: Dataset, own: Indices, rng: np.random.Generator) -> tuple[Images, Labels]:
        chosen = (rng.random(len(dataset.train_labels)) < self.poisoned)[own]
        images, labels = dataset.train_images[own].copy(), dataset.train_labels[own].copy()
        images[chosen] = self.stamped(dataset, images[chosen])
        labels[chosen] = self.target
        return images, labels

    def stamped(self, dataset: Dataset, images: Images) -> Images:
        """(n, C, H, W) uint8 with the trigger on each, new. ConfigError if it does not fit the task."""
        task = dataset.task
        classes, shape = len(task.classes), task.input_shape
        check(self.target < classes, f"target {self.target}: the last of {classes} classes is {classes - 1}")
        check(len(shape) == 3, f"back-door needs pictures; {task.name} has samples of shape {shape}")
        check(
            self.size < min(shape[1:]),
            f"size {self.size} leaves nothing of pictures of {shape[1]}x{shape[2]}",
        )
        marked = images.copy()
        marked[..., -self.size :, -self.size :] = 255
        return marked

"""What an attack may change, and what it may know when it does. Pure: all chance comes from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from p2pfl.gossip.messages import Vector
from p2pfl.learning.dataset import Dataset, Images, Labels
from p2pfl.learning.learner import Indices

Knows = Literal["itself", "group", "honest"]


@dataclass(frozen=True)
class Truth:
    """What a node would send if it were honest.

    weights: (P,) float32.  change: (P,) float32, what its last training did to them; zeros before the first.
    age: samples that the model has seen.  samples: that the node holds.  round: completed rounds.
    """

    weights: Vector
    change: Vector
    age: float
    samples: int
    round: int

    @property
    def untrained(self) -> Vector:
        """(P,) float32: the weights without what the last training did."""
        return self.weights - self.change


@dataclass(frozen=True)
class Scene:
    """What a liar sees before it speaks.

    truth: its own.  past: its own after each of its last rounds, the oldest first, this one's included; as
    many as the attack remembers.  known: the newest truth of each node that the attack knows of, in order of
    their numbers.  group: how many nodes make this attack together.  nodes: how many there are in all.
    """

    truth: Truth
    past: Sequence[Truth]
    known: Sequence[Truth]
    group: int
    nodes: int


@dataclass(frozen=True)
class Said:
    """What a liar sends: a model, and what it claims of it."""

    weights: Vector
    age: float
    samples: int


@dataclass(frozen=True, kw_only=True)
class Attack:
    """An honest node, until a subclass says otherwise. Its fields are its options in a scenario.

    poisons: it lies about its data.
    """

    poisons: ClassVar[bool] = False

    @property
    def sees(self) -> Knows:
        """Whose truths it knows; what is more than itself needs one process for all."""
        return "itself"

    @property
    def remembers(self) -> int:
        """Rounds of its own that it keeps."""
        return 0

    @property
    def idles(self) -> bool:
        """Whether it leaves out its training."""
        return False

    def poison(self, dataset: Dataset, own: Indices, rng: np.random.Generator) -> tuple[Images, Labels]:
        """What it trains on instead of the samples `own`: as many, new arrays.

        What is drawn is drawn for the whole training set, so that a sample fares the same at any liar.
        Raises ConfigError if the options do not fit the data.
        """
        return dataset.train_images[own], dataset.train_labels[own].copy()

    def says(self, scene: Scene, rng: np.random.Generator) -> Said:
        """What it sends instead of the truth. New arrays, or those of the scene, unchanged."""
        return Said(scene.truth.weights, scene.truth.age, scene.truth.samples)

    def check(self, nodes: int, group: int) -> None:
        """ConfigError if it makes no sense for a group of so many among all nodes."""

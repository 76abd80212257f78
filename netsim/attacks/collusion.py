"""Attacks of several nodes that know of each other, and act at the same instant.

| attack | knows |
|---|---|
| a-little | what its own group would honestly send, as in its paper ("non-omniscient"); or all honest nodes |
| inner-product | the changes of all honest nodes, as in its paper ("omniscient"); or those of its own group |
| sybil | the models of its own group |

Of each node they know what it last had when it published; a node that has not published yet is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from netsim.attacks.attack import Attack, Knows, Said, Scene
from netsim.attacks.models import moved
from p2pfl.config import check, option
from p2pfl.errors import ConfigError
from p2pfl.gossip.messages import Vector

Known = Literal["group", "honest"]


def mean_of(vectors: Sequence[Vector]) -> Vector:
    """(P,) float32, new."""
    total = np.zeros(vectors[0].size, np.float32)
    for vector in vectors:
        total += vector
    total /= np.float32(len(vectors))
    return total


def deviation_of(vectors: Sequence[Vector], mean: Vector) -> Vector:
    """Of each coordinate, the standard deviation over k vectors (divided by k): (P,) float32, new."""
    total = np.zeros(mean.size, np.float32)
    for vector in vectors:
        total += np.square(vector - mean)
    spread: Vector = np.sqrt(total / np.float32(len(vectors)))
    return spread


def most_z(nodes: int, group: int) -> float:
    """z_max: of n workers m are corrupt; s = floor(n / 2 + 1) - m honest ones have to look further off.

    Phi(z) = (n - m - s) / (n - m); Baruch et al. 2019.
    """
    supporters = math.floor(nodes / 2 + 1) - group
    share = (nodes - group - supporters) / (nodes - group)
    return NormalDist().inv_cdf(share) if 0 < share < 1 else math.inf if share >= 1 else -math.inf


@dataclass(frozen=True, kw_only=True)
class ALittle(Attack):
    """All send mean - z x deviation of the models they know, coordinate by coordinate.

    Baruch, Baruch, Goldberg 2019, "A little is enough: circumventing defenses for distributed learning".
    """

    z: float | None = option(None, "Standard deviations off the mean. [default: the paper's z_max]")
    knows: Known = option("group", "group: the models of its own nodes; honest: those of all honest ones.")

    def __post_init__(self) -> None:
        check(self.z is None or 0 < self.z < math.inf, "z must be above 0")

    @property
    def sees(self) -> Knows:
        return self.knows

    def check(self, nodes: int, group: int) -> None:
        check(
            self.knows == "honest" or group > 1,
            "a-little needs a group of two nodes or more: of one model there is no deviation",
        )
        if self.z is None and not 0 < most_z(nodes, group) < math.inf:
            raise ConfigError(
                f"z: for {group} of {nodes} nodes the paper's formula gives none above 0; give one: z = 1.5"
            )

    def says(self, scene: Scene, rng: np.random.Generator) -> Said:
        truth = scene.truth
        known = [other.weights for other in scene.known] or [truth.weights]
        z = most_z(scene.nodes, scene.group) if self.z is None else self.z
        mean = mean_of(known)
        return Said(moved(mean, deviation_of(known, mean), -z), truth.age, truth.samples)


@dataclass(frozen=True, kw_only=True)
class InnerProduct(Attack):
    """Each sends m - epsilon x the mean of the changes it knows: it points away from what the others learn.

    Xie, Koyejo, Gupta 2019, "Fall of empires: breaking Byzantine-tolerant SGD by inner product manipulation".
    """

    epsilon: float = option(1.0, "How far, in units of that mean: large against means, small against Krum.")
    knows: Known = option("honest", "honest: the changes of all honest nodes; group: of its own nodes.")

    def __post_init__(self) -> None:
        check(0 < self.epsilon < math.inf, "epsilon must be above 0")

    @property
    def sees(self) -> Knows:
        return self.knows

    def says(self, scene: Scene, rng: np.random.Generator) -> Said:
        truth = scene.truth
        known = [other.change for other in scene.known] or [truth.change]
        return Said(moved(truth.untrained, mean_of(known), -self.epsilon), truth.age, truth.samples)


@dataclass(frozen=True, kw_only=True)
class Sybil(Attack):
    """One adversary under many names: all send the group's newest model, and claim absurd ages and samples.

    Douceur 2002, "The Sybil attack". What the model is, another attack of the same nodes may say.
    """

    claims: float = option(1e6, "By what its age and its sample count are multiplied.")

    def __post_init__(self) -> None:
        check(1 <= self.claims <= 1e9, "claims must be 1 to 1e9")

    @property
    def sees(self) -> Knows:
        return "group"

    def says(self, scene: Scene, rng: np.random.Generator) -> Said:
        truth = max(scene.known, key=lambda other: other.round, default=scene.truth)
        return Said(truth.weights, truth.age * self.claims, round(truth.samples * self.claims))

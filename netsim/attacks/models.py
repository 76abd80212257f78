"""Attacks on the model that a node sends, by a node that knows no more than itself.

An honest node sends x = m + d: what it merged, m, and the change d of its last training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from netsim.attacks.attack import Attack, Said, Scene
from p2pfl.config import check, option
from p2pfl.gossip.messages import Vector

Float = np.float32


def moved(weights: Vector, change: Vector, factor: float) -> Vector:
    """weights + factor x change: (P,) float32, new. What overflows is infinite, and refused by receivers."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (weights + Float(factor) * change).astype(Float, copy=False)


def noise(size: int, sigma: float, rng: np.random.Generator) -> Vector:
    """(P,) float32, normal with standard deviation sigma."""
    return rng.standard_normal(size, dtype=Float) * Float(sigma)


@dataclass(frozen=True, kw_only=True)
class SignFlip(Attack):
    """Sends m - factor x d: what it learnt, backwards.

    As in Karimireddy et al. 2021, "Learning from history for Byzantine robust optimization", bit flipping.
    """

    factor: float = option(1.0, "How far back, in units of its own change.")

    def __post_init__(self) -> None:
        check(0 < self.factor < float("inf"), "factor must be above 0")

    def says(self, scene: Scene, rng: np.random.Generator) -> Said:
        truth = scene.truth
        return Said(moved(truth.weights, truth.change, -1 - self.factor), truth.age, truth.samples)


@dataclass(frozen=True, kw_only=True)
class Scaled(Attack):
    """Sends m + factor x d: its change, many times as large, so that an average becomes what it wants.

    Bagdasaryan et al. 2020, "How to backdoor federated learning" (model replacement).
    """

    factor: float = option(10.0, "By what its change is multiplied.")

    def __post_init__(self) -> None:
        check(abs(self.factor) < float("inf"), "factor must be a number")

    def says(self, scene: Scene, rng: np.random.Generator) -> Said:
        truth = scene.truth
        return Said(moved(truth.weights, truth.change, self.factor - 1), truth.age, truth.samples)


@dataclass(frozen=True, kw_only=True)
class Noise(Attack):
    """Sends x + N(0, sigma^2), drawn anew for each model.

    After the Gaussian attack of Blanchard et al. 2017, "Machine learning with adversaries: Byzantine tolerant
    gradient descent".
    """

    sigma: float = option(1.0, "Standard deviation, in units of the weights.")

    def __post_init__(self) -> None:
        check(0 < self.sigma < float("inf"), "sigma must be above 0")

    def says(self, scene: Scene, rng: np.random.Generator) -> Said:
        truth = scene.truth
        return Said(truth.weights + noise(truth.weights.size, self.sigma, rng), truth.age, truth.samples)


@dataclass(frozen=True, kw_only=True)
class NotANumber(Attack):
    """Sends NaN in every weight: receivers have to refuse it, or they would have nothing else ever after."""

    def says(self, scene: Scene, rng: np.random.Generator) -> Said:
        truth = scene.truth
        return Said(np.full(truth.weights.size, np.nan, Float), truth.age, truth.samples)


@dataclass(frozen=True, kw_only=True)
class Stale(Attack):
    """Sends, as if it were new, the model that it had some rounds ago; until then the oldest it has."""

    delay: int = option(10, "Rounds by which it is behind.")

    def __post_init__(self) -> None:
        check(1 <= self.delay <= 10_000, "delay must be 1 to 10000 rounds")

    @property
    def remembers(self) -> int:
        return self.delay + 1

    def says(self, scene: Scene, rng: np.random.Generator) -> Said:
        truth = scene.truth
        old = scene.past[0] if scene.past else truth
        return Said(old.weights, truth.age, truth.samples)


@dataclass(frozen=True, kw_only=True)
class FreeRider(Attack):
    """Never trains; sends what it merged as if it had, with noise if it is to look so.

    Fraboni et al. 2021, "Free-rider attacks on model aggregation in federated learning".
    """

    sigma: float = option(0.0, "Standard deviation of the noise, in units of the weights; 0: none.")

    def __post_init__(self) -> None:
        check(0 <= self.sigma < float("inf"), "sigma must be 0 or more")

    @property
    def idles(self) -> bool:
        return True

    def says(self, scene: Scene, rng: np.random.Generator) -> Said:
        truth = scene.truth
        weights = truth.weights
        if self.sigma:
            weights = weights + noise(weights.size, self.sigma, rng)
        return Said(weights, truth.age + truth.samples, truth.samples)

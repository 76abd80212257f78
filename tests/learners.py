"""A learner without a framework, for tests of whoever computes its jobs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from p2pfl.gossip.messages import Layout, Task, TensorSpec, Vector
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult

TASK = Task("numbers", ("a", "b", "c"), (1,), (0.0,), (1.0,))
STATELESS = np.zeros(0, np.float32)
UNLUCKY = 1313  # the seed of a plan on which the learner fails


def nothing(plan: FitPlan) -> None:
    pass


class NumpyLearner:
    """Every argument of a fit changes its result. before: called where it computes, before each fit."""

    task = TASK

    def __init__(self, size: int = 1000, before: Callable[[FitPlan], None] = nothing) -> None:
        self.layout = Layout("numbers", (TensorSpec("w", (size,)),))
        self._before = before

    def initial_weights(self, seed: int | None = None) -> Vector:
        return np.random.default_rng(seed or 0).normal(size=self.layout.size).astype(np.float32)

    def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan, stop: Callable[[], bool]) -> FitResult:
        self._before(plan)
        if plan.seed == UNLUCKY:
            raise FloatingPointError("thirteen\nis unlucky")
        assert not stop()
        rng = np.random.default_rng(plan.seed)
        order = rng.permutation(plan.indices)
        noise = rng.normal(size=weights.size).astype(np.float32)
        scale = np.float32(plan.learning_rate * (order @ np.arange(1, len(order) + 1)) + plan.batch_size)
        momentum = (
            np.concatenate([optimiser, weights[: plan.steps]]) if plan.momentum else np.zeros(0, np.float32)
        )
        new = weights * np.float32(1 - plan.weight_decay) + noise / scale
        return FitResult(new, momentum, plan.steps, plan.samples, float(np.abs(new).mean()) / 3)

    def evaluate(
        self, weights: Vector, limit: int = 0, stop: Callable[[], bool] = lambda: False
    ) -> Evaluation:
        confusion = np.arange(9, dtype=np.int64).reshape(3, 3) + limit
        return Evaluation(float(weights.sum()) / 7, confusion)


def plan(seed: int = 0, *, indices: int = 17, momentum: float = 0.0) -> FitPlan:
    return FitPlan(np.arange(3, 3 + indices), 5, 4, 0.05, momentum, 0.01, seed)


def same(got: FitResult, expected: FitResult) -> bool:
    return (
        np.array_equal(got.weights, expected.weights)
        and np.array_equal(got.optimiser, expected.optimiser)
        and got.weights.dtype == got.optimiser.dtype == np.float32
        and (got.steps, got.samples, got.loss) == (expected.steps, expected.samples, expected.loss)
    )

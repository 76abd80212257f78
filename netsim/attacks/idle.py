"""A pool as a free rider uses it: its evaluations are computed, its training is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from netsim.jobs import Asked, Job, R
from p2pfl.gossip.messages import Vector
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult


class IdleJobs:
    """idles: whether the fit that is asked for now is left out. It then takes its time all the same."""

    def __init__(self, pool: Asked, idles: Callable[[], bool]) -> None:
        self._pool = pool
        self._idles = idles

    def submit_fit(
        self, weights: Vector, optimiser: Vector, plan: FitPlan, *, label: str = "", due: float = 0.0
    ) -> Job[FitResult]:
        if not self._idles():
            return self._pool.submit_fit(weights, optimiser, plan, label=label, due=due)
        return Job(0, label, None, state="finished", outcome=untrained(weights))

    def submit_evaluate(self, weights: Vector, limit: int = 0, *, label: str = "") -> Job[Evaluation]:
        return self._pool.submit_evaluate(weights, limit, label=label)

    def result(self, job: Job[R]) -> R:
        return self._pool.result(job) if job.number else job.take()

    def discard(self, job: Job[Any]) -> None:
        if job.number:
            self._pool.discard(job)


def untrained(weights: Vector) -> FitResult:
    """What a fit of no steps gives."""
    return FitResult(weights, np.empty(0, np.float32), 0, 0, 0.0)

"""Jobs computed in the calling process: for runs too small, or too many, for workers of their own."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

import numpy as np

from netsim.jobs import Intake, Job, PoolStatistics, R
from p2pfl.gossip.messages import Vector
from p2pfl.learning import work
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult, Learner
from p2pfl.learning.slots import ALIGNMENT, aligned


class InlinePool:
    """Computes a job when its result is asked for; a discarded one costs nothing. No processes, no threads.

    The results are those of a WorkerPool, bit by bit.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._statistics = PoolStatistics(busy_seconds=[0.0])
        self._intake = Intake(learner.layout.size, self._statistics)

    @property
    def statistics(self) -> PoolStatistics:
        return self._statistics

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def submit_fit(
        self, weights: Vector, optimiser: Vector, plan: FitPlan, *, label: str = "", due: float = 0.0
    ) -> Job[FitResult]:
        return self._intake.fit(weights, optimiser, plan, label, due)

    def submit_evaluate(self, weights: Vector, limit: int = 0, *, label: str = "") -> Job[Evaluation]:
        return self._intake.evaluation(weights, limit, label)

    def result(self, job: Job[R]) -> R:
        job.check_wanted()
        start = time.perf_counter()
        try:
            with work.one_thread():
                job.outcome = self._compute(job)
        except Exception as error:  # noqa: BLE001  - whatever a learner raises becomes the job's outcome
            job.outcome = job.failed(work.explain(error))
        self._statistics.jobs += 1
        self._statistics.busy_seconds[0] += time.perf_counter() - start
        return job.take()

    def discard(self, job: Job[Any]) -> None:
        job.forget()

    def _compute(self, job: Job[Any]) -> FitResult | Evaluation:
        assert job.weights is not None
        weights = _aligned(job.weights)
        if job.plan is None or job.optimiser is None:
            return self._learner.evaluate(weights, job.limit)
        fitted = work.fit(self._learner, weights, _aligned(job.optimiser), job.plan)
        self._statistics.images_trained += fitted.samples
        return FitResult(
            work.float32(fitted.weights), work.float32(fitted.optimiser),
            fitted.steps, fitted.samples, fitted.loss,
        )  # fmt: skip


def _aligned(vector: Vector) -> Vector:
    """`vector`, or a copy of it, where a worker's slot would have it: at a multiple of ALIGNMENT."""
    if vector.ctypes.data % ALIGNMENT == 0:
        return vector
    memory = np.empty(aligned(vector.nbytes) + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    copy = memory[start : start + vector.nbytes].view(np.float32)
    copy[:] = vector
    return copy

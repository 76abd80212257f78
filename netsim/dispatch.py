"""What pools with workers of their own have in common: jobs wait, are handed out, and are waited for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from netsim.backlog import Backlog
from netsim.jobs import Intake, Job, PoolStatistics, R
from netsim.patience import Patience
from p2pfl.errors import SimulationError
from p2pfl.gossip.messages import Vector
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult


class Dispatcher(ABC):
    """The submitting side of Jobs.  parameters: P.  limit: real seconds that a job may take."""

    def __init__(self, parameters: int, limit: float) -> None:
        self.statistics = PoolStatistics()
        self._intake = Intake(parameters, self.statistics)
        self._backlog = Backlog()
        self._limit = limit
        # Jobs that workers have, by what names their results; the place that each has there.
        self._out: dict[Any, tuple[Job[Any], int]] = {}
        self._broken: str | None = None  # how a worker died, or that one hangs

    def submit_fit(
        self, weights: Vector, optimiser: Vector, plan: FitPlan, *, label: str = "", due: float = 0.0
    ) -> Job[FitResult]:
        return self._submit(self._intake.fit(weights, optimiser, plan, label, due))

    def submit_evaluate(self, weights: Vector, limit: int = 0, *, label: str = "") -> Job[Evaluation]:
        return self._submit(self._intake.evaluation(weights, limit, label))

    def result(self, job: Job[R]) -> R:
        job.check_wanted()
        if job.state == "waiting":
            self._backlog.prefer(job)
        self._move(0.0)
        patience = Patience(job, self._limit)
        while job.state != "finished":
            if not self._out:
                raise SimulationError("no job is handed out that could be waited for")
            try:
                seconds = patience.left(self._in_work())
            except SimulationError as error:
                self._broken = str(error)
                raise
            patience.waited(progress=self._move(seconds))
        return job.take()

    def discard(self, job: Job[Any]) -> None:
        job.forget()

    def _submit(self, job: Job[R]) -> Job[R]:
        self._backlog.add(job)
        self._move(0.0)
        return job

    def _move(self, seconds: float) -> bool:
        if self._broken is not None:
            raise SimulationError(self._broken)
        return self._advance(seconds)

    @abstractmethod
    def _in_work(self) -> Sequence[tuple[float, str, Job[Any]]]:
        """Since when (time.monotonic(), in seconds) which worker is at which job."""

    @abstractmethod
    def _advance(self, seconds: float) -> bool:
        """Take what has finished and hand out what fits; whether anything had finished.

        seconds: how long to wait for something to finish, or for a worker to die.
        """

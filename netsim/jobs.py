"""The training and evaluation jobs of simulated nodes: what whoever computes them promises."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeVar, cast

from p2pfl.errors import SimulationError
from p2pfl.gossip.messages import Vector
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult
from p2pfl.learning.records import Failure

R = TypeVar("R", FitResult, Evaluation)


@dataclass(eq=False)
class Job(Generic[R]):
    """One fit or evaluation; `str(job)` names it in errors. The fields are for whoever computes it.

    weights, optimiser: kept only until it is handed out.  plan: None for an evaluation.
    due: virtual seconds at which its result is needed; nothing but the order of work depends on it.
    """

    number: int
    label: str
    weights: Vector | None
    optimiser: Vector | None = None
    plan: FitPlan | None = None
    limit: int = 0
    due: float = 0.0
    state: Literal["waiting", "handed out", "finished", "gone"] = "waiting"
    outcome: FitResult | Evaluation | SimulationError | None = None

    def __str__(self) -> str:
        what = "evaluation" if self.plan is None else f"fit of {self.plan.steps} steps"
        return f"job {self.number} ({what}{', ' if self.label else ''}{self.label})"

    def failed(self, failure: Failure) -> SimulationError:
        """The error of a learner that raised; its traceback is a note."""
        error = SimulationError(f"{self} failed: {failure.summary}")
        error.add_note(failure.trace)
        return error

    def check_wanted(self) -> None:
        if self.state == "gone":
            raise SimulationError(f"{self} was discarded, or its result taken already")

    def take(self) -> R:
        """The outcome of a finished job, once. Raises it if it is an error."""
        outcome = self.outcome
        self.forget()
        if isinstance(outcome, SimulationError):
            raise outcome
        return cast(R, outcome)

    def forget(self) -> None:
        self.state, self.weights, self.optimiser, self.outcome = "gone", None, None, None


@dataclass
class PoolStatistics:
    """jobs: finished ones, failed and discarded included.  images_trained: samples that finished fits saw.

    busy_seconds: per worker, real seconds inside the learner.
    first_submit: time.perf_counter() at the first fit submitted, None before.
    """

    jobs: int = 0
    images_trained: int = 0
    busy_seconds: list[float] = field(default_factory=list)
    first_submit: float | None = None


class Asked(Protocol):
    """Somebody who has jobs of one learner computed, and is asked from one thread."""

    def submit_fit(
        self, weights: Vector, optimiser: Vector, plan: FitPlan, *, label: str = "", due: float = 0.0
    ) -> Job[FitResult]:
        """Have a fit computed. The arrays must not change before its result is taken.

        weights: (P,) float32.  optimiser: (S,) float32.  plan.seed: 0 <= seed < 2**64.
        label: whose it is, for errors.  due: virtual seconds; of the waiting fits the earliest starts first.
        """
        ...

    def submit_evaluate(self, weights: Vector, limit: int = 0, *, label: str = "") -> Job[Evaluation]:
        """Have an evaluation computed, before any waiting fit. weights: (P,) float32, must not change."""
        ...

    def result(self, job: Job[R]) -> R:
        """Wait, blocking the thread, until the job is finished; its result is handed out once.

        Raises SimulationError if the learner failed on it (the traceback is its note), or if whoever computes
        it died or hangs.
        """
        ...

    def discard(self, job: Job[Any]) -> None:
        """Forget a job, whatever became of it; without effect on one whose result was taken."""
        ...


class Jobs(Asked, Protocol):
    """Whoever computes them: in this process, in forked ones, or on a cluster.

    Equal jobs have equal results, bit by bit, whoever computes them and when. Use as a context manager: no
    process survives its end.
    """

    @property
    def statistics(self) -> PoolStatistics: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Intake:
    """Checks and numbers what is submitted. parameters: P."""

    def __init__(self, parameters: int, statistics: PoolStatistics) -> None:
        self._parameters = parameters
        self._statistics = statistics
        self._submitted = 0

    def fit(
        self, weights: Vector, optimiser: Vector, plan: FitPlan, label: str, due: float
    ) -> Job[FitResult]:
        if not 0 <= plan.seed < 1 << 64:
            raise ValueError(f"seed {plan.seed} is not an unsigned 64-bit number")
        if self._statistics.first_submit is None:
            self._statistics.first_submit = time.perf_counter()
        return Job(self._number(weights), label, weights, optimiser, plan, due=due)

    def evaluation(self, weights: Vector, limit: int, label: str) -> Job[Evaluation]:
        return Job(self._number(weights), label, weights, limit=limit)

    def _number(self, weights: Vector) -> int:
        if weights.shape != (self._parameters,):
            raise ValueError(f"weights of shape {weights.shape}, not ({self._parameters},)")
        self._submitted += 1
        return self._submitted

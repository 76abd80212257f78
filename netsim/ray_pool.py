"""Jobs on a Ray cluster: the pool for runs that outgrow one machine (docs/design.md, extra `ray`)."""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from netsim.dispatch import Dispatcher
from netsim.jobs import Job
from netsim.patience import LIMIT
from netsim.ray_cluster import RayCluster
from p2pfl.errors import SimulationError
from p2pfl.learning.learner import Evaluation, FitResult, Learner
from p2pfl.learning.records import Failure

# Jobs per worker: one in work, one whose weights travel meanwhile.
HANDED_OUT = 2


@dataclass
class _Worker:
    """name: for errors.  jobs: handed to it, in this order.  since: when it came to the first of them."""

    actor: Any
    name: str
    jobs: deque[Job[Any]] = field(default_factory=deque)
    since: float = 0.0


class RayPool(Dispatcher):
    """One worker for each free CPU of a cluster, see RayCluster. Use as a context manager.

    The learner, with its data, travels to each machine once; weights travel with each job through Ray's
    store. limit: real seconds that a job may take. The results are those of a WorkerPool, bit by bit, on
    processors of the same type with the same build of torch; a warning says where they may differ.

    A worker that dies or hangs ends the run: result raises SimulationError that names its job.
    """

    def __init__(
        self, learner: Learner, address: str | None = None, cores: int | None = None, limit: float = LIMIT
    ) -> None:
        super().__init__(learner.layout.size, limit)
        self._cluster = RayCluster(learner, address, cores or len(os.sched_getaffinity(0)))
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        cluster = self._cluster.__enter__()
        for number, (actor, there) in enumerate(zip(cluster.workers, cluster.surroundings, strict=True)):
            self._workers.append(_Worker(actor, f"worker {number} ({there.host}, process {there.pid})"))
        self.statistics.busy_seconds = [0.0] * len(self._workers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.clear()
        self._backlog.clear()
        self._out.clear()
        self._cluster.__exit__(kind, error, trace)

    def _in_work(self) -> list[tuple[float, str, Job[Any]]]:
        return [(worker.since, worker.name, worker.jobs[0]) for worker in self._workers if worker.jobs]

    def _advance(self, seconds: float) -> bool:
        ready: list[Any] = []
        if self._out:
            wait = self._cluster.ray.wait
            if seconds > 0:
                wait(list(self._out), num_returns=1, timeout=seconds)
            ready, _ = wait(list(self._out), num_returns=len(self._out), timeout=0)
            for reference in ready:
                self._finish(reference)
        while (job := self._backlog.first()) is not None:
            worker = min(range(len(self._workers)), key=lambda index: len(self._workers[index].jobs))
            if len(self._workers[worker].jobs) >= HANDED_OUT:
                break
            self._hand_out(job, worker)
        return bool(ready)

    def _hand_out(self, job: Job[Any], index: int) -> None:
        worker = self._workers[index]
        if job.plan is None:
            reference = worker.actor.evaluate.remote(job.weights, job.limit)
        else:
            reference = worker.actor.fit.remote(job.weights, job.optimiser, job.plan)
        if not worker.jobs:
            worker.since = time.monotonic()
        worker.jobs.append(job)
        self._out[reference] = job, index
        job.state, job.weights, job.optimiser = "handed out", None, None

    def _finish(self, reference: Any) -> None:
        """Copy one result out of Ray's store, which can then use its memory again."""
        job, index = self._out.pop(reference)
        worker = self._workers[index]
        try:
            result, seconds = self._cluster.ray.get(reference)
        except self._cluster.ray.exceptions.RayError as error:
            first = str(error).strip().partition("\n")[0]
            self._broken = f"{worker.name} died during {worker.jobs[0]}: {first}"
            raise SimulationError(self._broken) from error
        worker.jobs.remove(job)
        worker.since = time.monotonic()
        self.statistics.jobs += 1
        self.statistics.busy_seconds[index] += seconds
        if isinstance(result, FitResult):
            self.statistics.images_trained += result.samples
        if job.state == "gone":
            return
        job.state = "finished"
        if isinstance(result, Failure):
            job.outcome = job.failed(result)
        elif isinstance(result, Evaluation):
            job.outcome = Evaluation(result.loss, result.confusion.copy())
        else:
            job.outcome = FitResult(
                result.weights.copy(), result.optimiser.copy(), result.steps, result.samples, result.loss
            )

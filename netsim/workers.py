"""A pool of forked processes that train and evaluate for any number of simulated nodes.

The parent keeps the backlog and hands out a few jobs per worker through one pipe from which all workers help
themselves, so that none idles while the parent is busy simulating. Vectors travel in slots of anonymous
shared memory, one per handed-out job; pipes carry fixed-size records only (p2pfl/learning/records.py).

Why nothing can deadlock: the parent never blocks on the job pipe (a job that does not fit stays in the
backlog) and blocks on results only while a job is handed out; a worker blocks on its result pipe only until
the parent reads.
"""

from __future__ import annotations

import math
import os
import select
import signal
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from netsim.dispatch import Dispatcher
from netsim.jobs import Job
from netsim.patience import LIMIT
from p2pfl.errors import SimulationError
from p2pfl.learning import work
from p2pfl.learning.forked import Doing, fork, reap, serve
from p2pfl.learning.learner import Learner
from p2pfl.learning.records import (
    ERROR_BYTES,
    FIT,
    JOB,
    RESULT,
    Failure,
    ResultRecord,
    ask_evaluation,
    ask_fit,
    read_result,
)
from p2pfl.learning.slots import Slot, aligned

# Jobs per worker: one in work, two that bridge the time in which the parent is busy simulating.
HANDED_OUT = 3
_LONGEST_POLL = 86_400.0  # seconds: poll takes no more than 2**31 ms


@dataclass
class _Worker:
    pid: int
    results: int  # the fd that its results come from; end of file when it dies
    alive: bool = True


class WorkerPool(Dispatcher):
    """`count` processes that run jobs of one learner. Use as a context manager; nothing survives its end.

    Enter before trio starts, on a thread that outlives the pool (the kernel kills workers when the thread
    that forked them ends), and before starting any other thread (PeakMemory). learner: its data are shared
    with the workers by fork and must not change afterwards. limit: real seconds that a job may take.

    A worker that dies or hangs ends the run: submit and result raise SimulationError that names its job.
    """

    def __init__(self, learner: Learner, count: int, limit: float = LIMIT) -> None:
        if count < 1:
            raise ValueError(f"a pool needs at least one worker, not {count}")
        super().__init__(learner.layout.size, limit)
        self.statistics.busy_seconds = [0.0] * count
        self._learner = learner
        self._count = count
        self._parameters = learner.layout.size
        self._workers: list[_Worker] = []
        self._by_fd: dict[int, int] = {}
        self._slots: list[Slot] = []
        self._free: list[int] = []
        self._jobs_fd = -1

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(worker.pid for worker in self._workers)

    def __enter__(self) -> Self:
        size = max(aligned(4 * self._parameters), ERROR_BYTES)
        self._slots = [Slot(size) for _ in range(HANDED_OUT * self._count)]
        self._free = list(range(len(self._slots)))  # a stack: few slots are ever touched if few are needed
        self._doing = Doing(self._count)
        self._poll = select.poll()
        jobs, self._jobs_fd = os.pipe()
        try:
            for index in range(self._count):
                self._fork(index, jobs)
        except BaseException:
            self._stop()
            raise
        finally:
            os.close(jobs)
        os.set_blocking(self._jobs_fd, False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _in_work(self) -> list[tuple[float, str, Job[Any]]]:
        found = []
        for index in range(self._count):
            number = self._doing.number(index)
            if number in self._out:
                found.append((self._doing.since(index), f"worker {index}", self._out[number][0]))
        return found

    def _advance(self, seconds: float) -> bool:
        progress = False
        while ready := self._poll.poll(math.ceil(1000 * min(seconds, _LONGEST_POLL))):
            progress, seconds = True, 0.0
            for fd, _ in ready:
                # Whole records: each was written at once, and no read asks for a part of one.
                records = os.read(fd, 16 * RESULT.size)
                if not records:
                    raise self._death(self._by_fd[fd])
                for start in range(0, len(records), RESULT.size):
                    self._finish(self._by_fd[fd], records[start : start + RESULT.size])
        while self._free and (job := self._backlog.first()) is not None:
            if not self._hand_out(job):
                break
        return progress

    def _hand_out(self, job: Job[Any]) -> bool:
        """Copy the job into a slot and write its record; False if the pipe does not take it now."""
        assert job.weights is not None
        index = self._free[-1]
        slot = self._slots[index]
        if job.plan is not None and job.optimiser is not None:
            record = ask_fit(slot, index, job.number, job.weights, job.optimiser, job.plan)
        else:
            record = ask_evaluation(slot, index, job.number, job.weights, job.limit)
        try:
            os.write(self._jobs_fd, JOB.pack(*record))
        except (BlockingIOError, BrokenPipeError):
            # Full: the next result makes room.  Broken: no worker is left, the next poll says so.
            return False
        self._free.pop()
        self._out[job.number] = job, index
        job.state, job.weights, job.optimiser = "handed out", None, None
        return True

    def _finish(self, worker: int, record: bytes) -> None:
        """Copy one result out of its slot and free the slot."""
        result = ResultRecord(*RESULT.unpack(record))
        job, index = self._out.pop(result.number)
        self._free.append(index)
        self.statistics.jobs += 1
        self.statistics.busy_seconds[worker] += result.seconds
        if result.kind == FIT:
            self.statistics.images_trained += result.samples
        if job.state == "gone":
            return
        outcome = read_result(self._slots[index], result, self._parameters)
        job.outcome = job.failed(outcome) if isinstance(outcome, Failure) else outcome
        job.state = "finished"

    def _death(self, index: int) -> SimulationError:
        """Reap a worker whose pipe ended; says how it died and on what."""
        worker = self._workers[index]
        job, _ = self._out.get(self._doing.number(index), (None, -1))
        self._broken = f"worker {index} {reap(worker.pid, f'during {job}' if job else 'between jobs')}"
        worker.alive = False
        self._poll.unregister(worker.results)
        return SimulationError(self._broken)

    def _fork(self, index: int, jobs: int) -> None:
        results, results_out = os.pipe()

        def work_on() -> None:
            os.close(self._jobs_fd)  # or the end of the parent would never be the end of the pipe
            work.use_one_thread()
            serve(self._learner, self._slots, jobs, results_out, self._doing, index)

        pid = fork(work_on)
        os.close(results_out)  # before the next fork: only this worker holds it, so its death ends the pipe
        self._workers.append(_Worker(pid, results))
        self._by_fd[results] = index
        self._poll.register(results, select.POLLIN)

    def _stop(self) -> None:
        """Kill and reap all workers: a fit has no effect but its result, which nobody wants any more."""
        for worker in self._workers:
            if worker.alive:
                os.kill(worker.pid, signal.SIGKILL)
        for worker in self._workers:
            if worker.alive:
                os.waitpid(worker.pid, 0)
                worker.alive = False
            os.close(worker.results)
        for slot in self._slots:
            os.close(slot.fd)
        os.close(self._jobs_fd)
        self._workers, self._slots, self._free = [], [], []
        self._backlog.clear()
        self._out.clear()

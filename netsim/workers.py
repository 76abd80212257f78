"""A pool of forked processes that train and evaluate for any number of simulated nodes.

The parent keeps the backlog and hands out a few jobs per worker through one pipe from which all workers help
themselves, so that none idles while the parent is busy simulating. Vectors travel in slots of anonymous
shared memory, one per handed-out job; pipes carry fixed-size records only. A pipe's records are shorter than
PIPE_BUF and all of one size, so that each read and write of one is atomic, also among several workers.

Why nothing can deadlock: the parent never blocks on the job pipe (a job that does not fit stays in the
backlog) and blocks on results only while a job is handed out; a worker blocks on its result pipe only until
the parent reads.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import select
import signal
import struct
import sys
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, cast

import numpy as np
import numpy.typing as npt

from netsim.slots import ALIGNMENT, Slot, aligned, offsets
from p2pfl.errors import SimulationError
from p2pfl.gossip.messages import Vector
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult, Learner

# Jobs per worker: one in work, two that bridge the time in which the parent is busy simulating.
HANDED_OUT = 3
ERROR_BYTES = 16_384  # of a failed job's message and traceback
PR_SET_PDEATHSIG = 1  # linux/prctl.h

_FIT, _EVALUATION, _FAILURE = range(3)
# number, kind, slot, bytes of the slot, elements of weights, optimiser, indices, steps or limit, batch size,
# seed; learning rate, momentum, weight decay
_JOB = struct.Struct("=QBIQQQQQQQddd")
# number, kind, bytes of the slot, optimiser, steps or classes, samples, bytes of the error; loss, seconds
_RESULT = struct.Struct("=QBQQQQQdd")

R = TypeVar("R", FitResult, Evaluation)


@dataclass(eq=False)
class Job(Generic[R]):
    """One fit or evaluation in the pool; `str(job)` names it in errors. The fields are the pool's."""

    number: int
    label: str
    weights: Vector | None
    optimiser: Vector | None = None
    plan: FitPlan | None = None  # None: an evaluation
    limit: int = 0
    state: Literal["waiting", "handed out", "finished", "gone"] = "waiting"
    slot: int = -1
    outcome: FitResult | Evaluation | SimulationError | None = None

    def __str__(self) -> str:
        what = "evaluation" if self.plan is None else f"fit of {self.plan.steps} steps"
        return f"job {self.number} ({what}{', ' if self.label else ''}{self.label})"


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


@dataclass
class _Worker:
    pid: int
    results: int  # the fd that its results come from; end of file when it dies
    alive: bool = True


class WorkerPool:
    """`count` processes that run jobs of one learner. Use as a context manager; nothing survives its end.

    Enter before trio starts, on a thread that outlives the pool (the kernel kills workers when the thread
    that forked them ends), and before starting any other thread (PeakMemory). learner: its data are shared
    with the workers by fork and must not change afterwards.

    A worker that dies ends the run: submit and result raise SimulationError that names the job it worked on.
    """

    def __init__(self, learner: Learner, count: int) -> None:
        if count < 1:
            raise ValueError(f"a pool needs at least one worker, not {count}")
        self._learner = learner
        self._count = count
        self._parameters = learner.layout.size
        self._workers: list[_Worker] = []
        self._by_fd: dict[int, int] = {}
        self._slots: list[Slot] = []
        self._free: list[int] = []
        self._evaluations: deque[Job[Any]] = deque()
        self._fits: deque[Job[Any]] = deque()
        self._out: dict[int, Job[Any]] = {}
        self._submitted = 0
        self._broken: str | None = None  # how a worker died
        self._jobs_fd = -1
        self.statistics = PoolStatistics(busy_seconds=[0.0] * count)

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(worker.pid for worker in self._workers)

    def __enter__(self) -> Self:
        size = max(aligned(4 * self._parameters), ERROR_BYTES)
        self._slots = [Slot(size) for _ in range(HANDED_OUT * self._count)]
        self._free = list(range(len(self._slots)))  # a stack: few slots are ever touched if few are needed
        # What each worker works on, a job's number or 0, one cache line each, to name a dead worker's job.
        self._current = np.frombuffer(mmap.mmap(-1, ALIGNMENT * self._count), np.uint64)[:: ALIGNMENT // 8]
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

    def submit_fit(
        self, weights: Vector, optimiser: Vector, plan: FitPlan, *, label: str = ""
    ) -> Job[FitResult]:
        """Start a fit as soon as a worker is free. The arrays must not change before its result is taken.

        weights: (P,) float32.  optimiser: (S,) float32.  plan.seed: 0 <= seed < 2**64.
        label: whose it is, for errors.
        """
        if not 0 <= plan.seed < 1 << 64:
            raise ValueError(f"seed {plan.seed} is not an unsigned 64-bit number")
        if self.statistics.first_submit is None:
            self.statistics.first_submit = time.perf_counter()
        return self._submit(Job(self._number(), label, self._checked(weights), optimiser, plan), self._fits)

    def submit_evaluate(self, weights: Vector, limit: int = 0, *, label: str = "") -> Job[Evaluation]:
        """Start an evaluation before any waiting fit. weights: (P,) float32, must not change meanwhile."""
        return self._submit(
            Job(self._number(), label, self._checked(weights), limit=limit), self._evaluations
        )

    def result(self, job: Job[R]) -> R:
        """Wait, blocking the thread, until the job is finished; its result is handed out once.

        Raises SimulationError if the learner failed on it (the traceback is its note), or if a worker died.
        """
        if job.state == "gone":
            raise SimulationError(f"{job} was discarded, or its result taken already")
        if job.state == "waiting":  # somebody waits for it now: it goes first
            self._withdraw(job)
            self._evaluations.appendleft(job)
        while True:
            self._advance(wait=False)
            if job.state == "finished":
                break
            self._advance(wait=True)
        job.state = "gone"
        outcome, job.outcome = job.outcome, None
        if isinstance(outcome, SimulationError):
            raise outcome
        return cast(R, outcome)

    def discard(self, job: Job[Any]) -> None:
        """Forget a job, whatever became of it; without effect on one whose result was taken."""
        if job.state == "waiting":
            self._withdraw(job)
        job.state, job.weights, job.optimiser, job.outcome = "gone", None, None, None

    def _number(self) -> int:
        self._submitted += 1
        return self._submitted

    def _checked(self, weights: Vector) -> Vector:
        if weights.shape != (self._parameters,):
            raise ValueError(f"weights of shape {weights.shape}, not ({self._parameters},)")
        return weights

    def _submit(self, job: Job[R], backlog: deque[Job[Any]]) -> Job[R]:
        backlog.append(job)
        self._advance(wait=False)
        return job

    def _withdraw(self, job: Job[Any]) -> None:
        (self._evaluations if job in self._evaluations else self._fits).remove(job)

    def _advance(self, *, wait: bool) -> None:
        """Take what has finished and hand out what fits. wait: until something finishes or a worker dies."""
        if self._broken is not None:
            raise SimulationError(self._broken)
        if wait and not self._out:
            raise SimulationError("no job is handed out that could be waited for")
        while ready := self._poll.poll(None if wait else 0):
            wait = False
            for fd, _ in ready:
                # Whole records: each was written at once, and no read asks for a part of one.
                records = os.read(fd, 16 * _RESULT.size)
                if not records:
                    raise self._death(self._by_fd[fd])
                for start in range(0, len(records), _RESULT.size):
                    self._finish(self._by_fd[fd], records[start : start + _RESULT.size])
        while self._free and (self._evaluations or self._fits):
            backlog = self._evaluations or self._fits
            if not self._hand_out(backlog[0]):
                break
            backlog.popleft()

    def _hand_out(self, job: Job[Any]) -> bool:
        """Copy the job into a slot and write its record; False if the pipe does not take it now."""
        assert job.weights is not None
        index = self._free[-1]
        slot = self._slots[index]
        plan = job.plan
        counts = (job.weights.size, 0, 0)
        numbers: tuple[float, ...] = (job.limit, 0, 0, 0.0, 0.0, 0.0)
        if plan is not None and job.optimiser is not None:
            counts = (job.weights.size, job.optimiser.size, plan.indices.size)
            numbers = (
                plan.steps, plan.batch_size, plan.seed, plan.learning_rate, plan.momentum, plan.weight_decay
            )  # fmt: skip
        first, second, size = offsets(*counts)
        slot.grow(size)
        slot.vector(counts[0])[:] = job.weights
        if plan is not None and job.optimiser is not None:
            slot.vector(counts[1], first)[:] = job.optimiser
            slot.integers(counts[2], second)[:] = plan.indices
        kind = _EVALUATION if plan is None else _FIT
        try:
            os.write(self._jobs_fd, _JOB.pack(job.number, kind, index, slot.size, *counts, *numbers))
        except (BlockingIOError, BrokenPipeError):
            return (
                False  # full: the next result makes room.  Broken: no worker is left, the next poll says so.
            )
        self._free.pop()
        self._out[job.number] = job
        job.state, job.slot, job.weights, job.optimiser = "handed out", index, None, None
        return True

    def _finish(self, worker: int, record: bytes) -> None:
        """Copy one result out of its slot and free the slot."""
        number, kind, size, optimiser, steps, samples, text, loss, seconds = _RESULT.unpack(record)
        job = self._out.pop(number)
        slot = self._slots[job.slot]
        slot.grow(size)
        self._free.append(job.slot)
        self.statistics.jobs += 1
        self.statistics.busy_seconds[worker] += seconds
        if kind == _FIT:
            self.statistics.images_trained += samples
        if job.state == "gone":
            return
        job.state = "finished"
        if kind == _FIT:
            weights = slot.vector(self._parameters).copy()
            first = offsets(self._parameters, optimiser, 0)[0]
            job.outcome = FitResult(weights, slot.vector(optimiser, first).copy(), steps, samples, loss)
        elif kind == _EVALUATION:
            confusion = slot.integers(steps * steps).reshape(steps, steps).copy()  # steps: classes here
            job.outcome = Evaluation(loss, confusion)
        else:
            summary, _, trace = slot.text(text).decode(errors="replace").partition("\n")
            job.outcome = SimulationError(f"{job} failed: {summary}")
            job.outcome.add_note(trace)

    def _death(self, index: int) -> SimulationError:
        """Reap a worker whose pipe ended; says how it died and on what."""
        worker = self._workers[index]
        _, status = os.waitpid(worker.pid, 0)
        worker.alive = False
        self._poll.unregister(worker.results)
        code = os.waitstatus_to_exitcode(status)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        job = self._out.get(int(self._current[index]))
        hint = "; was memory short?" if code == -signal.SIGKILL else ""
        self._broken = f"worker {index} {how} {f'during {job}' if job else 'between jobs'}{hint}"
        return SimulationError(self._broken)

    def _fork(self, index: int, jobs: int) -> None:
        results, results_out = os.pipe()
        parent = os.getpid()
        sys.stdout.flush()  # what is buffered would be in the child's buffers too
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Python 3.12+ warns if any thread exists; numpy's idle arithmetic threads do, and hold no lock.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            status = 70  # EX_SOFTWARE
            try:
                os.close(self._jobs_fd)  # or the end of the parent would never be the end of the pipe
                _prepare(parent)
                _work(self._learner, self._slots, jobs, results_out, self._current[index : index + 1])
                status = 0
            except BrokenPipeError:  # the parent is gone
                status = 0
            except BaseException:  # noqa: BLE001  - the child must not return into the parent's program
                traceback.print_exc()
            finally:
                os._exit(status)
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
        self._evaluations.clear()
        self._fits.clear()
        self._out.clear()


def _prepare(parent: int) -> None:
    """Make a forked child a quiet worker: dies with its parent, one arithmetic thread, no garbage passes."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C goes to the whole group; the parent ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    prctl: Callable[..., int] | None = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before prctl could tell
        os._exit(0)
    gc.freeze()  # a garbage pass would write to, and so copy, every page shared with the parent
    torch = sys.modules.get("torch")
    if torch is not None:  # one worker per core: more threads would only fight for them
        torch.set_num_threads(1)


def _work(
    learner: Learner, slots: list[Slot], jobs: int, results: int, current: npt.NDArray[np.uint64]
) -> None:
    """The worker's loop, until the parent closes the job pipe."""
    while record := os.read(jobs, _JOB.size):
        number, kind, index, size, *numbers = _JOB.unpack(record)
        current[0] = number
        slot = slots[index]
        slot.grow(size)
        start = time.perf_counter()
        try:
            answer = (_fit if kind == _FIT else _evaluate)(learner, slot, numbers)
        except Exception as error:  # noqa: BLE001  - whatever a learner raises is the parent's to report
            summary = " ".join(f"{type(error).__name__}: {error}".split())
            text = f"{summary[:1000]}\n{traceback.format_exc()[-3000:]}".encode()[:ERROR_BYTES]
            slot.write_text(text)
            kind, answer = _FAILURE, (0, 0, 0, len(text), 0.0)
        current[0] = 0
        os.write(results, _RESULT.pack(number, kind, slot.size, *answer, time.perf_counter() - start))


_Answer = tuple[int, int, int, int, float]  # optimiser, steps or classes, samples, bytes of the error, loss


def _fit(learner: Learner, slot: Slot, numbers: list[Any]) -> _Answer:
    weights, optimiser, indices, steps, batch_size, seed, rate, momentum, decay = numbers
    first, second, _ = offsets(weights, optimiser, indices)
    plan = FitPlan(slot.integers(indices, second), steps, batch_size, rate, momentum, decay, seed)
    fitted = learner.fit(slot.vector(weights), slot.vector(optimiser, first), plan, lambda: False)
    if fitted.weights.shape != (weights,):
        raise ValueError(f"fit returned weights of shape {fitted.weights.shape}, not ({weights},)")
    first, _, size = offsets(weights, fitted.optimiser.size, 0)
    slot.grow(size)
    slot.vector(weights)[:] = fitted.weights
    slot.vector(fitted.optimiser.size, first)[:] = fitted.optimiser
    return fitted.optimiser.size, fitted.steps, fitted.samples, 0, fitted.loss


def _evaluate(learner: Learner, slot: Slot, numbers: list[Any]) -> _Answer:
    weights, _, _, limit, *_ = numbers
    evaluation = learner.evaluate(slot.vector(weights), limit)
    classes = len(evaluation.confusion)
    slot.grow(8 * classes * classes)
    slot.integers(classes * classes)[:] = evaluation.confusion.reshape(-1)
    return 0, classes, evaluation.samples, 0, evaluation.loss

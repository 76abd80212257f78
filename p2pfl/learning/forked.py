"""A forked worker: it takes jobs from a pipe and vectors from slots, until its parent is gone."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np

from p2pfl.learning import work
from p2pfl.learning.learner import Learner
from p2pfl.learning.records import (
    FIT,
    JOB,
    RESULT,
    JobRecord,
    ResultRecord,
    answer_evaluation,
    answer_failure,
    answer_fit,
    read_plan,
)
from p2pfl.learning.slots import ALIGNMENT, Slot

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SOFTWARE = 70  # sysexits.h: an error that the child could not report


class Doing:
    """What each worker works on, since when, and what nobody wants any more, in memory shared with them.

    So the parent can name the job of a worker that died or hangs, and stop one. A cache line for each.
    fd: of that memory, as slots.memory() makes it; -1: such as only forked processes share.
    """

    def __init__(self, count: int, fd: int = -1) -> None:
        flat = np.frombuffer(mmap.mmap(fd, self.size(count)), np.int64)
        self._entries = flat.reshape(count, ALIGNMENT // 8)

    @staticmethod
    def size(count: int) -> int:
        """Bytes."""
        return ALIGNMENT * count

    def begin(self, worker: int, number: int) -> None:
        self._entries[worker, 1] = time.monotonic_ns()  # one clock for all processes of a machine
        self._entries[worker, 0] = number

    def end(self, worker: int) -> None:
        self._entries[worker, 0] = 0

    def number(self, worker: int) -> int:
        """Of the job that the worker is at, 0 for none."""
        return int(self._entries[worker, 0])

    def since(self, worker: int) -> float:
        """By time.monotonic()."""
        return float(self._entries[worker, 1]) / 1e9

    def stop(self, worker: int, number: int) -> None:
        """Have the worker stop this job, at the end of the batch under way."""
        self._entries[worker, 2] = number

    def is_stopped(self, worker: int, number: int) -> bool:
        return int(self._entries[worker, 2]) == number


def fork(child: Callable[[], None]) -> int:
    """Run child() in a forked process, quietly: dies with its parent, no garbage passes; returns its pid.

    On a thread that outlives the child (the kernel kills it when the thread that forked it ends), before trio
    or any other thread is started. child() need not return; that its parent has gone is no error.
    """
    parent = os.getpid()
    sys.stdout.flush()  # what is buffered would be in the child's buffers too
    sys.stderr.flush()
    with warnings.catch_warnings():
        # Python 3.12+ warns if any thread exists; numpy's idle arithmetic threads do, and hold no lock.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = fork_keeping_interrupts()
    if pid != 0:
        return pid
    status = _SOFTWARE
    try:
        _prepare(parent)
        child()
        status = 0
    except BrokenPipeError:  # the parent is gone
        status = 0
    except BaseException:  # noqa: BLE001  - the child must not return into the parent's program
        traceback.print_exc()
    finally:
        os._exit(status)


def fork_keeping_interrupts() -> int:
    """os.fork() that loses no Ctrl-C: Python drops what is raised in functions that it calls around a fork.

    Modules such as logging register some, and a KeyboardInterrupt in one of them would be ignored.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        return os.fork()
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        pid = os.fork()
    finally:
        signal.signal(signal.SIGINT, handler)
    if came and pid != 0:
        signal.raise_signal(signal.SIGINT)
    return pid


def _prepare(parent: int) -> None:
    # A terminal's Ctrl-C and a service manager's signals go to all processes: they are for the parent, which
    # ends its workers.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    die_with_parent()
    if os.getppid() != parent:  # it died before the kernel knew
        os._exit(0)
    gc.freeze()  # a garbage pass would write to, and so copy, every page shared with the parent


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends (Linux)."""
    prctl: Callable[..., int] | None = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def reap(pid: int, when: str) -> str:
    """Wait for a child that is at its end; says how that came: "was killed by SIGKILL <when>"."""
    return manner_of_death(os.waitpid(pid, 0)[1], when)


def manner_of_death(status: int, when: str) -> str:
    """status: as os.waitpid gives it."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with status {code} {when}"
    hint = "; was memory short?" if code == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-code).name} {when}{hint}"


def serve(learner: Learner, slots: list[Slot], jobs: int, results: int, doing: Doing, worker: int) -> None:
    """The worker's loop, until the parent closes the job pipe. jobs, results: file descriptors."""
    while record := os.read(jobs, JOB.size):
        job = JobRecord(*JOB.unpack(record))
        doing.begin(worker, job.number)
        slot = slots[job.slot]
        slot.grow(job.size)
        result = _done(learner, slot, job, partial(doing.is_stopped, worker, job.number))
        doing.end(worker)
        os.write(results, RESULT.pack(*result))


def _done(learner: Learner, slot: Slot, job: JobRecord, stop: Callable[[], bool]) -> ResultRecord:
    start = time.perf_counter()
    try:
        if job.kind == FIT:
            fitted = work.fit(learner, *read_plan(slot, job), stop)
            return answer_fit(slot, job.number, fitted, time.perf_counter() - start)
        evaluation = learner.evaluate(slot.vector(job.weights), job.steps, stop)
        return answer_evaluation(slot, job.number, evaluation, time.perf_counter() - start)
    except Exception as error:  # noqa: BLE001  - whatever a learner raises is the parent's to report
        return answer_failure(slot, job.number, work.explain(error), time.perf_counter() - start)

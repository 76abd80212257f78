"""What a forked worker does: it takes jobs from a pipe and vectors from slots, until its parent is gone.

A pipe's records are shorter than PIPE_BUF and all of one size, so that each read and write of one is atomic,
also among several workers.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import signal
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from netsim import work
from netsim.slots import ALIGNMENT, Slot, offsets
from p2pfl.learning.learner import FitPlan, Learner

ERROR_BYTES = 16_384  # of a failed job's message and traceback
FIT, EVALUATION, FAILURE = range(3)
# number, kind, slot, bytes of the slot, elements of weights, optimiser, indices, steps or limit, batch size,
# seed; learning rate, momentum, weight decay
JOB = struct.Struct("=QBIQQQQQQQddd")
# number, kind, bytes of the slot, optimiser, steps or classes, samples, bytes of the error; loss, seconds
RESULT = struct.Struct("=QBQQQQQdd")

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_Answer = tuple[int, int, int, int, float]  # optimiser, steps or classes, samples, bytes of the error, loss


class Doing:
    """What each worker works on and since when, in memory that the parent shares with them.

    So the parent can name the job of a worker that died or hangs. A cache line for each.
    """

    def __init__(self, count: int) -> None:
        flat = np.frombuffer(mmap.mmap(-1, ALIGNMENT * count), np.int64)
        self._entries = flat.reshape(count, ALIGNMENT // 8)

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


def prepare(parent: int) -> None:
    """Make a forked child a quiet worker: dies with its parent, one arithmetic thread, no garbage passes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    die_with_parent()
    if os.getppid() != parent:  # it died before the kernel knew
        os._exit(0)
    gc.freeze()  # a garbage pass would write to, and so copy, every page shared with the parent
    work.use_one_thread()


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends (Linux)."""
    prctl: Callable[..., int] | None = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def serve(learner: Learner, slots: list[Slot], jobs: int, results: int, doing: Doing, worker: int) -> None:
    """The worker's loop, until the parent closes the job pipe. jobs, results: file descriptors."""
    while record := os.read(jobs, JOB.size):
        number, kind, index, size, *numbers = JOB.unpack(record)
        doing.begin(worker, number)
        slot = slots[index]
        slot.grow(size)
        start = time.perf_counter()
        try:
            answer = (_fit if kind == FIT else _evaluate)(learner, slot, numbers)
        except Exception as error:  # noqa: BLE001  - whatever a learner raises is the parent's to report
            text = "\n".join(work.explain(error)).encode()[:ERROR_BYTES]
            slot.write_text(text)
            kind, answer = FAILURE, (0, 0, 0, len(text), 0.0)
        doing.end(worker)
        os.write(results, RESULT.pack(number, kind, slot.size, *answer, time.perf_counter() - start))


def _fit(learner: Learner, slot: Slot, numbers: list[Any]) -> _Answer:
    weights, optimiser, indices, steps, batch_size, seed, rate, momentum, decay = numbers
    first, second, _ = offsets(weights, optimiser, indices)
    plan = FitPlan(slot.integers(indices, second), steps, batch_size, rate, momentum, decay, seed)
    fitted = work.fit(learner, slot.vector(weights), slot.vector(optimiser, first), plan)
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

"""The compute seam of a real node: its learner in a process of its own, or in a thread of this one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import trio

from p2pfl.errors import LearningError
from p2pfl.gossip.messages import Vector
from p2pfl.learning.forked import Doing, fork, reap, serve
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult, Learner
from p2pfl.learning.records import (
    ERROR_BYTES,
    JOB,
    RESULT,
    Failure,
    JobRecord,
    ResultRecord,
    ask_evaluation,
    ask_fit,
    read_result,
)
from p2pfl.learning.slots import Slot, aligned, memory
from p2pfl.learning.spawner import Spawner

R = TypeVar("R")

_ONLY = 0  # the number of the one worker, and of its slot


class ForkedCompute:
    """The learner in a forked process that shares its data with us; one job at a time.

    In one process, training would ask for the interpreter's lock after each operation of the framework, and
    wait for whatever is being served; two do not disturb each other while there are cores for both.

    Use as a context manager, as fork() wants it. A cancelled job ends after the batch under way, and nobody
    waits for it. Raises LearningError if the learner raises, or if its process dies.

    spawner: (who forks the process at any time, the learner's number there); None: this one does.
    """

    def __init__(self, learner: Learner, spawner: tuple[Spawner, int] | None = None) -> None:
        self._learner = learner
        self._spawner = spawner
        self._parameters = learner.layout.size
        self._asked = self._answered = 0  # numbers of jobs
        self._pid = 0  # 0: reaped

    def __enter__(self) -> Self:
        flags = memory(Doing.size(1))
        self._doing = Doing(1, flags)
        self._slot = Slot(max(aligned(4 * self._parameters), ERROR_BYTES))
        jobs, self._jobs = os.pipe()
        self._results, results = os.pipe()
        try:
            if self._spawner is None:
                self._pid = fork(partial(self._work, jobs, results))
            else:
                spawner, number = self._spawner
                self._pid = spawner.fork(number, self._slot, flags, jobs, results)
        except BaseException:
            self._close()
            raise
        finally:
            for descriptor in (jobs, results, flags):
                os.close(descriptor)
        return self

    def _work(self, jobs: int, results: int) -> None:
        os.close(self._jobs)  # or the end of the parent would never be the end of the pipe
        os.close(self._results)
        serve(self._learner, [self._slot], jobs, results, self._doing, _ONLY)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pid:
            # It is killed, as a job has no effect but its result.
            if self._spawner is None:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
            else:
                self._spawner[0].end(self._pid)
            self._pid = 0
        self._close()

    def _close(self) -> None:
        for descriptor in (self._jobs, self._results, self._slot.fd):
            os.close(descriptor)
        del self._slot, self._doing  # their mappings keep the memory

    async def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan) -> FitResult:
        result = await self._result(
            lambda number: ask_fit(self._slot, _ONLY, number, weights, optimiser, plan), "training"
        )
        assert isinstance(result, FitResult)
        return result

    async def evaluate(self, weights: Vector, limit: int) -> Evaluation:
        result = await self._result(
            lambda number: ask_evaluation(self._slot, _ONLY, number, weights, limit), "an evaluation"
        )
        assert isinstance(result, Evaluation)
        return result

    async def _result(self, ask: Callable[[int], JobRecord], what: str) -> FitResult | Evaluation:
        while self._answered < self._asked:  # a cancelled one: the slot is its own until then
            await self._answer(what)
        number = self._asked + 1
        try:
            os.write(self._jobs, JOB.pack(*ask(number)))
        except BrokenPipeError:
            raise self._death(what) from None
        self._asked = number
        try:
            record = await self._answer(what)
        except trio.Cancelled:
            self._doing.stop(_ONLY, number)
            raise
        result = read_result(self._slot, record, self._parameters)
        if isinstance(result, Failure):
            error = LearningError(f"{what} failed: {result.summary}")
            error.add_note(result.trace)
            raise error
        return result

    async def _answer(self, what: str) -> ResultRecord:
        await trio.lowlevel.wait_readable(self._results)
        record = os.read(self._results, RESULT.size)
        if not record:
            raise self._death(what)
        result = ResultRecord(*RESULT.unpack(record))
        self._answered = result.number
        return result

    def _death(self, what: str) -> LearningError:
        if not self._pid:
            return LearningError("the process that trains has ended before")
        pid, self._pid = self._pid, 0
        try:
            reaping = reap if self._spawner is None else self._spawner[0].reap
            return LearningError(f"the process that trains {reaping(pid, f'during {what}')}")
        except LearningError as error:
            return error


class ThreadCompute:
    """The compute seam of a process: the learner in a worker thread, one job at a time.

    A cancelled job is told to stop, ends after the batch under way, and only then the cancellation goes on:
    no thread outlives the node.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    async def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan) -> FitResult:
        return await _in_thread(partial(self._learner.fit, weights, optimiser, plan))

    async def evaluate(self, weights: Vector, limit: int) -> Evaluation:
        return await _in_thread(partial(self._learner.evaluate, weights, limit))


async def _in_thread(work: Callable[[Callable[[], bool]], R]) -> R:
    """Run work(stop) in a worker thread; stop() says True once the caller is cancelled.

    Its result never belongs to that thread alone: trio's idle threads keep what they returned last, and if
    arrays that rest on torch's memory die with such a thread while the interpreter shuts down, torch ends the
    process.
    """
    stop = threading.Event()
    results: list[R] = []

    def put() -> None:
        results.append(work(stop.is_set))

    async def tell_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            stop.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_when_cancelled)
        await trio.to_thread.run_sync(put)
        nursery.cancel_scope.cancel()
    return results[0]

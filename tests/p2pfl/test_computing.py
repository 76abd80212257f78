"""Where a real node's learner computes: a process of its own, or a thread."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import trio

from p2pfl.computing import ForkedCompute, ThreadCompute
from p2pfl.errors import LearningError
from p2pfl.gossip.messages import Vector
from p2pfl.learning.learner import FitPlan, FitResult
from p2pfl.learning.spawner import Spawner
from p2pfl.seams import Compute
from tests.learners import STATELESS, UNLUCKY, NumpyLearner, plan, same
from tests.orphans import kill_once_it_says

LEARNER = NumpyLearner()
WEIGHTS = LEARNER.initial_weights(1)


class Endless(NumpyLearner):
    """Fits with an even seed go on until they are told to stop. says: called when one has begun."""

    def __init__(self, says: Callable[[], object]) -> None:
        super().__init__()
        self._says = says

    def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan, stop: Callable[[], bool]) -> FitResult:
        if plan.seed % 2 == 0:
            self._says()
            while not stop():
                os.sched_yield()
            return FitResult(weights * 0, optimiser, 0, 0, 0.0)
        return super().fit(weights, optimiser, plan, stop)


@contextmanager
def in_a_thread(learner: NumpyLearner) -> Iterator[ThreadCompute]:
    yield ThreadCompute(learner)


@contextmanager
def in_a_spawned_process(learner: NumpyLearner) -> Iterator[ForkedCompute]:
    with Spawner([lambda: learner]) as spawner, ForkedCompute(learner, (spawner, 0)) as compute:
        yield compute


@pytest.mark.parametrize("where", [ForkedCompute, in_a_thread, in_a_spawned_process])
class TestCompute:
    """What both promise."""

    def test_results_are_those_of_direct_calls_bit_by_bit(self, where: Callable) -> None:  # type: ignore[type-arg]
        async def compute(seam: Compute) -> None:
            state, expected = STATELESS, STATELESS
            for todo in (plan(1, momentum=0.9), plan(2, indices=100_000, momentum=0.9), plan(3)):
                fitted = await seam.fit(WEIGHTS, state, todo)
                direct = LEARNER.fit(WEIGHTS, expected, todo, lambda: False)
                assert same(fitted, direct)
                state, expected = fitted.optimiser, direct.optimiser
            evaluation, direct_one = await seam.evaluate(WEIGHTS, 7), LEARNER.evaluate(WEIGHTS, 7)
            assert evaluation.loss == direct_one.loss
            assert np.array_equal(evaluation.confusion, direct_one.confusion)

        with where(LEARNER) as seam:
            trio.run(compute, seam)

    def test_what_is_cancelled_stops_and_leaves_no_trace(self, where: Callable) -> None:  # type: ignore[type-arg]
        begun, announce = os.pipe()

        async def compute(seam: Compute) -> None:
            for _ in range(2):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(seam.fit, WEIGHTS, STATELESS, plan(2))
                    await trio.lowlevel.wait_readable(begun)
                    os.read(begun, 1)
                    nursery.cancel_scope.cancel()
                fitted = await seam.fit(WEIGHTS, STATELESS, plan(3))
                assert same(fitted, LEARNER.fit(WEIGHTS, STATELESS, plan(3), lambda: False))

        with where(Endless(lambda: os.write(announce, b"!"))) as seam:
            trio.run(compute, seam)


def test_a_learner_that_raises_is_named_with_its_reason() -> None:
    async def compute(seam: Compute) -> None:
        with pytest.raises(LearningError) as caught:
            await seam.fit(WEIGHTS, STATELESS, plan(UNLUCKY))
        assert str(caught.value) == "training failed: FloatingPointError: thirteen is unlucky"
        assert any("in fit" in note for note in caught.value.__notes__)
        await seam.fit(WEIGHTS, STATELESS, plan())  # it goes on

    with ForkedCompute(LEARNER) as seam:
        trio.run(compute, seam)


def test_a_death_while_it_trains_is_told_and_nothing_is_waited_for_afterwards() -> None:
    def die(todo: FitPlan) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def compute(seam: Compute) -> None:
        told = "the process that trains was killed by SIGKILL during training; was memory short?"
        with pytest.raises(LearningError) as caught:
            await seam.fit(WEIGHTS, STATELESS, plan())
        assert str(caught.value) == told
        with pytest.raises(LearningError, match="has ended before"):
            await seam.evaluate(WEIGHTS, 0)

    with ForkedCompute(NumpyLearner(before=die)) as seam:
        trio.run(compute, seam)


def test_a_worker_that_died_can_be_had_anew_while_others_go_on() -> None:
    def die(todo: FitPlan) -> None:
        if todo.seed == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    async def fit(seam: Compute, seed: int) -> FitResult:
        return await seam.fit(WEIGHTS, STATELESS, plan(seed))

    learner = NumpyLearner(before=die)
    before = sorted(Path("/proc/self/fd").iterdir())
    with (
        Spawner([lambda: LEARNER, lambda: learner]) as spawner,
        ForkedCompute(LEARNER, (spawner, 0)) as other,
    ):
        killed = pytest.raises(LearningError, match="was killed by SIGKILL during training")
        with ForkedCompute(learner, (spawner, 1)) as seam, killed:
            trio.run(fit, seam, 2)
        with ForkedCompute(learner, (spawner, 1)) as seam:
            assert same(trio.run(fit, seam, 3), LEARNER.fit(WEIGHTS, STATELESS, plan(3), lambda: False))
        assert same(trio.run(fit, other, 1), LEARNER.fit(WEIGHTS, STATELESS, plan(1), lambda: False))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_without_its_spawner_nobody_trains_and_one_line_says_so() -> None:
    async def fit(seam: Compute) -> None:
        await seam.fit(WEIGHTS, STATELESS, plan(2))

    def end_the_spawner(todo: FitPlan) -> None:
        os.kill(os.getppid(), signal.SIGKILL)

    learner = Endless(lambda: end_the_spawner(plan(2)))
    with Spawner([lambda: learner]) as spawner:
        ended = pytest.raises(LearningError, match="the process that starts those that train has ended")
        with ForkedCompute(learner, (spawner, 0)) as seam, ended:
            trio.run(fit, seam)
        with pytest.raises(LearningError, match="start this one again"):
            ForkedCompute(learner, (spawner, 0)).__enter__()


def test_it_ends_with_its_context_busy_or_not_and_closes_its_files() -> None:
    begun, announce = os.pipe()

    async def leave_it_busy(seam: Compute) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(seam.fit, WEIGHTS, STATELESS, plan(2))
            await trio.lowlevel.wait_readable(begun)
            nursery.cancel_scope.cancel()

    before = sorted(Path("/proc/self/fd").iterdir())
    with ForkedCompute(Endless(lambda: os.write(announce, b"!"))) as seam:
        trio.run(leave_it_busy, seam)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_signals_to_the_whole_group_are_for_the_parent() -> None:
    def interrupt(todo: FitPlan) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)

    async def compute(seam: Compute) -> FitResult:
        return await seam.fit(WEIGHTS, STATELESS, plan())

    with ForkedCompute(NumpyLearner(before=interrupt)) as seam:
        assert same(trio.run(compute, seam), LEARNER.fit(WEIGHTS, STATELESS, plan(), lambda: False))


def test_it_dies_with_a_killed_parent() -> None:
    kill_once_it_says(__file__, b"at work\n")


def be_killed() -> None:
    """What the test above runs."""

    async def compute(seam: Compute) -> None:
        await seam.fit(WEIGHTS, STATELESS, plan(2))

    with ForkedCompute(Endless(lambda: print("at work", flush=True))) as seam:
        trio.run(compute, seam)


if __name__ == "__main__":
    be_killed()

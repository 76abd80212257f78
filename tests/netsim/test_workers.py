"""The pool against direct calls of the same learner, and everything that can happen to a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from netsim.workers import WorkerPool
from p2pfl.errors import SimulationError
from p2pfl.gossip.messages import Layout, Task, TensorSpec, Vector
from p2pfl.learning.dataset import Dataset
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult
from p2pfl.learning.torch_learner import TorchLearner

TASK = Task("numbers", ("a", "b", "c"), (1,), (0.0,), (1.0,))
STATELESS = np.zeros(0, np.float32)


def nothing(plan: FitPlan) -> None:
    pass


class NumpyLearner:
    """Every argument of a fit changes its result. before: called in the worker, before each fit."""

    task = TASK

    def __init__(self, size: int = 1000, before: Callable[[FitPlan], None] = nothing) -> None:
        self.layout = Layout("numbers", (TensorSpec("w", (size,)),))
        self._before = before

    def initial_weights(self, seed: int | None = None) -> Vector:
        return np.random.default_rng(seed or 0).normal(size=self.layout.size).astype(np.float32)

    def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan, stop: Callable[[], bool]) -> FitResult:
        self._before(plan)
        assert not stop()
        rng = np.random.default_rng(plan.seed)
        order = rng.permutation(plan.indices)
        noise = rng.normal(size=weights.size).astype(np.float32)
        scale = np.float32(plan.learning_rate * (order @ np.arange(1, len(order) + 1)) + plan.batch_size)
        momentum = (
            np.concatenate([optimiser, weights[: plan.steps]]) if plan.momentum else np.zeros(0, np.float32)
        )
        new = weights * np.float32(1 - plan.weight_decay) + noise / scale
        return FitResult(new, momentum, plan.steps, plan.samples, float(np.abs(new).mean()) / 3)

    def evaluate(self, weights: Vector, limit: int = 0) -> Evaluation:
        confusion = np.arange(9, dtype=np.int64).reshape(3, 3) + limit
        return Evaluation(float(weights.sum()) / 7, confusion)


def plan(seed: int = 0, *, indices: int = 17, momentum: float = 0.0) -> FitPlan:
    return FitPlan(np.arange(3, 3 + indices), 5, 4, 0.05, momentum, 0.01, seed)


def same(got: FitResult, expected: FitResult) -> bool:
    return (
        np.array_equal(got.weights, expected.weights)
        and np.array_equal(got.optimiser, expected.optimiser)
        and got.weights.dtype == got.optimiser.dtype == np.float32
        and (got.steps, got.samples, got.loss) == (expected.steps, expected.samples, expected.loss)
    )


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("count", [1, 2])
def test_results_are_those_of_direct_calls_bit_by_bit(count: int) -> None:
    learner = NumpyLearner()
    weights = learner.initial_weights(1)
    before = weights.copy()
    with WorkerPool(learner, count) as pool:
        fitted = pool.result(pool.submit_fit(weights, STATELESS, plan(2)))
        evaluation = pool.result(pool.submit_evaluate(weights, 11))
    assert same(fitted, learner.fit(weights, STATELESS, plan(2), lambda: False))
    assert evaluation.loss == learner.evaluate(weights, 11).loss
    assert np.array_equal(evaluation.confusion, learner.evaluate(weights, 11).confusion)
    assert np.array_equal(weights, before)


def test_torch_trains_the_same_in_a_worker() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    labels = rng.integers(0, 3, 60)
    task = Task("blots", ("a", "b", "c"), (1, 8, 8), (0.5,), (0.25,))
    learner = TorchLearner(Dataset(task, images[:40], labels[:40], images[40:], labels[40:]), "mlp")
    weights = learner.initial_weights()
    todo = FitPlan(np.arange(40), 9, 8, 0.1, 0.9, 0.001, 5)
    direct = learner.fit(weights, STATELESS, todo, lambda: False)
    with WorkerPool(learner, 2) as pool:
        jobs = [pool.submit_fit(weights, STATELESS, todo) for _ in range(4)]
        assert all(same(pool.result(job), direct) for job in jobs)
        again = pool.result(pool.submit_fit(direct.weights, direct.optimiser, todo))
        evaluation = pool.result(pool.submit_evaluate(weights))
    assert same(again, learner.fit(direct.weights, direct.optimiser, todo, lambda: False))
    assert evaluation.loss == learner.evaluate(weights).loss
    assert np.array_equal(evaluation.confusion, learner.evaluate(weights).confusion)


@pytest.mark.parametrize("count", [1, 2])
def test_many_more_jobs_than_slots_taken_in_any_order(count: int) -> None:
    learner = NumpyLearner()
    inputs = [learner.initial_weights(i) for i in range(60)]
    with WorkerPool(learner, count) as pool:
        jobs = [pool.submit_fit(inputs[i], STATELESS, plan(i)) for i in range(60)]
        order = np.random.default_rng(3).permutation(60)
        results = {i: pool.result(jobs[i]) for i in order}
        statistics = pool.statistics
    for i in range(60):
        assert same(results[i], learner.fit(inputs[i], STATELESS, plan(i), lambda: False))
    assert statistics.jobs == 60
    assert statistics.images_trained == 60 * plan().samples
    assert len(statistics.busy_seconds) == count
    assert sum(statistics.busy_seconds) > 0


def test_slots_grow_for_indices_and_optimiser_state_of_any_size() -> None:
    learner = NumpyLearner(size=10)
    weights = learner.initial_weights()
    small, large = plan(1, momentum=0.9), plan(2, indices=100_000, momentum=0.9)
    with WorkerPool(learner, 2) as pool:
        state, expected = STATELESS, STATELESS
        for todo in (small, large, small, large):
            fitted = pool.result(pool.submit_fit(weights, state, todo))
            assert same(fitted, learner.fit(weights, expected, todo, lambda: False))
            state = expected = fitted.optimiser
        huge = np.random.default_rng(0).normal(size=50_000).astype(np.float32)
        fitted = pool.result(pool.submit_fit(weights, huge, large))
    assert same(fitted, learner.fit(weights, huge, large, lambda: False))


def test_an_evaluation_overtakes_waiting_fits() -> None:
    learner = NumpyLearner()
    weights = learner.initial_weights()
    with WorkerPool(learner, 1) as pool:
        fits = [pool.submit_fit(weights, STATELESS, plan(i)) for i in range(100)]
        pool.result(pool.submit_evaluate(weights))
        assert fits[-1].state == "waiting"


def test_an_exception_in_a_job_names_the_job_and_leaves_the_pool_usable() -> None:
    def before(todo: FitPlan) -> None:
        if todo.seed == 13:
            raise FloatingPointError("thirteen\nis unlucky")

    learner = NumpyLearner(before=before)
    weights = learner.initial_weights()
    with WorkerPool(learner, 2) as pool:
        bad = pool.submit_fit(weights, STATELESS, plan(13), label="node 7")
        good = pool.submit_fit(weights, STATELESS, plan(14))
        pool.result(good)
        with pytest.raises(SimulationError) as caught:
            pool.result(bad)
    assert str(caught.value) == (
        "job 1 (fit of 5 steps, node 7) failed: FloatingPointError: thirteen is unlucky"
    )
    assert "in before" in "".join(caught.value.__notes__)  # the worker's traceback


@pytest.mark.parametrize("count", [1, 2])
def test_a_killed_worker_ends_the_run_with_an_error_that_names_the_job(count: int) -> None:
    def before(todo: FitPlan) -> None:
        if todo.seed == 6:
            os.kill(os.getpid(), signal.SIGKILL)

    learner = NumpyLearner(before=before)
    weights = learner.initial_weights()
    with WorkerPool(learner, count) as pool:
        jobs = [pool.submit_fit(weights, STATELESS, plan(seed), label="node 3") for seed in range(6)]
        for job in jobs:
            pool.result(job)
        fatal = pool.submit_fit(weights, STATELESS, plan(6), label="node 3")
        for _ in range(2):  # the pool stays broken
            with pytest.raises(
                SimulationError,
                match=r"worker \d was killed by SIGKILL during job 7 \(fit of 5 steps, node 3",
            ):
                pool.result(fatal)
        pids = pool.pids
    assert not any(map(alive, pids))


def test_an_idle_worker_that_is_killed_is_noticed() -> None:
    learner = NumpyLearner()
    weights = learner.initial_weights()
    with WorkerPool(learner, 1) as pool:
        pool.result(pool.submit_fit(weights, STATELESS, plan()))
        os.kill(pool.pids[0], signal.SIGKILL)
        with pytest.raises(SimulationError, match="worker 0 was killed by SIGKILL"):
            pool.result(pool.submit_fit(weights, STATELESS, plan()))


def test_discarded_jobs_are_forgotten_in_every_state() -> None:
    learner = NumpyLearner()
    weights = learner.initial_weights()
    with WorkerPool(learner, 1) as pool:
        jobs = [pool.submit_fit(weights, STATELESS, plan(i)) for i in range(10)]
        assert jobs[0].state != "waiting"
        assert jobs[9].state == "waiting"
        pool.discard(jobs[0])
        pool.discard(jobs[9])
        for job in jobs[1:9]:
            pool.result(job)
        finished = pool.submit_fit(weights, STATELESS, plan())
        pool.result(pool.submit_evaluate(weights))
        pool.discard(finished)
        for job in (jobs[0], jobs[1], jobs[9], finished):
            with pytest.raises(SimulationError, match="discarded, or its result taken"):
                pool.result(job)
        fitted = pool.result(pool.submit_fit(weights, STATELESS, plan(5)))
    assert same(fitted, learner.fit(weights, STATELESS, plan(5), lambda: False))


def test_wrong_arguments_are_refused_at_once() -> None:
    learner = NumpyLearner()
    with pytest.raises(ValueError, match="at least one worker"):
        WorkerPool(learner, 0)
    with WorkerPool(learner, 1) as pool:
        with pytest.raises(ValueError, match=r"shape \(3,\)"):
            pool.submit_evaluate(np.zeros(3, np.float32))
        with pytest.raises(ValueError, match="64-bit"):
            pool.submit_fit(learner.initial_weights(), STATELESS, plan(1 << 64))


def test_no_process_is_left_after_ctrl_c_in_a_blocking_wait() -> None:
    def before(todo: FitPlan) -> None:
        os.kill(os.getppid(), signal.SIGINT)
        signal.pause()

    learner = NumpyLearner(before=before)
    pids: list[int] = []

    def wait_for_ever() -> None:
        with WorkerPool(learner, 2) as pool:
            pids.extend(pool.pids)
            assert all(map(alive, pids))
            pool.result(pool.submit_fit(learner.initial_weights(), STATELESS, plan()))

    with pytest.raises(KeyboardInterrupt):
        wait_for_ever()
    assert len(pids) == 2
    assert not any(map(alive, pids))


def test_busy_workers_die_with_a_killed_parent() -> None:
    program = Path(__file__)
    with subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(program.parents[2])},
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"both are at work\n"
        parent.kill()
        # The workers hold the pipe too: it ends with the last of them.
        assert parent.communicate(timeout=30)[0] == b""


def be_killed() -> None:
    """What the test above runs: two workers that never end, and a parent that waits for them."""
    ready, announce = os.pipe()

    def before(todo: FitPlan) -> None:
        os.write(announce, b"!")
        signal.pause()

    learner = NumpyLearner(before=before)
    with WorkerPool(learner, 2) as pool:
        jobs = [pool.submit_fit(learner.initial_weights(), STATELESS, plan()) for _ in range(2)]
        os.read(ready, 1)
        os.read(ready, 1)
        print("both are at work", flush=True)
        pool.result(jobs[0])


if __name__ == "__main__":
    be_killed()

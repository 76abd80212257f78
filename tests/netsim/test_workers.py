"""The pool against direct calls of the same learner, and everything that can happen to a worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from netsim.workers import HANDED_OUT, WorkerPool
from p2pfl.errors import SimulationError
from p2pfl.gossip.messages import Task
from p2pfl.learning.dataset import Dataset
from p2pfl.learning.learner import FitPlan
from p2pfl.learning.torch_learner import TorchLearner
from tests.learners import STATELESS, NumpyLearner, plan, same
from tests.netsim.pool_contract import LEARNER, PoolContract
from tests.orphans import kill_once_it_says


class TestWorkerPool(PoolContract):
    @pytest.fixture(params=[1, 2])
    def pool(self, request: pytest.FixtureRequest) -> Iterator[WorkerPool]:
        with WorkerPool(LEARNER, request.param) as pool:
            assert len(pool.statistics.busy_seconds) == request.param
            yield pool


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


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


def test_an_evaluation_overtakes_waiting_fits() -> None:
    learner = NumpyLearner()
    weights = learner.initial_weights()
    with WorkerPool(learner, 1) as pool:
        fits = [pool.submit_fit(weights, STATELESS, plan(i)) for i in range(100)]
        pool.result(pool.submit_evaluate(weights))
        assert fits[-1].state == "waiting"


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


def test_waiting_fits_start_in_the_order_in_which_they_are_due() -> None:
    begun, announce = os.pipe()

    def before(todo: FitPlan) -> None:
        os.write(announce, bytes([todo.seed]))

    learner = NumpyLearner(before=before)
    weights = learner.initial_weights()
    due = {20: 3.0, 21: 1.0, 22: 9.0, 23: 1.0, 24: 2.0}
    with WorkerPool(learner, 1) as pool:
        # The first few are handed out at once and go ahead of all that come later.
        first = [pool.submit_fit(weights, STATELESS, plan(i), due=99.0) for i in range(HANDED_OUT)]
        later = [pool.submit_fit(weights, STATELESS, plan(i), due=time) for i, time in due.items()]
        assert {job.state for job in later} == {"waiting"}
        pool.discard(later[1])
        pool.result(later[2])  # somebody waits for it: it goes first although it is due last
        for job in (*first, later[0], later[3], later[4]):
            pool.result(job)
    assert list(os.read(begun, 100)) == [0, 1, 2, 22, 23, 24, 20]


def test_a_worker_that_hangs_in_a_job_ends_the_run_with_an_error_that_names_the_job() -> None:
    def before(todo: FitPlan) -> None:
        if todo.seed == 6:
            os.kill(os.getpid(), signal.SIGSTOP)

    learner = NumpyLearner(before=before)
    weights = learner.initial_weights()
    with WorkerPool(learner, 2, limit=0.2) as pool:
        hung = pool.submit_fit(weights, STATELESS, plan(6), label="node 3")
        for seed in range(5):  # the other worker goes on
            pool.result(pool.submit_fit(weights, STATELESS, plan(seed)))
        for _ in range(2):  # the pool stays broken
            with pytest.raises(
                SimulationError,
                match=r"worker \d hangs: job 1 \(fit of 5 steps, node 3\) has taken more than 0.2 s",
            ):
                pool.result(hung)
        pids = pool.pids
    assert not any(map(alive, pids))


def test_a_worker_that_is_stopped_between_jobs_is_noticed() -> None:
    weights = LEARNER.initial_weights()
    with WorkerPool(LEARNER, 1, limit=0.2) as pool:
        pool.result(pool.submit_fit(weights, STATELESS, plan()))
        os.kill(pool.pids[0], signal.SIGSTOP)
        job = pool.submit_fit(weights, STATELESS, plan(), label="node 9")
        with pytest.raises(SimulationError, match=r"workers hang: none has begun job 2 .*node 9"):
            pool.result(job)


def test_a_pool_without_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one worker"):
        WorkerPool(LEARNER, 0)


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
    kill_once_it_says(__file__, b"both are at work\n")


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

"""A simulated device: real results, modelled durations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import trio

from netsim.compute import SimulatedCompute
from netsim.workers import WorkerPool
from p2pfl.clock import Clock
from p2pfl.gossip.messages import Layout, Task, TensorSpec, Vector
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult

STATELESS = np.zeros(0, np.float32)
PLAN = FitPlan(np.arange(50), 4, 25, 0.1, 0.0, 0.0, 1)  # 100 samples


class AddsOne:
    task = Task("numbers", ("a", "b"), (1,), (0.0,), (1.0,))
    layout = Layout("numbers", (TensorSpec("w", (4,)),))

    def initial_weights(self, seed: int | None = None) -> Vector:
        return np.zeros(4, np.float32)

    def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan, stop: Callable[[], bool]) -> FitResult:
        return FitResult(weights + 1, optimiser, plan.steps, plan.samples, 0.5)

    def evaluate(
        self, weights: Vector, limit: int = 0, stop: Callable[[], bool] = lambda: False
    ) -> Evaluation:
        return Evaluation(float(weights[0]), np.eye(2, dtype=np.int64) * limit)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.virtual
async def test_a_fit_takes_samples_over_speed() -> None:
    with WorkerPool(AddsOne(), 1) as pool:
        compute = SimulatedCompute(pool, Clock(), rng(), speed=20.0, jitter=0.0)
        start = trio.current_time()
        fitted = await compute.fit(np.full(4, 2, np.float32), STATELESS, PLAN)
        assert trio.current_time() - start == pytest.approx(5.0)
    assert fitted.weights.tolist() == [3, 3, 3, 3]


@pytest.mark.virtual
async def test_the_duration_is_by_the_nodes_own_clock() -> None:
    with WorkerPool(AddsOne(), 1) as pool:
        compute = SimulatedCompute(pool, Clock(rate=2.0), rng(), speed=20.0, jitter=0.0)
        start = trio.current_time()
        await compute.fit(np.zeros(4, np.float32), STATELESS, PLAN)
        assert trio.current_time() - start == pytest.approx(2.5)


@pytest.mark.virtual
async def test_jitter_stays_within_its_bounds_and_follows_from_the_generator() -> None:
    async def durations(seed: int) -> list[float]:
        compute = SimulatedCompute(pool, Clock(), rng(seed), speed=100.0, jitter=0.05)
        times = []
        for _ in range(20):
            start = trio.current_time()
            await compute.fit(np.zeros(4, np.float32), STATELESS, PLAN)
            times.append(round(trio.current_time() - start, 9))
        return times

    with WorkerPool(AddsOne(), 2) as pool:
        first, again, other = await durations(1), await durations(1), await durations(2)
    assert first == again != other
    assert all(0.95 <= seconds <= 1.05 for seconds in first + other)
    assert len(set(first)) > 10


@pytest.mark.virtual
async def test_evaluation_takes_no_virtual_time() -> None:
    with WorkerPool(AddsOne(), 1) as pool:
        compute = SimulatedCompute(pool, Clock(), rng())
        start = trio.current_time()
        evaluation = await compute.evaluate(np.full(4, 7, np.float32), 3)
        assert trio.current_time() == start
    assert evaluation.loss == 7
    assert evaluation.samples == 6


@pytest.mark.virtual
async def test_a_crash_during_training_discards_the_job() -> None:
    with WorkerPool(AddsOne(), 1) as pool:
        compute = SimulatedCompute(pool, Clock(), rng(), speed=20.0)
        with trio.move_on_after(1) as scope:
            await compute.fit(np.zeros(4, np.float32), STATELESS, PLAN)
        assert scope.cancelled_caught
        fitted = await compute.fit(np.full(4, 5, np.float32), STATELESS, PLAN)
    assert fitted.weights.tolist() == [6, 6, 6, 6]


@pytest.mark.parametrize(("speed", "jitter"), [(0.0, 0.0), (float("inf"), 0.0), (1.0, 1.0), (1.0, -0.1)])
def test_impossible_devices_are_refused(speed: float, jitter: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        SimulatedCompute(WorkerPool(AddsOne(), 1), Clock(), rng(), speed=speed, jitter=jitter)

"""The compute seam of a simulated node: real work in the pool, its duration from a model of the device."""

from __future__ import annotations

import numpy as np

from netsim.workers import WorkerPool
from p2pfl.clock import Clock
from p2pfl.gossip.messages import Vector
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult


class SimulatedCompute:
    """One node's training and evaluation.

    clock: the node's own.  rng: the node's own too, drawn from once per fit.
    speed: samples a second by that clock.  jitter: half-width of the uniform noise on a fit's duration, as a
    share of it; a few per cent keep equal shards from ending at the same instant; 0 draws nothing.
    """

    def __init__(
        self,
        pool: WorkerPool,
        clock: Clock,
        rng: np.random.Generator,
        *,
        speed: float = 1000.0,
        jitter: float = 0.05,
        label: str = "",
    ) -> None:
        if not (0 < speed < float("inf") and 0 <= jitter < 1):
            raise ValueError(f"speed {speed} must be above 0 and jitter {jitter} in [0, 1)")
        self._pool = pool
        self._clock = clock
        self._rng = rng
        self._speed = speed
        self._jitter = jitter
        self._label = label

    async def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan) -> FitResult:
        """Train; takes the modelled time by the node's clock, however long the worker really takes.

        weights, optimiser: not modified, and not to be modified until the fit ends.
        """
        noise = 1 + self._jitter * self._rng.uniform(-1, 1) if self._jitter else 1.0
        job = self._pool.submit_fit(weights, optimiser, plan, label=self._label)
        try:
            await self._clock.sleep(plan.samples / self._speed * noise)
            # Blocks the whole simulation until the worker is ready. Virtual time stands still meanwhile, and
            # must: nothing may happen before the end of this fit. No task is ever woken by a real completion.
            return self._pool.result(job)
        finally:
            self._pool.discard(job)  # matters to a crashed node's job only

    async def evaluate(self, weights: Vector, limit: int) -> Evaluation:
        """On the held-out data, in no virtual time. limit: samples, 0 for all."""
        return self._pool.result(self._pool.submit_evaluate(weights, limit, label=self._label))

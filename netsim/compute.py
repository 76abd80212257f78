"""The compute seam of a simulated node: real work in the pool, its duration from a model of the device."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import numpy as np
import trio

from netsim.jobs import Asked
from p2pfl.clock import Clock
from p2pfl.gossip.messages import Vector
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult


class SimulatedCompute:
    """One node's training and evaluation.

    clock: the node's own.  rng: the node's own too, drawn from once per fit.
    speed: samples a second by that clock.  jitter: half-width of the uniform noise on a fit's duration, as a
    share of it; a few per cent keep equal shards from ending at the same instant; 0 draws nothing.
    running: returns once the device runs; awaited after the modelled time, so that a device that hangs ends
    its fit only when it resumes. None: it never hangs.
    """

    def __init__(
        self,
        pool: Asked,
        clock: Clock,
        rng: np.random.Generator,
        *,
        speed: float = 1000.0,
        jitter: float = 0.05,
        label: str = "",
        running: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        if not (0 < speed < float("inf") and 0 <= jitter < 1):
            raise ValueError(f"speed {speed} must be above 0 and jitter {jitter} in [0, 1)")
        self._pool = pool
        self._clock = clock
        self._rng = rng
        self._speed = speed
        self._jitter = jitter
        self._label = label
        self._running = running

    async def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan) -> FitResult:
        """Train; takes the modelled time by the node's clock, however long the worker really takes.

        weights, optimiser: not modified, and not to be modified until the fit ends.
        """
        noise = 1 + self._jitter * self._rng.uniform(-1, 1) if self._jitter else 1.0
        seconds = plan.samples / self._speed * noise
        due = trio.current_time() + seconds / self._clock.rate
        job = self._pool.submit_fit(weights, optimiser, plan, label=self._label, due=due)
        try:
            await self._clock.sleep(seconds)
            if self._running is not None:
                await self._running()
            # Blocks the whole simulation until the worker is ready. Virtual time stands still meanwhile, and
            # must: nothing may happen before the end of this fit. No task is ever woken by a real completion.
            return self._pool.result(job)
        finally:
            self._pool.discard(job)  # matters to a crashed node's job only

    async def evaluate(self, weights: Vector, limit: int) -> Evaluation:
        """On the held-out data, in no virtual time. limit: samples, 0 for all."""
        return self._pool.result(self._pool.submit_evaluate(weights, limit, label=self._label))

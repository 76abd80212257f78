"""What is injected into a node and may be real or simulated, besides clock, randomness and observe."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import httpx
import trio

from p2pfl.gossip.messages import Vector
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult
from p2pfl.network.app import ASGIApp
from p2pfl.storage.checkpoint import Checkpoint


class Compute(Protocol):
    """The compute seam: a learner behind a thread, a pool of processes, or anything that can await."""

    async def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan) -> FitResult: ...

    async def evaluate(self, weights: Vector, limit: int) -> Evaluation: ...


class Network(Protocol):
    """The network seam."""

    def transport(self) -> httpx.AsyncBaseTransport | None:
        """What requests go through; None: TCP."""
        ...

    async def serve(self, app: ASGIApp, *, task_status: trio.TaskStatus[str]) -> None:
        """Serve until cancelled; started(url) once requests are answered."""
        ...


# The storage seam: durable on return; says what could not be kept beside the checkpoint, "" or None if all
# was. Raises StorageError if the checkpoint itself could not be written.
Save = Callable[[Checkpoint], Awaitable[str | None]]

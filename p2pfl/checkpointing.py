"""When a node's state is saved, what is in it, and what becomes of a node whose disk is full."""

from __future__ import annotations

import logging

import trio

from p2pfl.errors import StorageError
from p2pfl.events import Checkpointed, CheckpointFailed, Observe
from p2pfl.gossip.messages import Vector
from p2pfl.gossip.protocol import Gossip
from p2pfl.seams import Save
from p2pfl.storage.checkpoint import Checkpoint
from p2pfl.storage.health import StorageHealth

log = logging.getLogger(__name__)


class Checkpointer:
    """Saves a node's state. save: None if it keeps nothing; then nothing here does anything.

    every: rounds from one save to the next.
    """

    def __init__(
        self, gossip: Gossip, save: Save | None, observe: Observe, health: StorageHealth | None, every: int
    ) -> None:
        self._gossip = gossip
        self._save = save
        self._observe = observe
        self._health = health or StorageHealth()
        self._every = every
        self._saving = trio.Lock()

    async def save(self, optimiser: Vector) -> None:
        """StorageError if the state cannot be written."""
        if self._save is None:
            return
        async with self._saving:
            checkpoint = self._checkpoint(optimiser)
            left_out = await self._save(checkpoint)
        round = self._health.round = checkpoint.round
        self._observe(Checkpointed(round))
        if left_out:
            self._failed(round, left_out, left_out)
        elif self._health.problem:
            log.warning("round=%d the state can be saved again", round)
            self._health.problem = ""

    async def try_to_save(self, optimiser: Vector) -> None:
        """As save(), but a node that trains and serves goes on doing so when its disk is full.

        It says so, counts it, and tries again after the next round; the last saved state stays.
        """
        try:
            await self.save(optimiser)
        except StorageError as error:
            cause = error.__cause__
            reason = cause.strerror if isinstance(cause, OSError) else None
            self._failed(self._gossip.round, reason or str(error), str(error))

    async def round_completed(self, optimiser: Vector) -> None:
        """Save, if it is time."""
        if self._gossip.round % self._every == 0:
            await self.try_to_save(optimiser)

    async def finish(self, optimiser: Vector) -> None:
        """The node stops in good order: no completed round is lost."""
        if self._health.round != self._gossip.round:
            await self.try_to_save(optimiser)

    def _failed(self, round: int, reason: str, detail: str) -> None:
        if reason != self._health.problem:  # else every round would say the same
            log.warning("round=%d %s; trying again after the next round", round, detail)
        self._health.failures += 1
        self._health.problem = reason
        self._observe(CheckpointFailed(round, reason))

    def _checkpoint(self, optimiser: Vector) -> Checkpoint:
        gossip = self._gossip
        return Checkpoint(
            id=gossip.id,
            round=gossip.round,
            age=gossip.age,
            weights=gossip.weights,
            optimiser=optimiser,
            task=gossip.task,
            layout=gossip.layout,
            version=gossip.version,
            peers=gossip.remembered(),
        )

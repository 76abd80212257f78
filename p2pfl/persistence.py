"""What a node process keeps in its state directory: opened, resumed from, saved to, closed."""

from __future__ import annotations

import logging

import trio

from p2pfl.errors import StorageError
from p2pfl.events import Event, Observe, StateDamaged
from p2pfl.storage.checkpoint import Checkpoint
from p2pfl.storage.directory import StateDirectory
from p2pfl.storage.health import StorageHealth
from p2pfl.storage.metrics import Metrics

log = logging.getLogger(__name__)


class Persistence:
    """The storage seam of a process. resume: the newest checkpoint that is whole, or None.

    Raises StorageError, see StateDirectory.
    """

    def __init__(self, path: str, health: StorageHealth, observe: Observe) -> None:
        self._health = health
        self._observe = observe
        self._metrics = Metrics()
        self._state = StateDirectory(path)
        try:
            self.resume = self._state.load()
        except StorageError:
            self._state.close()
            raise
        finally:
            self._tell()
        health.round = self.resume.round if self.resume is not None else None

    def note(self, event: Event) -> None:
        """Something happened in the node: its figures go to the database with the next checkpoint."""
        self._metrics.note(event)

    async def save(self, checkpoint: Checkpoint) -> str:
        rows = self._metrics.take()
        kept = False
        try:
            left_out = await trio.to_thread.run_sync(self._state.save, checkpoint, rows)
            kept = not left_out
        finally:
            if not kept:
                self._metrics.put_back(rows)
            self._tell()
        return left_out

    def close(self) -> None:
        self._state.close()

    def _tell(self) -> None:
        """Say loudly what was found damaged since the last call."""
        for file, reason in self._state.damage:
            log.warning("file=%s damaged and set aside: %s", file, reason)
            self._health.damaged.append(f"{file}: {reason}")
            self._observe(StateDamaged(file, reason))
        self._state.damage.clear()

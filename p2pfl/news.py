"""Waiting until a peer says something."""

from __future__ import annotations

import trio

from p2pfl.clock import Clock


class News:
    """Set off whenever a peer said something, in a request or in an answer, or was found to be gone."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._event = trio.Event()

    def came(self) -> None:
        self._event.set()

    def next(self) -> trio.Event:
        """An event that is set when a peer says something from now on."""
        if self._event.is_set():
            self._event = trio.Event()
        return self._event

    async def until(self, event: trio.Event, at: float) -> None:
        """Wait for `event`, at most until `at` by the node's clock, or a microsecond longer: rounded, a wait
        of less may be none at all, and whoever asks again would never see its time come."""
        with self._clock.deadline(max(1e-6, at - self._clock.now())):
            await event.wait()

"""A node's clock: monotonic seconds, never compared with another node's.

Real nodes use it as it is. The simulator gives each node one whose rate and offset differ, over trio's
virtual time: the node cannot tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio


@dataclass(frozen=True)
class Clock:
    """now = offset + rate * trio's time. rate: seconds this clock shows per true second."""

    rate: float = 1.0
    offset: float = 0.0

    def now(self) -> float:
        """Seconds since an arbitrary start; only differences mean anything."""
        return self.offset + self.rate * trio.current_time()

    async def sleep(self, seconds: float) -> None:
        """Sleep `seconds` of this clock; at least one checkpoint, also for 0 or less."""
        await trio.sleep(max(0.0, seconds) / self.rate)

    def deadline(self, seconds: float) -> trio.CancelScope:
        """A scope that is cancelled after `seconds` of this clock; look at `cancelled_caught`."""
        return trio.move_on_after(seconds / self.rate)

"""A budget of bytes for each hour, in and out together: told what passes, asked what still may."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

HOUR = 3600.0
SLOT = 60.0
"""Seconds that are counted together: memory for sixty numbers, and an hour that is up to a minute longer."""


class HourlyBudget:
    """At most `most` bytes in any hour, by what now() shows; 0: any number.

    It can be passed by what was under way when it ran out, never by what begins later. It knows nothing of
    the time before it was made.
    """

    def __init__(self, most: int, now: Callable[[], float]) -> None:
        self.most = most
        self.exchange = 0  # bytes of an exchange of models, both ways: what a peer's will take
        self._now = now
        self._slots: deque[tuple[float, int]] = deque()  # (its begin, bytes), the oldest first
        self._reserved = 0

    def spend(self, size: int) -> None:
        """So many bytes went out or came in."""
        if not self.most:
            return
        begin = math.floor(self._now() / SLOT) * SLOT
        if self._slots and self._slots[-1][0] == begin:
            size += self._slots.pop()[1]
        self._slots.append((begin, size))
        self._expire()

    def spent(self) -> int:
        """Bytes of the last hour."""
        self._expire()
        return sum(size for _, size in self._slots)

    def wait(self, size: int = 0) -> float:
        """Seconds until `size` bytes more may pass, besides those that are reserved; 0 if they may now.

        A size beyond the whole budget waits until nothing is spent.
        """
        if not self.most:
            return 0.0
        excess = self.spent() + self._reserved + min(size, self.most) - self.most
        if excess <= 0:
            return 0.0
        for begin, spent in self._slots:
            excess -= spent
            if excess <= 0:
                return max(SLOT / 60, begin + SLOT + HOUR - self._now())
        return SLOT  # what is reserved will be spent or given back

    @contextmanager
    def reserved(self, size: int) -> Iterator[None]:
        """Bytes that are under way, and not counted by spend() yet."""
        self._reserved += size
        try:
            yield
        finally:
            self._reserved -= size

    def _expire(self) -> None:
        before = self._now() - HOUR
        while self._slots and self._slots[0][0] + SLOT <= before:
            self._slots.popleft()

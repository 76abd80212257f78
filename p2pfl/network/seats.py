"""Which connection may stay: a bounded number of seats, shared among sources, some of them kept for pages."""

from __future__ import annotations

from collections.abc import Callable

from p2pfl.network.shares import Shares


class Seat:
    """One connection's. reserved: it is one of those for pages."""

    def __init__(self, source: str, reserved: bool, free: Callable[[Seat], None]) -> None:
        self.source = source
        self.reserved = reserved
        self.is_taken = True
        self._free = free

    def leave(self) -> None:
        """Give it back; nothing happens the second time."""
        if self.is_taken:
            self.is_taken = False
            self._free(self)


class Seats:
    """size: seats for all, of which a source gets at most half (Shares).  reserved: more, for pages."""

    def __init__(self, size: int, reserved: int) -> None:
        self._shares = Shares(size)
        self._reserved = reserved

    def held(self, source: str) -> int:
        """Seats for all that a source has."""
        return self._shares.held(source)

    def take(self, source: str, end_idle: Callable[[bool], Seat | None]) -> Seat | None:
        """A seat for one more connection; None if there is none.

        end_idle(reserved): ends an idle connection of that kind and returns its seat; None if all are busy.
        Who has no seat while all are taken gets one that way, and so does the next who only wants a page:
        idle connections, however many and whosever, keep nobody out.
        """
        if self._shares.take(source):
            return Seat(source, False, self._leave)
        if not self._shares.held(source) and (seat := end_idle(False)) is not None:
            seat.leave()
            if self._shares.take(source):
                return Seat(source, False, self._leave)
        if not self._reserved and (seat := end_idle(True)) is not None:
            seat.leave()
        if self._reserved:
            self._reserved -= 1
            return Seat(source, True, self._leave)
        return None

    def _leave(self, seat: Seat) -> None:
        if seat.reserved:
            self._reserved += 1
        else:
            self._shares.give_back(seat.source)

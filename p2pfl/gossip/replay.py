"""Which signed requests were heard before: the newest of each sender, as a pair (incarnation, counter)."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from p2pfl.errors import Replayed

WINDOW = 64
"""Requests of one sender that may overtake an older one on its way: a probe is faster than a model."""
SENDERS = 1024
"""Senders that are remembered beside those to be kept; with full windows they take some 3 MB."""


@dataclass
class _Heard:
    """counters: the newest ones of this incarnation that were accepted, ascending, at most WINDOW.

    floor: what is not above it is old, seen or not.  lasting: it came from a checkpoint.
    """

    incarnation: int
    floor: int
    counters: list[int] = field(default_factory=list)
    lasting: bool = False

    @property
    def highest(self) -> int:
        return self.counters[-1] if self.counters else self.floor


class ReplayGuard:
    """Says of each signed message whether it is new. Sans-io.

    A sender counts all its messages, to whomever they go, so that gaps mean nothing: of each sender the last
    WINDOW counters that came are remembered, and what is older than all of them is refused.

    kept: whether a sender must not be forgotten. Of the others those go that were not heard for longest: the
    worst that a stranger who was forgotten can do is to say again what it has said.
    """

    def __init__(self, senders: int = SENDERS) -> None:
        self.kept: Callable[[str], bool] = lambda id: False
        self._senders = senders
        self._heard: OrderedDict[str, _Heard] = OrderedDict()

    def check(self, id: str, incarnation: int, counter: int) -> None:
        """Raises Replayed unless this message of sender `id` is new. Remembers nothing."""
        heard = self._heard.get(id)
        if heard is None or incarnation > heard.incarnation:
            return
        if incarnation < heard.incarnation:
            raise Replayed(f"incarnation {incarnation} of {id} is over, {heard.incarnation} has been heard")
        if counter <= heard.floor or _has(heard.counters, counter):
            raise Replayed(f"message {incarnation}.{counter} of {id} is old, or was heard before")

    def accept(self, id: str, incarnation: int, counter: int) -> None:
        """Raises as check() does; from now on this message is known."""
        self.check(id, incarnation, counter)
        self.note(id, incarnation, counter)

    def note(self, id: str, incarnation: int, counter: int) -> None:
        """This message was heard; one that is not new changes nothing."""
        heard = self._heard.get(id)
        if heard is None or incarnation > heard.incarnation:
            heard = self._heard[id] = _Heard(incarnation, -1, lasting=heard is not None and heard.lasting)
        elif incarnation < heard.incarnation or counter <= heard.floor:
            return
        at = bisect_left(heard.counters, counter)
        if at == len(heard.counters) or heard.counters[at] != counter:
            heard.counters.insert(at, counter)
        if len(heard.counters) > WINDOW:
            heard.floor = heard.counters.pop(0)
        self._heard.move_to_end(id)
        if len(self._heard) > self._senders:
            self._forget_one()

    def restore(self, newest: Iterable[tuple[str, int, int]]) -> None:
        """(id, incarnation, counter) that were the newest heard before a restart: all up to them is old."""
        for id, incarnation, counter in newest:
            self._heard[id] = _Heard(incarnation, counter, lasting=True)

    def newest(self, id: str) -> tuple[int, int]:
        """(incarnation, counter) of the newest message heard of `id`; (0, 0) if none was."""
        heard = self._heard.get(id)
        return (0, 0) if heard is None else (heard.incarnation, max(0, heard.highest))

    def latest(self, count: int) -> list[str]:
        """The senders that were heard last, at most so many, the last one at the end."""
        return list(self._heard)[-count:]

    def _forget_one(self) -> None:
        for id, heard in self._heard.items():
            if not (heard.lasting or self.kept(id)):
                del self._heard[id]
                return


def _has(counters: list[int], counter: int) -> bool:
    at = bisect_left(counters, counter)
    return at < len(counters) and counters[at] == counter

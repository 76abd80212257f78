"""What each node was doing when, from its own events and the faults that struck it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Doing = Literal["absent", "waiting", "training", "settling", "done", "hung", "down", "left"]
Fate = Literal["no fault", "joined late", "hung", "crashed, came back", "crashed", "left"]
FATES: tuple[Fate, ...] = ("no fault", "joined late", "hung", "crashed, came back", "crashed", "left")

_OWN: tuple[Doing, ...] = ("waiting", "training", "settling", "done")
_FAULTS = ("crash", "restart", "leave", "join", "hang", "resume")


class Spell(NamedTuple):
    """A time that a node spent in one state: from start to end, seconds of the run's clock."""

    start: float
    end: float
    doing: Doing


@dataclass
class Cut:
    """The network fell into parts (node numbers). end: seconds, None while it lasts.  number: names it."""

    start: float
    parts: tuple[tuple[int, ...], ...]
    number: int
    end: float | None = None


@dataclass
class Lives:
    """Collects what happened to nodes, in any order of time: real nodes' lines may arrive late."""

    cuts: list[Cut] = field(default_factory=list)
    _happened: dict[int, list[tuple[float, str]]] = field(default_factory=dict)

    def add(self, node: int, time: float, what: str) -> None:
        """what: "started", "stopped", a state that the node entered, or a fault that struck it."""
        self._happened.setdefault(node, []).append((time, what))

    def cut(self, time: float, number: int, parts: tuple[tuple[int, ...], ...]) -> None:
        self.cuts.append(Cut(time, parts, number))

    def heal(self, time: float, number: int) -> None:
        """number: of the cut that ends; 0 ends all."""
        for cut in self.cuts:
            if cut.end is None and number in (0, cut.number):
                cut.end = time

    def spells(self, node: int, end: float) -> list[Spell]:
        """The node's time from 0 to `end`, without gaps; a node of which nothing is known is absent."""
        own: Doing = "absent"
        gone: Doing | None = None
        hung = False
        changes: list[tuple[float, Doing]] = [(0.0, own)]
        for time, what in sorted(self._happened.get(node, ()), key=lambda entry: entry[0]):
            if what in ("started", "restart", "join"):
                own, gone, hung = "waiting", None, False
            elif what == "crash":
                gone = "down"
            elif what in ("leave", "stopped"):
                gone = gone or "left"
            elif what in ("hang", "resume"):
                hung = what == "hang"
            else:
                own = next(state for state in _OWN if state == what)
            changes.append((time, gone or ("hung" if hung else own)))
        return _joined(changes, end)

    def fate(self, node: int) -> Fate:
        """The worst that befell it."""
        happened = {what for _, what in self._happened.get(node, ())}
        if "crash" in happened:
            return "crashed, came back" if "restart" in happened else "crashed"
        for what, fate in (("leave", FATES[5]), ("hang", FATES[2]), ("join", FATES[1])):
            if what in happened:
                return fate
        return "no fault"

    def first_fault(self, node: int) -> float:
        """Seconds; infinite if no fault struck it."""
        return min((t for t, what in self._happened.get(node, ()) if what in _FAULTS), default=float("inf"))


def _joined(changes: list[tuple[float, Doing]], end: float) -> list[Spell]:
    """Changes in order of time -> spells up to `end`; equal neighbours become one, empty ones vanish."""
    spells: list[Spell] = []
    for (start, doing), (stop, _) in zip(changes, [*changes[1:], (end, changes[-1][1])], strict=True):
        start, stop = min(start, end), min(stop, end)
        if stop <= start:
            continue
        if spells and spells[-1].doing == doing:
            spells[-1] = Spell(spells[-1].start, stop, doing)
        else:
            spells.append(Spell(start, stop, doing))
    return spells

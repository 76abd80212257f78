"""What a node remembers of its past for the page that it serves: bounded, in memory, of what it observes.

Curves keep their whole span and lose points (Series); exchanges and notable events are the latest ones. Each
entry has `n`, the number of the change that made it, so that a reader can ask for what came after another.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

import trio

from p2pfl.events import (
    MODEL_MODES,
    Checkpointed,
    Evaluated,
    Event,
    Exchanged,
    Merged,
    Published,
    RoundCompleted,
    Served,
    Trained,
)

ROUNDS = 400
"""Points of the node's own curves, and of its traffic: more than a screen shows."""
PEERS = 128
"""Peers whose accuracies are kept, the one heard last at the end: twice the usual view."""
PEER_POINTS = 32
"""Points of each of their curves."""
EXCHANGES = 100
LOG = 200
TEXT = 300
"""Characters of an event in the log tail: what it names comes from peers."""
TRAFFIC_SECONDS = 1.0
"""Least time between two points of the traffic."""

# What happens all the time, and is shown otherwise.
_USUAL = (Trained, Merged, Published, Exchanged, Served, Evaluated, RoundCompleted, Checkpointed)
_NOT_SHOWN = ("event", "labels", "fingerprint")

Point = dict[str, object]
Heard = Callable[[str], tuple[int, float] | None]
"""From a peer's id to (round, accuracy), as it said last; None if it said nothing."""


class Series:
    """Points of a curve, at most `most`, evenly over its span: every 2^k-th of them, and the newest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._every = 1
        self._count = 0  # of all points there ever were
        self._points: list[Point] = []

    def add(self, point: Point) -> None:
        if self._count and (self._count - 1) % self._every:  # the one that was the newest is none of these
            self._points.pop()
        self._points.append(point)
        self._count += 1
        if len(self._points) > self._most:
            self._every *= 2
            last = self._points[-1]
            self._points = self._points[::2]
            if self._points[-1] is not last:
                self._points.append(last)

    @property
    def last(self) -> Point | None:
        return self._points[-1] if self._points else None

    def since(self, number: int) -> list[Point]:
        return after(self._points, number)


def after(points: Iterable[Point], number: int) -> list[Point]:
    """Those whose `n` is higher."""
    return [point for point in points if int(str(point["n"])) > number]


class History:
    """now: the node's clock.  heard: what peers say of themselves."""

    def __init__(self, now: Callable[[], float], heard: Heard = lambda id: None) -> None:
        self.sequence = 0  # of the newest change
        self.end = trio.Event()  # of the node: who watches need not wait any longer
        self._now = now
        self._heard = heard
        self._began = now()
        self._rounds = Series(ROUNDS)
        self._trained: Trained | None = None
        self._evaluated: Evaluated | None = None
        self._peers: OrderedDict[str, Series] = OrderedDict()
        self._traffic = Series(ROUNDS)
        self._received = self._sent = 0  # bytes of bodies
        self._exchanges: deque[Point] = deque(maxlen=EXCHANGES)
        self._log: deque[Point] = deque(maxlen=LOG)
        self._change: trio.Event | None = None  # while somebody waits for it

    def note(self, event: Event) -> None:
        """Something happened."""
        self.sequence += 1
        match event:
            case Trained():
                self._trained = event
            case Evaluated():
                self._evaluated = event
                if self._trained is None:  # no round is under way: it settles, or is done
                    self._complete(event.round, event.age)
            case RoundCompleted():
                self._complete(event.round, event.age)
            case Exchanged():
                self._moved(event.received, event.sent)
                if event.mode in MODEL_MODES:
                    self._exchanged(event.peer, event.mode, "out", event.received, event.sent, event.outcome)
            case Served():
                self._moved(event.received, event.sent)
                if event.mode in MODEL_MODES and event.peer:
                    self._exchanged(event.peer, event.mode, "in", event.received, event.sent, "ok")
        if not isinstance(event, _USUAL):
            self._log.append(self._point(event=event.kind, text=in_words(event)))
        self._tell()

    def document(self, since: int = 0) -> dict[str, object]:
        """The JSON of /v1/history; since: only what came after the change of this number."""
        peers = [point for series in self._peers.values() for point in series.since(since)]
        return {
            "sequence": self.sequence,
            "seconds": self._seconds(),
            "rounds": self._rounds.since(since),
            "peers": peers,
            "traffic": self._traffic.since(since),
            "received": self._received,
            "sent": self._sent,
            "exchanges": after(self._exchanges, since),
            "log": after(self._log, since),
        }

    async def change(self, since: int) -> None:
        """Wait until something has happened after the change of this number, or the node ends."""
        while self.sequence == since and not self.end.is_set():
            if self._change is None:
                self._change = trio.Event()
            await self._change.wait()

    def close(self) -> None:
        """The node ends."""
        self.end.set()
        self._tell()

    def _tell(self) -> None:
        if self._change is not None:
            self._change.set()
            self._change = None

    def _seconds(self) -> float:
        return round(self._now() - self._began, 3)

    def _point(self, **fields: object) -> Point:
        return {"n": self.sequence, "t": self._seconds(), **fields}

    def _complete(self, round: int, age: float) -> None:
        """A round ended, or a model was evaluated outside of one."""
        trained, evaluated = self._trained, self._evaluated
        self._trained = self._evaluated = None
        self._rounds.add(
            self._point(
                round=round,
                age=age,
                training_loss=None if trained is None else trained.loss,
                loss=None if evaluated is None else evaluated.loss,
                accuracy=None if evaluated is None else evaluated.accuracy,
                balanced_accuracy=None if evaluated is None else evaluated.balanced_accuracy,
            )
        )

    def _moved(self, received: int, sent: int) -> None:
        self._received += received
        self._sent += sent
        last = self._traffic.last
        if last is None or self._seconds() - float(str(last["t"])) >= TRAFFIC_SECONDS:
            self._traffic.add(self._point(received=self._received, sent=self._sent))

    def _exchanged(
        self, peer: str, mode: str, direction: str, received: int, sent: int, outcome: str
    ) -> None:
        self._exchanges.append(
            self._point(
                peer=peer, mode=mode, direction=direction, received=received, sent=sent, outcome=outcome
            )
        )
        said = self._heard(peer)
        if said is None:
            return
        series = self._peers.setdefault(peer, Series(PEER_POINTS))
        self._peers.move_to_end(peer)
        if len(self._peers) > PEERS:
            self._peers.popitem(last=False)
        if series.last is None or (series.last["round"], series.last["accuracy"]) != said:
            series.add(self._point(peer=peer, round=said[0], accuracy=said[1]))


def in_words(event: Event) -> str:
    """An event's fields in one line for people."""
    shown = {key: value for key, value in event.as_dict().items() if key not in _NOT_SHOWN}
    text = " ".join(f"{key}={value}" for key, value in shown.items() if value not in ("", None))
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= TEXT else text[: TEXT - 1] + "…"

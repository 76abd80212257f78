"""Which fault strikes when: a schedule that is told the time and the progress, and says what is due. Pure.

Both engines drive it. Progress is the share of their rounds that the running nodes have completed on average,
so that a scenario strikes at the same stage of training whatever a round takes.
"""

from __future__ import annotations

import csv
import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from netsim.scenario import EventKind, PlannedEvent, Scenario
from netsim.units import (
    Distribution,
    Moment,
    parse_amount,
    parse_distribution,
    parse_duration,
    parse_window,
)
from p2pfl.errors import ConfigError

# What ends what lasts for a while.
_OPPOSITE: dict[str, EventKind] = {"crash": "restart", "hang": "resume", "cut": "heal"}


@dataclass(frozen=True)
class Fault:
    """kind: what happens.  nodes: to whom; the engine leaves out those to whom it cannot happen.

    parts: of a cut.  number: of a cut, and of the heal that ends it; a heal with number 0 ends all cuts.
    """

    kind: EventKind
    nodes: tuple[int, ...] = ()
    parts: tuple[tuple[int, ...], ...] = ()
    number: int = 0


@dataclass(frozen=True)
class _Entry:
    """One thing that will happen. lasting: then its opposite follows.

    churn: it is a node's turn of churn, which draws its next turn itself.
    """

    fault: Fault
    lasting: Moment | None = None
    churn: bool = False


@dataclass(frozen=True)
class Churn:
    """Every node is up and away in turns, both exponentially distributed, within the window.

    uptime, downtime: means in seconds.  rng: of one node.
    """

    uptime: float
    downtime: float
    window: tuple[Moment, Moment]
    rng: Callable[[int], np.random.Generator]


@dataclass
class Schedule:
    """Told `now` (seconds of the run's clock) and `progress` (0 to 1), neither of which ever falls.

    absent: nodes that are not there at the start.
    """

    absent: frozenset[int] = frozenset()
    churn: Churn | None = None
    _timed: list[tuple[float, int, _Entry]] = field(default_factory=list)
    _staged: list[tuple[float, int, _Entry]] = field(default_factory=list)
    _count: Iterator[int] = field(default_factory=itertools.count)
    _generators: dict[int, np.random.Generator] = field(default_factory=dict)

    @property
    def pending(self) -> bool:
        """Whether something is still to come that a run has to wait for: churn's next crash is not."""
        return any(self._matters(entry) for _, _, entry in (*self._timed, *self._staged))

    @property
    def empty(self) -> bool:
        return not self._timed and not self._staged

    @property
    def restarts(self) -> bool:
        """Whether a node may come back, so that its state has to be kept."""
        entries = [entry for _, _, entry in (*self._timed, *self._staged)]
        return any(
            entry.churn or entry.fault.kind == "restart" or (entry.fault.kind == "crash" and entry.lasting)
            for entry in entries
        )

    def next_time(self) -> float | None:
        """When time alone makes something due."""
        return self._timed[0][0] if self._timed else None

    def next_progress(self) -> float | None:
        return self._staged[0][0] if self._staged else None

    def due(self, now: float, progress: float) -> list[Fault]:
        """What strikes now, in order; what follows from it is scheduled."""
        struck: list[Fault] = []
        while True:
            if self._timed and self._timed[0][0] <= now:
                at, _, entry = heapq.heappop(self._timed)
                stage = progress
            elif self._staged and self._staged[0][0] <= progress:
                stage, _, entry = heapq.heappop(self._staged)
                at = now
            else:
                return struck
            if entry.churn:
                struck += self._turn(entry.fault, at, now, progress)
                continue
            struck.append(entry.fault)
            if entry.lasting is not None:
                fault = entry.fault
                opposite = Fault(_OPPOSITE[fault.kind], fault.nodes, (), fault.number)
                if entry.lasting.seconds is not None:
                    self.add(Moment(at + entry.lasting.seconds), opposite)
                else:
                    self.add(Moment(share=min(1.0, stage + (entry.lasting.share or 0.0))), opposite)

    def add(self, at: Moment, fault: Fault, lasting: Moment | None = None, *, churn: bool = False) -> None:
        heap, place = (self._staged, at.share) if at.seconds is None else (self._timed, at.seconds)
        assert place is not None
        heapq.heappush(heap, (place, next(self._count), _Entry(fault, lasting, churn)))

    def start_churn(self, nodes: int, churn: Churn) -> None:
        """Give every node its first turn."""
        self.churn = churn
        for node in range(nodes):
            self._generators[node] = churn.rng(node)
            self._next_turn(Fault("crash", (node,)), 0.0, churn.uptime)

    def _next_turn(self, fault: Fault, after: float, mean: float) -> None:
        wait = float(self._generators[fault.nodes[0]].exponential(mean))
        self.add(Moment(after + wait), fault, churn=True)

    def _turn(self, fault: Fault, at: float, now: float, progress: float) -> list[Fault]:
        """A node's turn of churn: it goes, unless the window is not open; it always comes back."""
        assert self.churn is not None
        if fault.kind == "restart":
            self._next_turn(Fault("crash", fault.nodes), at, self.churn.uptime)
            return [fault]
        start, end = self.churn.window
        if _reached(end, now, progress):
            return []
        if not _reached(start, now, progress):
            self._next_turn(fault, at, self.churn.uptime)
            return []
        self._next_turn(Fault("restart", fault.nodes), at, self.churn.downtime)
        return [fault]

    def _matters(self, entry: _Entry) -> bool:
        return not (entry.churn and entry.fault.kind == "crash")


def _reached(moment: Moment, now: float, progress: float) -> bool:
    return progress >= moment.share if moment.share is not None else now >= (moment.seconds or 0.0)


def plan(
    scenario: Scenario, rng: np.random.Generator, rng_of: Callable[[int], np.random.Generator]
) -> Schedule:
    """All faults of a scenario. rng: for who and when.  rng_of: each node's own, for churn.

    Raises ConfigError for a trace that cannot be read.
    """
    schedule = Schedule()
    _plan_events(schedule, scenario.events)
    _plan_random(schedule, scenario, rng)
    faults = scenario.config.faults
    if faults.uptime is not None:
        schedule.start_churn(
            scenario.config.nodes,
            Churn(
                parse_duration("uptime", faults.uptime),
                parse_duration("downtime", faults.downtime),
                parse_window("window", faults.window),
                rng_of,
            ),
        )
    if faults.trace is not None:
        _plan_trace(schedule, Path(faults.trace), scenario.config.nodes)
    return schedule


def _plan_events(schedule: Schedule, events: Sequence[PlannedEvent]) -> None:
    cuts = itertools.count(1)
    for event in events:
        number = next(cuts) if event.kind == "cut" else 0
        schedule.add(event.at, Fault(event.kind, event.nodes, event.parts, number), event.lasting)
    schedule.absent |= {node for event in events if event.kind == "join" for node in event.nodes}


def _plan_random(schedule: Schedule, scenario: Scenario, rng: np.random.Generator) -> None:
    """Whom chance strikes, as long as there are enough nodes, no two kinds strike the same one."""
    config = scenario.config
    faults = config.faults
    order = [int(node) for node in rng.permutation(config.nodes)]
    taken = itertools.cycle(order)

    def some(key: str, text: str) -> list[int]:
        return [next(taken) for _ in range(parse_amount(key, text, config.nodes))]

    start, end = parse_window("window", faults.window)

    def moment() -> Moment:
        if start.share is not None and end.share is not None:
            return Moment(share=float(rng.uniform(start.share, end.share)))
        return Moment(float(rng.uniform(start.seconds or 0.0, end.seconds or 0.0)))

    def lasting(distribution: Distribution) -> Moment:
        return Moment(distribution.draw(rng))

    crashing = some("crash", faults.crash)
    back = parse_amount("restart", faults.restart, len(crashing))
    restart_after = parse_distribution("restart-after", faults.restart_after, "duration")
    for place, node in enumerate(crashing):
        at = moment()
        schedule.add(at, Fault("crash", (node,)), lasting(restart_after) if place < back else None)
    for node in some("leave", faults.leave):
        schedule.add(moment(), Fault("leave", (node,)))
    late = some("join-late", faults.join_late)
    schedule.absent |= set(late)
    for node in late:
        schedule.add(moment(), Fault("join", (node,)))
    hang_for = parse_distribution("hang-for", faults.hang_for, "duration")
    for node in some("hang", faults.hang):
        at = moment()
        schedule.add(at, Fault("hang", (node,)), lasting(hang_for))


def _plan_trace(schedule: Schedule, path: Path, nodes: int) -> None:
    """CSV lines `node,seconds,on|off`; `#` begins a comment. A node whose first line is `on` comes late."""
    seen: set[int] = set()
    for number, (node, seconds, state) in _trace_lines(path):
        try:
            index, at = int(node), float(seconds)
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: not `node,seconds,on|off`") from error
        if not (0 <= index < nodes and 0 <= at < math.inf and state in ("on", "off")):
            raise ConfigError(
                f"{path}, line {number}: node 0 to {nodes - 1}, seconds from 0, on or off expected"
            )
        if index not in seen and state == "on":
            schedule.absent |= {index}
        seen.add(index)
        schedule.add(Moment(at), Fault("restart" if state == "on" else "crash", (index,)))


def _trace_lines(path: Path) -> Iterator[tuple[int, tuple[str, str, str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.reader(file), 1):
                if not row or row[0].lstrip().startswith("#"):
                    continue
                if len(row) != 3:
                    raise ConfigError(f"{path}, line {number}: not `node,seconds,on|off`")
                yield number, (row[0].strip(), row[1].strip(), row[2].strip())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"cannot read the trace {path}: {error}") from error


Status = Literal["absent", "up", "down", "left"]


def applies(kind: EventKind, status: Status, *, hung: bool) -> bool:
    """Whether a fault can happen to a node in this state; otherwise it is left out."""
    match kind:
        case "crash" | "leave":
            return status == "up"
        case "hang":
            return status == "up" and not hung
        case "resume":
            return status == "up" and hung
        case "restart":
            return status in ("down", "absent")
        case "join":
            return status in ("absent", "left")
    return False

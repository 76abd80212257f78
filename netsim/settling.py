"""What settling is expected to bring about at the end of a run, and what it did: from the journal alone.

The claim: at the end the consensus distance is below CONSENSUS_SHARE of what it was when the last fault had
healed; if none had to heal, of the largest before the last node began to settle. It is made of runs in which
the settle exchanges would do by theory (mixing.py); of the others `Settled.excuse` says why not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from netsim.mixing import contraction
from netsim.population import bootstrap
from netsim.scenario import Scenario
from netsim.topology import neighbours

Line = Mapping[str, Any]  # of the journal

# What ends a fault; the engine measures the distance then.
HEALING = ("restart", "join", "resume", "heal")
# What may be left of the consensus distance.
CONSENSUS_SHARE = 0.1
# The claim is made of a network that would get this far if each exchange were a plain average of two. What
# nodes do is less: several merge at once, in no order, with unequal weights, and some exchanges fail. Half
# the logarithm is left for that.
MIXING_SHARE = 0.01
# ... and if so many exchanges of each node are settling.
SETTLE = 20


@dataclass(frozen=True)
class Settled:
    """excuse: why nothing is claimed of this run; empty if it is.  at: seconds, the end of the run.

    reference: the distance that has to fall.  left: which share of it is left; None: not known.
    """

    excuse: str
    reference: float = 0.0
    left: float | None = None
    at: float = 0.0

    @property
    def breaks(self) -> bool:
        """The claim is made, and does not hold."""
        return not self.excuse and self.left is not None and self.left >= CONSENSUS_SHARE


@dataclass
class _Tail:
    """What the journal says of the time after the last fault.

    struck: when it struck or healed.  healed: the distance when the last one healed; None: not measured yet.
    largest: the largest distance since struck, until the last node began to settle.  settling: since when, of
    those that run; None of those that train.  made: push-pulls of each since then.  met: whose address has
    answered each.  made_before, met_before: the same when the last one began.
    """

    struck: float = 0.0
    healed: float | None = 0.0
    largest: float = 0.0
    final: float | None = None
    end: float = 0.0
    edges: tuple[tuple[int, int], ...] = ()
    settling: dict[int, float | None] = field(default_factory=dict)
    made: dict[int, int] = field(default_factory=dict)
    made_before: dict[int, int] = field(default_factory=dict)
    met: dict[int, set[int]] = field(default_factory=dict)
    met_before: dict[int, frozenset[int]] = field(default_factory=dict)

    @property
    def reference(self) -> float:
        return self.healed or self.largest

    @property
    def begun(self) -> bool:
        """All that run are through with training."""
        return None not in self.settling.values()


def settled(lines: Iterable[Line], scenario: Scenario) -> Settled:
    """What a whole journal of the virtual engine shows."""
    tail = _read(lines)
    excuse = _excuse(tail, scenario)
    left = tail.final / tail.reference if tail.final is not None and tail.reference else None
    return Settled(excuse, tail.reference, left, tail.end)


def _read(lines: Iterable[Line]) -> _Tail:
    tail = _Tail()
    hosts: dict[str, int] = {}  # by url
    for line in lines:
        index, event, now = line["node"], line["event"], line["t"]
        if event == "fault-struck":
            tail.struck, tail.largest = now, 0.0
            if line["fault"] in HEALING:
                tail.healed = None
            if line["fault"] in ("crash", "leave"):
                for gone in line["nodes"]:
                    tail.settling.pop(gone, None)
        elif event == "topology-drawn":
            tail.edges = tuple((first, second) for first, second in line["edges"])
        elif event == "started":
            tail.settling[index], tail.met[index] = None, set()
            hosts[line["url"]] = index
        elif event == "peer-added":
            tail.met[index].add(hosts[line["url"]])
        elif event == "state-changed" and line["state"] == "settling":
            tail.settling[index] = now
            tail.made[index] = 0
            if tail.begun:
                tail.made_before = dict(tail.made)
                tail.met_before = {known: frozenset(others) for known, others in tail.met.items()}
        elif event == "exchanged" and line["mode"] == "push-pull":
            tail.made[index] = tail.made.get(index, 0) + 1
        elif event == "consensus-measured" and line["final"]:
            tail.final = line["distance"]
        elif event == "consensus-measured" and line["distance"] is not None and not tail.begun:
            tail.healed = line["distance"] if tail.healed is None else tail.healed
            tail.largest = max(tail.largest, line["distance"])
        elif event == "run-ended":
            tail.end = now
    return tail


def _excuse(tail: _Tail, scenario: Scenario) -> str:
    """Why settling cannot be expected to bring the models of this run together; empty if it can."""
    if scenario.adversaries:
        return "there are adversaries"
    survivors = sorted(tail.settling)
    if len(survivors) < 2:
        return "fewer than two nodes are left"
    if not tail.begun:
        return "a node trains until the end"
    if min(at for at in tail.settling.values() if at is not None) < tail.struck:
        return "a node began to settle before the last fault was over"
    if not tail.largest:
        return "no distance was measured between the last fault and the settling"
    if min(scenario.gossip_of(index).settle for index in survivors) < SETTLE:
        return f"a node makes fewer than {SETTLE} settle exchanges"
    if robust := [rule for index in survivors if (rule := scenario.gossip_of(index).rule).robust]:
        return f"merging by {robust[0].name} is no averaging"
    callees = _callees(survivors, tail, scenario)
    exchanges = _exchanges(survivors, callees, tail, scenario)
    grown = max(1.0, tail.largest / tail.reference)  # training went on after the healing
    if (left := min(1.0, grown * contraction(callees, _success(scenario), exchanges))) > MIXING_SHARE:
        return f"{exchanges} exchanges over what is left of this graph, on these links, leave {left:.0%}"
    return ""


def _callees(survivors: list[int], tail: _Tail, scenario: Scenario) -> list[list[int]]:
    """Of each survivor, by its place among them: whom it calls.

    On a graph its neighbours; with sampling whom it knew at the start, and whom it met before the last one
    began to settle.
    """
    place = {index: position for position, index in enumerate(survivors) if index not in scenario.nat}
    graph = neighbours(tail.edges, scenario.config.nodes) if tail.edges else None
    found = []
    for index in survivors:
        known = graph[index] if graph else [*bootstrap(scenario, index), *tail.met_before.get(index, ())]
        found.append([place[other] for other in sorted(set(known)) if other in place and other != index])
    return found


def _exchanges(survivors: list[int], callees: list[list[int]], tail: _Tail, scenario: Scenario) -> int:
    """How many settle exchanges each survivor has still to make when the last one begins.

    Who was through before settles again once the last round of a late node reaches it; where nodes know most
    of the others that makes as many as at first. Not so on a sparse graph, where those further away hear of
    it too late, nor of nodes that cannot be called.
    """
    dense = sum(map(len, callees)) > len(survivors) * (len(survivors) - 1) / 2
    late = [index for index in survivors if index in scenario.nat] if dense else survivors
    return min([SETTLE, *(max(0, SETTLE - tail.made_before.get(index, 0)) for index in late)])


def _success(scenario: Scenario) -> float:
    """The probability that request and response of one exchange arrive whole, over the worst link."""
    links = scenario.config.links
    loss = max([links.loss, *(rule.loss or 0.0 for rule in scenario.rules)])
    corruption = max([links.corruption, *(rule.corruption or 0.0 for rule in scenario.rules)])
    return float(((1 - loss) * (1 - corruption)) ** 2)

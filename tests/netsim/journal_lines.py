"""Lines of a run's journal, by hand: a scenario of four nodes, and lives in it."""

from __future__ import annotations

from typing import Any

from netsim.config import SimConfig
from netsim.scenario import Scenario
from netsim.scenario_file import scenario_of
from p2pfl.config import build

Line = dict[str, Any]


def scenario(**keys: object) -> Scenario:
    """4 nodes, a round of 100 samples at 1,000 a second, 20 settle exchanges."""
    flat: dict[str, object] = {"nodes": 4, "rounds": 2, "interval": 0.0, "settle": 20, "speed-jitter": 0.0}
    return scenario_of(build(SimConfig, flat | keys))


def line(t: float, node: int | str, event: str, **values: object) -> Line:
    return {"t": t, "node": node, "event": event, **values}


def started(t: float, node: int, resumed: int = 0) -> Line:
    url = f"http://n{node}"
    return line(t, node, "started", url=url, samples=100, parameters=650, resumed_round=resumed)


def state(t: float, node: int, name: str) -> Line:
    return line(t, node, "state-changed", state=name)


def completed(t: float, node: int, round: int) -> Line:
    return line(t, node, "round-completed", round=round, age=100.0 * round)


def struck(t: float, fault: str, *nodes: int) -> Line:
    return line(t, "-", "fault-struck", fault=fault, nodes=list(nodes), parts=[])


def measured(t: float, distance: float | None, *, final: bool = False) -> Line:
    return line(t, "-", "consensus-measured", distance=distance, final=final)


def ended(t: float, reason: str = "done") -> Line:
    return line(t, "-", "run-ended", nodes=4, reason=reason)


def kept(lines: list[Line]) -> list[Line]:
    return sorted(lines, key=lambda each: float(each["t"]))


def life(node: int, at: float = 0.0) -> list[Line]:
    """A node that does all it has to."""
    return [
        started(at, node),
        state(at + 0.1, node, "training"),
        completed(at + 0.2, node, 1),
        completed(at + 0.3, node, 2),
        state(at + 0.3, node, "settling"),
        state(at + 0.8, node, "done"),
    ]

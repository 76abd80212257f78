"""Each invariant against small journals: one that keeps it, and one for each way to break it."""

from __future__ import annotations

from typing import Any

import pytest

from netsim import invariants
from netsim.config import SimConfig
from netsim.invariants import Violation
from netsim.mixing import contraction
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
    return line(t, node, "started", samples=100, parameters=650, resumed_round=resumed)


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


def of(violations: Any) -> list[tuple[str, float, int | None]]:
    return [(found.invariant, found.at, found.node) for found in violations]


def test_a_run_in_which_all_is_well_breaks_nothing():
    lines = [
        *kept([line_ for node in range(4) for line_ in life(node)]),
        ended(1.0),
        measured(1.0, 0.1, final=True),
    ]
    assert invariants.check(lines, scenario()) == []


def test_a_violation_says_what_where_and_when():
    assert str(Violation("models", 1.5, 3, "lost one")) == "models: at 1.500 s node 3 lost one"
    assert str(Violation("messages", 2.0, None, "lost one")) == "messages: at 2.000 s lost one"


# -- lives


def test_a_node_that_stops_by_itself():
    lines = [*life(0), line(2.0, 0, "stopped", round=2, state="done")]
    assert of(invariants.lives(lines)) == [("lives", 2.0, 0)]


def test_a_node_that_leaves_stops_and_may_come_back():
    stopped = line(1.0, 0, "stopped", round=2, state="done")
    lines = [*life(0), struck(1.0, "leave", 0), stopped, struck(2.0, "join", 0), *life(0, 2.0)]
    assert of(invariants.lives(lines)) == []
    again = [*lines, line(3.0, 0, "stopped", round=2, state="done")]
    assert of(invariants.lives(again)) == [("lives", 3.0, 0)]


def test_a_crashed_node_is_silent_until_it_starts_again():
    lines = [
        *life(0),
        struck(1.0, "crash", 0),
        completed(1.5, 0, 3),
        struck(2.0, "restart", 0),
        *life(0, 2.0),
    ]
    assert of(invariants.lives(lines)) == [("lives", 1.5, 0)]


# -- progress: a round costs 0.1 s, so that 2 s are too long


def test_a_round_that_takes_too_long():
    lines = [started(0, 0), state(0.1, 0, "training"), completed(0.2, 0, 1), completed(2.3, 0, 2), ended(2.3)]
    assert of(invariants.progress(lines, scenario())) == [("progress", 2.3, 0)]


def test_a_round_that_never_ends_is_found_at_the_end_of_the_run():
    lines = [started(0, 0), state(0.1, 0, "training"), completed(0.2, 0, 1), ended(9.0, "time")]
    found = list(invariants.progress(lines, scenario()))
    assert of(found) == [("progress", 9.0, 0), ("progress", 9.0, None)]
    assert found[0].detail == "round 2 takes 8.8 s, at most 2.0 are expected"
    assert found[1].detail == "the run does not end: nodes 0"


@pytest.mark.parametrize(
    ("keys", "most"),
    [
        ({"interval": 1.0}, 22.0),
        ({"speed": "100"}, 20.0),
        ({"stragglers": "100%", "slowdown": 5.0}, 10.0),
        ({"local-epochs": 3, "batch-size": 25}, 6.0),
        ({"local-steps": 2, "batch-size": 25}, 1.0),
    ],
)
def test_the_cost_of_a_round_is_the_scenarios(keys, most):
    for took, expected in ((most - 0.1, 0), (most + 0.1, 1)):
        lines = [started(0, 0), state(0, 0, "training"), completed(took, 0, 1), ended(took)]
        assert len(list(invariants.progress(lines, scenario(**keys)))) == expected


def test_time_spent_hanging_does_not_count():
    lines = [
        started(0, 0),
        state(0, 0, "training"),
        struck(0.05, "hang", 0),
        struck(50.05, "resume", 0),
        completed(51, 0, 1),
    ]
    assert of(invariants.progress([*lines, ended(51)], scenario())) == []
    assert of(invariants.progress([*lines, completed(53.1, 0, 2), ended(53.1)], scenario())) == [
        ("progress", 53.1, 0)
    ]


def test_time_away_does_not_count():
    lines = [*life(0)[:3], struck(0.25, "crash", 0), struck(50, "restart", 0), *life(0, 50.0), ended(52)]
    assert of(invariants.progress(lines, scenario())) == []


def test_a_node_that_waits_or_settles_for_ever():
    lines = [started(0, 0), *life(1)[:-1], ended(20.0, "time")]
    assert of(invariants.progress(lines, scenario())) == [("progress", 20.0, 0), ("progress", 20.0, None)]
    settling = [*life(1)[:-1], ended(2000.0, "time")]
    assert ("progress", 2000.0, 1) in of(invariants.progress(settling, scenario()))


def test_a_run_that_breaks_off():
    assert of(invariants.progress(life(0), scenario())) == [("progress", 0.0, None)]


# -- finite


def test_a_model_that_is_not_finite():
    lines = [
        line(1.0, 2, "diverged", round=1, loss=None),
        line(2.0, 2, "trained", round=2, loss=0.5),
        measured(3.0, None),
    ]
    assert of(invariants.finite(lines)) == [("finite", 1.0, 2), ("finite", 1.0, 2), ("finite", 3.0, None)]


# -- models


def merged(
    t: float, node: int, senders: int, superseded: int = 0, repeated: int = 0, displaced: int = 0
) -> Line:
    return line(
        t,
        node,
        "merged",
        senders=["x"] * senders,
        superseded=superseded,
        repeated=repeated,
        displaced=displaced,
        age=1.0,
        age_before=1.0,
    )


def served(t: float, node: int, mode: str = "push") -> Line:
    return line(t, node, "served", mode=mode)


def exchanged(t: float, node: int, *, got_model: bool = True, mode: str = "push-pull") -> Line:
    return line(t, node, "exchanged", mode=mode, got_model=got_model)


RECEIVED = [
    started(0, 0),
    exchanged(0.05, 0, mode="pull"),  # joining: not for the inbox
    state(0.1, 0, "training"),
    served(0.2, 0),
    served(0.2, 0, "hello"),
    served(0.2, 0, "pull"),
    served(0.2, 0, "push-pull"),
    exchanged(0.3, 0),
    exchanged(0.3, 0, got_model=False),
    exchanged(0.3, 0, mode="pull"),
]


@pytest.mark.parametrize("told", [(4, 0, 0, 0), (1, 1, 1, 1), (1, 0, 3, 0)])
def test_all_models_are_accounted_for(told):
    again = [served(0.5, 0), served(0.6, 0), merged(0.7, 0, 1, 1)]
    assert of(invariants.models([*RECEIVED, merged(0.4, 0, *told), *again])) == []


@pytest.mark.parametrize("told", [(3, 0, 0, 0), (4, 1, 0, 0), (1, 0, 0, 2)])
def test_a_model_that_is_lost_or_made_up(told):
    assert of(invariants.models([*RECEIVED, merged(0.4, 0, *told)])) == [("models", 0.4, 0)]


def test_a_crash_loses_what_waited_to_be_merged():
    lines = [*RECEIVED, struck(0.4, "crash", 0), started(1.0, 0), served(1.1, 0), merged(1.2, 0, 1)]
    assert of(invariants.models(lines)) == []


# -- consensus


def story(final: float, *, healed: float = 0.2, nodes: int = 4) -> list[Line]:
    """A cut heals at `healed`, when models are 2 apart; nodes settle from 0.3 s on."""
    lines = [line_ for node in range(nodes) for line_ in life(node)]
    lines += [struck(0.05, "cut"), struck(healed, "heal"), measured(healed, 2.0), measured(0.25, 1.0)]
    return [*kept(lines), ended(1.0), measured(1.0, final, final=True)]


def test_settling_brings_the_models_together():
    assert of(invariants.consensus(story(0.19), scenario())) == []
    assert of(invariants.consensus(story(0.21), scenario())) == [("consensus", 1.0, None)]


def test_what_was_measured_before_the_healing_is_no_reference():
    lines = kept([*story(0.19), measured(0.01, 100.0)])
    lines = [*[each for each in lines if not each.get("final")], measured(1.0, 1.0, final=True)]
    assert of(invariants.consensus(lines, scenario())) == [("consensus", 1.0, None)]


def test_nothing_is_claimed_if_a_fault_heals_while_nodes_settle():
    assert of(invariants.consensus(story(1.9, healed=0.5), scenario())) == []


def test_nothing_is_claimed_with_fewer_settle_exchanges():
    assert of(invariants.consensus(story(1.9), scenario(settle=19))) == []


def test_nothing_is_claimed_of_a_single_survivor():
    lines = [*story(1.9, nodes=2)]
    lines.insert(-2, struck(0.9, "crash", 0))
    assert of(invariants.consensus(lines, scenario())) == []


@pytest.mark.parametrize(("edges", "claims"), [([(0, 1), (0, 2), (0, 3)], True), ([(0, 1), (2, 3)], False)])
def test_nothing_is_claimed_of_a_graph_that_does_not_hang_together(edges, claims):
    drawn = line(0.0, "-", "topology-drawn", edges=edges)
    found = list(invariants.consensus([drawn, *story(1.9)], scenario(topology="star")))
    assert bool(found) is claims


def test_nothing_is_claimed_where_most_messages_are_lost():
    assert of(invariants.consensus(story(1.9), scenario(loss=0.3))) == [("consensus", 1.0, None)]
    assert of(invariants.consensus(story(1.9), scenario(loss=0.8))) == []


# -- mixing


def complete(n: int) -> list[list[int]]:
    return [[j for j in range(n) if j != i] for i in range(n)]


def ring(n: int) -> list[list[int]]:
    return [[(i - 1) % n, (i + 1) % n] for i in range(n)]


def test_contraction_of_two_nodes_is_one_exchange():
    # Each of the 2 x 1 exchanges averages: nothing is left. Half of them do: sqrt(0.5 ** 2) is.
    assert contraction(complete(2), 1.0, 1) == pytest.approx(0.0, abs=1e-12)
    assert contraction(complete(2), 0.5, 1) == pytest.approx(0.5)


def test_contraction_of_known_graphs():
    # Complete: second eigenvalue 1 - 1/(n - 1).  Ring: 1 - (1 - cos(2 pi/n))/n.
    assert contraction(complete(10), 1.0, 2) == pytest.approx((1 - 1 / 9) ** 10)
    assert contraction(ring(4), 1.0, 1) == pytest.approx((1 - 1 / 4) ** 2)


def test_contraction_is_less_on_a_long_ring_and_none_where_parts_do_not_meet():
    assert contraction(complete(30), 1.0, 20) < 1e-3
    assert contraction(ring(30), 1.0, 20) > 0.5
    assert contraction([[1], [0], [3], [2]], 1.0, 20) == pytest.approx(1.0)
    assert contraction([[1], []], 1.0, 0) == 1.0

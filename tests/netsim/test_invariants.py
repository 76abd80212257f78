"""Each invariant against small journals: one that keeps it, and one for each way to break it."""

from __future__ import annotations

from typing import Any

import pytest

from netsim import invariants
from netsim.invariants import Violation
from netsim.settling import settled
from tests.netsim.journal_lines import (
    Line,
    completed,
    ended,
    kept,
    life,
    line,
    measured,
    scenario,
    started,
    state,
    struck,
)


def of(violations: Any) -> list[tuple[str, float, int | None]]:
    return [(found.invariant, found.at, found.node) for found in violations]


def test_a_run_in_which_all_is_well_breaks_nothing():
    lines = [
        *kept([line_ for node in range(4) for line_ in life(node)]),
        ended(1.0),
        measured(1.0, 0.1, final=True),
    ]
    assert invariants.check(lines, scenario(), settled(lines, scenario())) == []


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


def test_an_honest_node_is_not_refused_for_its_signature():
    def refused(reason: str, peer: str = "n1") -> Line:
        return line(2.0, 0, "rejected", source="", peer=peer, reason=reason, detail="why")

    first, again = {**started(0.0, 1), "id": "n1"}, {**started(1.0, 1), "id": "n1"}
    broken = [("signatures", 2.0, 0)]
    for reason in ("bad-signature", "wrong-key", "missing-signature", "unasked", "replayed"):
        assert of(invariants.signatures([first, refused(reason)], scenario())) == broken, reason
    assert of(invariants.signatures([first, refused("bad-checksum")], scenario())) == []
    assert of(invariants.signatures([first, again, refused("replayed")], scenario())) == []
    doubled = scenario(duplication=0.1)
    assert of(invariants.signatures([first, refused("replayed")], doubled)) == []
    assert of(invariants.signatures([first, refused("bad-signature")], doubled)) == broken


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

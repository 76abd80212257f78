"""What settling has to bring about, of small journals; and the theory that says when."""

from __future__ import annotations

import pytest

from netsim import invariants
from netsim.mixing import contraction
from netsim.scenario import Group, Scenario
from netsim.settling import Settled, settled
from tests.netsim.journal_lines import (
    Line,
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


def story(final: float, *, healed: float = 0.2, nodes: int = 4) -> list[Line]:
    """A cut heals at `healed`, when models are 2 apart; nodes settle from 0.3 s on."""
    lines = [line_ for node in range(nodes) for line_ in life(node)]
    lines += [struck(0.05, "cut"), struck(healed, "heal"), measured(healed, 2.0), measured(0.25, 1.0)]
    return [*kept(lines), ended(1.0), measured(1.0, final, final=True)]


def excuse(lines: list[Line], what: Scenario | None = None) -> str:
    return settled(lines, what or scenario()).excuse


def test_settling_brings_the_models_together():
    seen = settled(story(0.19), scenario())
    assert seen == Settled("", 2.0, pytest.approx(0.095), 1.0)
    assert not seen.breaks
    assert list(invariants.consensus(seen)) == []


def test_a_tenth_of_the_distance_at_the_healing_is_too_much():
    seen = settled(story(0.2), scenario())
    assert seen.breaks
    (found,) = invariants.consensus(seen)
    assert str(found) == "consensus: at 1.000 s 10.0% of the consensus distance 2 is left after settling"


def test_what_was_measured_before_the_healing_is_no_reference():
    lines = kept([*story(0.19), measured(0.01, 100.0)])
    assert settled(lines, scenario()).reference == 2.0


def test_what_was_measured_while_all_settled_is_no_reference():
    lines = kept([*story(0.19), measured(0.5, 100.0)])
    assert settled(lines, scenario()).reference == 2.0


def test_without_healing_the_largest_distance_before_settling_is_the_reference():
    lines = [each for each in story(0.19) if each["event"] != "fault-struck"]
    assert settled(kept([*lines, measured(0.22, 3.0)]), scenario()).reference == 3.0


def test_what_training_adds_after_the_healing_has_to_go_too_and_may_be_too_much():
    assert settled(kept([*story(0.19), measured(0.25, 3.0)]), scenario()) == Settled("", 2.0, 0.095, 1.0)
    assert "leave 100%" in excuse(kept([*story(0.19), measured(0.25, 1e9)]))


@pytest.mark.parametrize("fault", ["heal", "resume", "restart", "join", "crash"])
def test_nothing_is_claimed_if_a_fault_is_over_only_while_nodes_settle(fault):
    lines = kept([*story(1.9), struck(0.5, fault, 3), measured(0.5, 2.0)])
    assert "before the last fault was over" in excuse(lines)


def test_nothing_is_claimed_with_fewer_settle_exchanges():
    assert "fewer than 20" in excuse(story(1.9), scenario(settle=19))


def test_nothing_is_claimed_of_robust_rules():
    assert excuse(story(1.9), scenario(merge="median")) == "merging by median is no averaging"


def test_nothing_is_claimed_of_a_single_survivor():
    lines = [*story(1.9, nodes=2)]
    lines.insert(-2, struck(0.9, "crash", 0))
    assert "fewer than two nodes" in excuse(lines)


def test_nothing_is_claimed_while_a_node_trains():
    lines = [each for each in story(1.9) if not (each["node"] == 3 and each.get("state") == "settling")]
    assert "trains until the end" in excuse(lines)


def test_nothing_is_claimed_if_nobody_measured_in_time():
    lines = [each for each in story(1.9) if each["event"] != "consensus-measured" or each["final"]]
    assert "no distance was measured" in excuse(lines)


@pytest.mark.parametrize(("edges", "claims"), [([(0, 1), (0, 2), (0, 3)], True), ([(0, 1), (2, 3)], False)])
def test_nothing_is_claimed_of_a_graph_that_does_not_hang_together(edges, claims):
    lines = [line(0.0, "-", "topology-drawn", edges=edges), *story(1.9)]
    assert excuse(lines, scenario(topology="star")) == (
        "" if claims else "20 exchanges over what is left of this graph, on these links, leave 100%"
    )


def test_nothing_is_claimed_where_most_messages_are_lost():
    assert excuse(story(1.9), scenario(loss=0.3)) == ""
    assert "leave" in excuse(story(1.9), scenario(loss=0.8))


def late(exchanges: int) -> list[Line]:
    """Node 3 begins to settle when each other node has made so many exchanges."""
    others = [line_ for node in range(3) for line_ in life(node)]
    made = [
        line(0.31 + number / 1000, node, "exchanged", mode="push-pull")
        for node in range(3)
        for number in range(exchanges)
    ]
    own = [started(0.0, 3), state(0.1, 3, "training"), state(0.6, 3, "settling"), state(0.9, 3, "done")]
    lines = kept([*others, *made, *own, measured(0.25, 1.0)])
    return [*lines, ended(1.0), measured(1.0, 0.9, final=True)]


STAR = line(0.0, "-", "topology-drawn", edges=[(0, 1), (0, 2), (0, 3)])


def test_on_a_sparse_graph_only_what_is_left_to_settle_when_the_last_begins_counts():
    star = scenario(topology="star")
    assert excuse([STAR, *late(0)], star) == ""
    assert excuse([STAR, *late(20)], star).startswith("0 exchanges")


def test_who_can_be_called_by_everybody_settles_again():
    assert excuse(late(20)) == ""
    whole = line(0.0, "-", "topology-drawn", edges=[(i, j) for j in range(4) for i in range(j)])
    assert excuse([whole, *late(20)], scenario(topology="complete")) == ""


def test_with_sampling_a_node_calls_whom_it_knew_and_whom_it_met():
    few = scenario(bootstrap=1, nodes=20)
    lines = [line_ for node in range(20) for line_ in life(node)]
    met = [
        line(0.2, node, "peer-added", peer="", url=f"http://n{other}")
        for node in range(20)
        for other in range(20)
        if node != other
    ]
    measures = [measured(0.25, 1.0), ended(1.0), measured(1.0, 0.9, final=True)]
    assert "of this graph" in excuse(kept([*lines, *measures]), few)
    assert excuse(kept([*lines, *met, *measures]), few) == ""


def test_who_cannot_be_called_hears_no_more_once_it_is_through():
    groups = (Group("home", (2,), nat=True),)
    hidden = Scenario(scenario().config, groups)
    assert excuse(late(0), hidden) == ""
    assert excuse(late(20), hidden).startswith("0 exchanges")


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

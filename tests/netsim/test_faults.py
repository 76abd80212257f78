"""The schedule of faults: what is due when, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from netsim.config import SimConfig
from netsim.faults import Fault, Schedule, plan
from netsim.scenario import PlannedEvent, Scenario
from netsim.units import Moment
from p2pfl.config import build
from p2pfl.errors import ConfigError


def planned(*events: PlannedEvent, seed: int = 0, **flat: object) -> Schedule:
    config = build(SimConfig, {"nodes": 10, **flat})
    return plan(
        Scenario(config, events=events),
        np.random.default_rng(seed),
        lambda node: np.random.default_rng((seed, node)),
    )


def test_a_timed_fault_is_due_at_its_time_and_once() -> None:
    schedule = planned(PlannedEvent("crash", Moment(5.0), (3,)))
    assert schedule.next_time() == 5.0
    assert schedule.due(4.9, 1.0) == []
    assert schedule.due(5.0, 0.0) == [Fault("crash", (3,))]
    assert schedule.due(9.0, 1.0) == []
    assert not schedule.pending


def test_a_staged_fault_waits_for_progress() -> None:
    schedule = planned(PlannedEvent("leave", Moment(share=0.3), (1,)))
    assert schedule.next_time() is None
    assert schedule.next_progress() == 0.3
    assert schedule.due(1e9, 0.29) == []
    assert schedule.due(1e9, 0.3) == [Fault("leave", (1,))]


def test_what_lasts_a_while_is_followed_by_its_opposite() -> None:
    schedule = planned(PlannedEvent("hang", Moment(share=0.5), (2,), lasting=Moment(4.0)))
    assert schedule.due(10.0, 0.6) == [Fault("hang", (2,))]
    assert schedule.pending
    assert schedule.next_time() == 14.0
    assert schedule.due(14.0, 0.6) == [Fault("resume", (2,))]


def test_a_cut_lasts_a_share_of_the_rounds_from_where_it_was_planned() -> None:
    parts = ((0, 1), (2, 3))
    schedule = planned(PlannedEvent("cut", Moment(share=0.2), (), parts, Moment(share=0.2)))
    assert schedule.due(1.0, 0.25) == [Fault("cut", (), parts, 1)]
    assert schedule.due(1.0, 0.39) == []
    assert schedule.due(1.0, 0.4) == [Fault("heal", (), (), 1)]


def test_a_stage_that_was_jumped_over_gives_both_ends_in_order() -> None:
    schedule = planned(PlannedEvent("cut", Moment(share=0.2), (), ((0,), (1,)), Moment(share=0.2)))
    assert [fault.kind for fault in schedule.due(1.0, 1.0)] == ["cut", "heal"]


def test_two_cuts_have_numbers_of_their_own() -> None:
    cut = PlannedEvent("cut", Moment(1.0), (), ((0,), (1,)))
    assert [fault.number for fault in planned(cut, cut).due(1.0, 0.0)] == [1, 2]


def drain(schedule: Schedule) -> list[Fault]:
    struck = schedule.due(0.0, 1.0)
    while (at := schedule.next_time()) is not None:
        struck += schedule.due(at, 1.0)
    return struck


def test_random_faults_are_as_many_as_asked_for_and_of_different_nodes() -> None:
    schedule = planned(crash="30%", restart="2", leave="2", hang="1", join_late="2")
    assert schedule.restarts
    late = schedule.absent
    struck = drain(schedule)
    of = {
        kind: [fault.nodes[0] for fault in struck if fault.kind == kind]
        for kind in ("crash", "leave", "hang")
    }
    assert [len(nodes) for nodes in of.values()] == [3, 2, 1]
    everyone = [*of["crash"], *of["leave"], *of["hang"], *late]
    assert len(set(everyone)) == len(everyone) == 8
    assert sum(fault.kind == "restart" for fault in struck) == 2
    assert {fault.nodes[0] for fault in struck if fault.kind == "join"} == late


def test_random_faults_strike_within_the_window() -> None:
    schedule = planned(crash="10", window="20%-30%")
    assert schedule.due(0.0, 0.2 - 1e-9) == []
    assert len(schedule.due(0.0, 0.3)) == 10


def test_equal_seeds_give_equal_schedules_and_others_do_not() -> None:
    flat = {"crash": "5", "restart": "3", "hang": "2"}
    assert drain(planned(seed=1, **flat)) == drain(planned(seed=1, **flat))
    assert drain(planned(seed=1, **flat)) != drain(planned(seed=2, **flat))


def test_churn_takes_turns_within_the_window_and_everybody_comes_back() -> None:
    schedule = planned(uptime="10s", downtime="2s", window="0%-50%")
    assert not schedule.pending, "nothing that a run would have to wait for"
    away: set[int] = set()
    turns = 0
    for now in np.arange(0.0, 200.0, 0.5):
        for fault in schedule.due(float(now), 0.4 if now < 100 else 0.5):
            (node,) = fault.nodes
            assert (node in away) == (fault.kind == "restart")
            away ^= {node}
            turns += fault.kind == "crash"
            assert fault.kind == "restart" or now < 100
    assert away == set()
    assert not schedule.pending
    # 10 nodes, 100 s, a turn of 12 s on average.
    assert 50 < turns < 120


def test_a_trace_is_followed(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("# node,seconds,state\n3,1.5,off\n3,4,on\n7,2,on\n")
    schedule = planned(trace=str(file))
    assert schedule.absent == {7}
    assert drain(schedule) == [Fault("crash", (3,)), Fault("restart", (7,)), Fault("restart", (3,))]


@pytest.mark.parametrize("line", ["3,1.5", "3,soon,off", "10,1,off", "3,-1,off", "3,1,away"])
def test_a_bad_trace_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(f"0,1,off\n{line}\n")
    with pytest.raises(ConfigError, match=r"trace\.csv, line 2: "):
        planned(trace=str(file))


def test_a_missing_trace_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the trace"):
        planned(trace=str(tmp_path / "none.csv"))

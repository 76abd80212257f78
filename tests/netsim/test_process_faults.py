"""Faults on real processes: what is killed, stopped, started again, and what the journal says of it."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from netsim import children, node_process
from netsim.children import Children, free_addresses
from netsim.config import LinksConfig
from netsim.launch import node_configs
from netsim.links import ScenarioLinks
from netsim.node_process import NodeProcess
from netsim.paths import Paths
from netsim.proxy import Proxy
from p2pfl.errors import SimulationError
from tests.netsim.stubs import LONG, STUB, fifo, lines, processes_of, read_lines, run, scenario

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="real node processes need Linux")


def event(kind: str, nodes: str, **more: object) -> dict[str, object]:
    return {"kind": kind, "at": "0s", "nodes": nodes, **more}


def faults(folder: Path) -> list[tuple[str, tuple[int, ...]]]:
    return [(line["fault"], tuple(line["nodes"])) for line in lines(folder, "fault-struck")]


# -- whole runs


def test_a_crashed_node_comes_back_as_itself(tmp_path: Path) -> None:
    outcome = run(scenario(3, {"events": [event("crash", "1", lasting="0s")]}), tmp_path)
    assert faults(tmp_path) == [("crash", (1,)), ("restart", (1,))]
    started = [line for line in lines(tmp_path, "started") if line["node"] == 1]
    assert [line["resumed_round"] for line in started] == [0, 1]
    assert len({line["id"] for line in started}) == 1
    assert list(outcome.weights) == [0, 1, 2]
    assert lines(tmp_path, "run-ended")[0]["nodes"] == 3
    assert processes_of(tmp_path) == []


def test_a_node_that_lost_its_state_comes_back_as_another(tmp_path: Path) -> None:
    crash = {"events": [event("crash", "1", lasting="0s")]}
    run(scenario(2, crash, state="lost"), tmp_path)
    started = [line for line in lines(tmp_path, "started") if line["node"] == 1]
    assert [line["resumed_round"] for line in started] == [0, 0]
    assert len({line["id"] for line in started}) == 2
    assert not list(tmp_path.glob("nodes/*.state"))


def test_an_earlier_runs_state_is_not_found(tmp_path: Path) -> None:
    what = scenario(2, {"events": [event("crash", "1", lasting="0s")]})
    for _ in range(2):
        run(what, tmp_path)
        first, second = (line for line in lines(tmp_path, "started") if line["node"] == 1)
        assert (first["resumed_round"], second["resumed_round"]) == (0, 1)


@pytest.mark.parametrize("kind", ["crash", "leave"])
def test_who_is_gone_is_no_survivor(kind: str, tmp_path: Path) -> None:
    outcome = run(scenario(3, {"events": [event(kind, "0,2")]}), tmp_path)
    assert faults(tmp_path) == [(kind, (0, 2))]
    assert list(outcome.weights) == [1]
    np.testing.assert_array_equal(outcome.weights[1], np.ones(6, np.float32))
    assert lines(tmp_path, "run-ended")[0]["nodes"] == 1
    assert processes_of(tmp_path) == []


def test_who_does_not_leave_when_asked_is_ended_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_STUBBORN", "1")
    monkeypatch.setattr(children, "GRACE", 0.0)
    monkeypatch.setattr(children, "GRACE_PER_CHILD", 0.0)
    outcome = run(scenario(2, {"events": [event("leave", "0")]}), tmp_path)
    assert list(outcome.weights) == [1]
    assert processes_of(tmp_path) == []


def test_all_may_be_gone(tmp_path: Path) -> None:
    outcome = run(scenario(2, {"events": [event("crash", "0-1")]}), tmp_path)
    assert outcome.weights == {}
    assert lines(tmp_path, "run-ended")[0]["nodes"] == 0


def test_a_late_joiner_takes_part(tmp_path: Path) -> None:
    outcome = run(scenario(3, {"events": [event("join", "2")]}), tmp_path)
    assert faults(tmp_path) == [("join", (2,))]
    struck = lines(tmp_path, "fault-struck")[0]
    assert (struck["node"], struck["running"]) == ("-", 2)
    assert list(outcome.weights) == [0, 1, 2]
    assert [line["t"] >= struck["t"] for line in lines(tmp_path, "started") if line["node"] == 2] == [True]


def test_who_left_may_join_again(tmp_path: Path) -> None:
    events = [event(kind, "1") for kind in ("join", "crash", "restart", "leave", "join")]
    outcome = run(scenario(2, {"events": events}), tmp_path)
    assert [kind for kind, _ in faults(tmp_path)] == ["join", "crash", "restart", "leave", "join"]
    assert list(outcome.weights) == [0, 1]


def test_a_node_that_hangs_for_good_is_no_survivor_and_ends_with_the_run(tmp_path: Path) -> None:
    outcome = run(scenario(3, {"events": [event("hang", "1")]}), tmp_path)
    assert faults(tmp_path) == [("hang", (1,))]
    assert list(outcome.weights) == [0, 2]
    assert processes_of(tmp_path) == []


def test_the_run_waits_for_who_resumes_and_for_cuts_to_heal(tmp_path: Path) -> None:
    cut = {"kind": "cut", "at": "0s", "parts": 2, "lasting": "100%"}
    outcome = run(scenario(3, {"events": [event("hang", "1", lasting="100%"), cut]}), tmp_path)
    assert sorted(faults(tmp_path)) == [("cut", ()), ("hang", (1,)), ("heal", ()), ("resume", (1,))]
    assert list(outcome.weights) == [0, 1, 2]


def test_what_cannot_happen_is_left_out(tmp_path: Path) -> None:
    events = [event("restart", "0"), event("crash", "1"), event("hang", "1"), event("leave", "1")]
    run(scenario(2, {"events": events}), tmp_path)
    assert faults(tmp_path) == [("crash", (1,))]


def test_a_node_that_does_not_come_back_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_LOST", "1")
    with pytest.raises(SimulationError, match=r"node 1 ended by itself: exit code 1, .*forgot everything"):
        run(scenario(2, {"events": [event("crash", "1", lasting="0s")]}), tmp_path)
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize(
    ("values", "reason"),
    [({"virtual_time": "1ms"}, "time"), ({"target_accuracy": 0.9}, "accuracy")],
)
def test_a_run_ends_when_it_is_told_to(
    values: dict[str, Any], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_BUSY", "1")
    outcome = run(scenario(2, **values), tmp_path)
    assert lines(tmp_path, "run-ended")[0]["reason"] == reason
    assert list(outcome.weights) == [0, 1]
    assert processes_of(tmp_path) == []


def test_slow_nodes_do_not_hold_up_the_end(tmp_path: Path) -> None:
    outcome = run(scenario(2, stragglers="2", slowdown=20.0), tmp_path)
    assert list(outcome.weights) == [0, 1]
    assert processes_of(tmp_path) == []


# -- one node


@asynccontextmanager
async def one_node(folder: Path, *, slowdown: float = 1.0) -> AsyncIterator[tuple[NodeProcess, trio.Nursery]]:
    """A stub that listens, with nobody else there."""
    (address,) = free_addresses(1, (8470, 8471))
    (config,) = node_configs(scenario(1), [address], (), frozenset(), LONG)
    paths = Paths(ScenarioLinks(LinksConfig(), (), {}, {}, np.random.default_rng))
    with Children() as group, trio.fail_after(LONG):
        async with trio.open_nursery() as nursery:
            node = NodeProcess(
                0,
                replace(config, peers=("http://127.0.0.1:1",)),
                folder=folder,
                command=STUB,
                children=group,
                deadline=LONG,
                keeps=True,
                reseed=lambda life: life,
                slowdown=slowdown,
                proxy=Proxy(0, address, 8470, 8471, {}, paths, lambda event: None),
                connections=nursery,
            )
            node.begin(nursery)
            await node.listens.wait()
            yield node, nursery
            nursery.cancel_scope.cancel()


async def seen(pid: int, flag: int) -> None:
    """Wait until the child has been stopped (WSTOPPED) or goes on (WCONTINUED)."""
    await trio.to_thread.run_sync(os.waitid, os.P_PID, pid, flag)


async def test_a_hung_node_is_stopped_and_goes_on(tmp_path: Path) -> None:
    with fifo(tmp_path) as alive, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUB_ALIVE", str(tmp_path / "alive"))
        async with one_node(tmp_path) as (node, _):
            pid = int(read_lines(alive, 1)[0])
            node.hang()
            await seen(pid, os.WSTOPPED)
            assert node.hung
            node.resume()
            await seen(pid, os.WCONTINUED)
            node.hang()
            await seen(pid, os.WSTOPPED)
            node.crash()
            assert (node.status, node.hung) == ("down", False)


async def test_a_slow_node_stops_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_process, "PERIOD", 0.01)
    with fifo(tmp_path, monkeypatch) as alive:
        async with one_node(tmp_path, slowdown=2.0) as (node, _):
            pid = int(read_lines(alive, 1)[0])
            for flag in (os.WSTOPPED, os.WCONTINUED) * 3:
                await seen(pid, flag)
            node.hang()  # and a hung one does not go on
            await seen(pid, os.WSTOPPED)
            assert node.hung


async def test_new_peers_are_in_the_file_when_the_node_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fifo(tmp_path, monkeypatch) as alive:
        async with one_node(tmp_path) as (node, _):
            read_lines(alive, 1)
            node.set_peers(("http://127.0.0.1:2", "http://127.0.0.1:3"))
            assert read_lines(alive, 1) == ["http://127.0.0.1:2 http://127.0.0.1:3"]


async def test_new_peers_that_come_before_it_listens_are_told_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fifo(tmp_path, monkeypatch) as alive:
        async with one_node(tmp_path) as (node, nursery):
            read_lines(alive, 1)
            node.crash()
            node.begin(nursery)
            node.set_peers(("http://127.0.0.1:2",))  # before the process is there
            await node.listens.wait()
            assert '"http://127.0.0.1:2"' in (tmp_path / "node-0.toml").read_text()
            node.set_peers(("http://127.0.0.1:3",))
            assert read_lines(alive, 2)[1] == "http://127.0.0.1:3"


async def test_each_life_has_the_address_for_itself(tmp_path: Path) -> None:
    """Ended and begun again before the former process is gone, several times."""
    async with one_node(tmp_path) as (node, nursery):
        for _ in range(3):
            node.crash()
            node.begin(nursery)
        await node.listens.wait()
        assert (node.status, node.done) == ("up", False)
        kinds = [found.kind for _, found in node.look()]
        assert kinds.count("started") == 2  # those in between never came to be
        assert (tmp_path / "node-0.jsonl").exists()
        assert (tmp_path / "node-0.4.jsonl").exists()
        assert node.done


async def test_whoever_is_down_refuses(tmp_path: Path) -> None:
    async with one_node(tmp_path) as (node, nursery):
        address = node.url.removeprefix("http://").partition(":")[0]
        stream = await trio.open_tcp_stream(address, 8470)
        await stream.aclose()
        node.crash()
        with trio.CancelScope() as scope:
            while True:  # the process ends in its own time; each try is answered at once
                try:
                    await (await trio.open_tcp_stream(address, 8470)).aclose()
                except OSError:
                    scope.cancel()
                await trio.lowlevel.checkpoint()
        node.begin(nursery)
        await node.listens.wait()
        await (await trio.open_tcp_stream(address, 8470)).aclose()

"""The process engine: what it starts, what it makes of the journals, and that it leaves nothing behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tomllib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netsim import children, guarded, processes, topology
from netsim.children import Children, free_addresses
from netsim.journal import SIMULATOR, read
from netsim.launch import environment, node_configs, to_toml
from netsim.population import bootstrap
from netsim.processes import NODE_COMMAND
from netsim.scenario import Scenario
from p2pfl.config import DataConfig, NodeConfig, build, flatten
from p2pfl.errors import SimulationError
from p2pfl.events import Event, Trained
from tests.netsim.stubs import LONG, STUB, await_gone, fifo, lines, processes_of, read_lines, run, scenario

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="real node processes need Linux")


# -- what nodes are started with


def launched(what: Scenario, absent: frozenset[int] = frozenset()) -> list[NodeConfig]:
    edges = topology.edges(what.config.topology, what.config.nodes, np.random.default_rng(0))
    addresses = [f"127.0.0.{1 + i}" for i in range(what.config.nodes)]
    return node_configs(what, addresses, edges, absent, 90.0)


def test_nodes_get_shards_seeds_and_the_virtual_engines_peers() -> None:
    what = scenario(12, seed=5, rounds=7, partition="dirichlet:0.5", evaluate="end")
    nodes = launched(what)
    urls = [node.advertise for node in nodes]
    assert [node.shard for node in nodes] == [f"{i}/12" for i in range(12)]
    assert len({node.seed for node in nodes}) == 12
    assert [node.peers for node in nodes] == [tuple(urls[j] for j in bootstrap(what, i)) for i in range(12)]
    assert {(node.min_peers, node.wait) for node in nodes} == {(8, 90.0)}
    assert {node.evaluation.evaluate_every for node in nodes} == {0}
    expected = (what.config.data, what.config.training, what.config.gossip)
    assert all((node.data, node.training, node.gossip) == expected for node in nodes)


def test_equal_seeds_make_equal_nodes() -> None:
    first, second = (launched(scenario(3, seed=1)) for _ in range(2))
    assert first == second


def test_nodes_are_called_and_call_at_the_address_at_which_they_listen() -> None:
    for node in launched(scenario(2)):
        assert node.listen == f"{node.call_from}:8471"
        assert node.advertise == f"http://{node.call_from}:8470"


def test_in_a_graph_a_node_knows_its_neighbours_and_nobody_else() -> None:
    nodes = launched(scenario(5, topology="ring"))
    urls = [node.advertise for node in nodes]
    for i, node in enumerate(nodes):
        assert set(node.peers) == {urls[(i + 1) % 5], urls[(i - 1) % 5]}
        assert node.gossip.fixed_peers
        assert node.min_peers == 2


def test_a_group_has_its_own_settings_and_nobody_waits_for_those_behind_a_nat() -> None:
    groups = [{"name": "edge", "nodes": "0-1", "nat": True, "lr": 0.5, "fanout": 1}]
    nodes = launched(scenario(4, {"groups": groups}))
    assert [node.training.lr for node in nodes] == [0.5, 0.5, 0.1, 0.1]
    assert [node.gossip.fanout for node in nodes] == [1, 1, 2, 2]
    hidden = {nodes[0].advertise, nodes[1].advertise}
    assert all(hidden.isdisjoint(node.peers) for node in nodes)
    assert [node.min_peers for node in nodes] == [2, 2, 1, 1]


def test_nobody_waits_for_those_who_come_later_nor_they_for_others() -> None:
    nodes = launched(scenario(3), frozenset({2}))
    assert [node.min_peers for node in nodes] == [1, 1, 0]


@pytest.mark.parametrize("name", ["plain", 'quo"ted \\ and\ttabbed', "naïve 日本 😀"])
def test_a_configuration_survives_its_toml_file(name: str) -> None:
    node = NodeConfig(
        name=name,
        peers=("http://127.0.0.1:1", "http://127.0.0.2:1"),
        seed=2**63 - 1,
        wait=1e-7,
        exit_when_done=True,
        data=DataConfig(classes=(name, "other")),
    )
    assert build(NodeConfig, tomllib.loads(to_toml(flatten(node)))) == node


def test_the_environment_does_not_win_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PFL_DATA", "elsewhere")
    assert environment(NodeConfig())["P2PFL_DATA"] == "elsewhere"
    own = environment(NodeConfig(data=DataConfig(data_dir="here")))
    assert "P2PFL_DATA" not in own
    assert own["OMP_NUM_THREADS"] == "1"


def test_addresses_differ_and_nobody_listens_on_them() -> None:
    addresses = free_addresses(600, (8470, 8471))
    assert len(set(addresses)) == 600
    assert all(address.startswith("127.") for address in addresses)


def test_taken_addresses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_is_free", lambda address, port: not address.endswith(".1"))
    with pytest.raises(SimulationError, match="no free loopback addresses"):
        free_addresses(2, (8470,))


# -- runs of stubs


def test_merges_journals_up_to_the_last_done_and_fetches_the_models(tmp_path: Path) -> None:
    seen: list[tuple[float, Event]] = []
    outcome = run(scenario(3), tmp_path, lambda time, event: seen.append((time, event)))
    found: list[Any] = list(read(tmp_path / "journal.jsonl"))
    times = [line["t"] for line in found]
    assert times == sorted(times)
    assert times[0] >= 0
    for node in range(3):
        of_node = [line for line in found if line["node"] == node]
        assert [line["event"] for line in of_node][:2] == ["served", "started"]
        assert [line["state"] for line in of_node if "state" in line] == ["training", "done"]
    assert (found[-1]["node"], found[-1]["event"]) == (SIMULATOR, "run-ended")
    assert (found[-1]["nodes"], found[-1]["reason"]) == (3, "done")
    assert outcome.ended_at == pytest.approx(found[-1]["t"], abs=1e-6)
    assert outcome.first_job <= outcome.last_merge
    assert outcome.progress == 1.0
    assert list(outcome.weights) == [0, 1, 2]
    for node in range(3):
        np.testing.assert_array_equal(outcome.weights[node], np.full(6, node, np.float32))
    assert sum(isinstance(event, Trained) for _, event in seen) == 3
    assert [time for time, _ in seen if time < 0] == []
    assert processes_of(tmp_path) == []


def test_an_earlier_runs_journals_are_not_merged(tmp_path: Path) -> None:
    run(scenario(2), tmp_path)
    once = (tmp_path / "journal.jsonl").read_text().count("\n")
    run(scenario(2), tmp_path)
    assert (tmp_path / "journal.jsonl").read_text().count("\n") == once


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ({"STUB_CRASH": "1"}, r"node 1 ended by itself: exit code 1, 'p2pfl: error: out of luck'"),
        ({"STUB_DEAD": "0", "STUB_BUSY": "1"}, "node 0 ended by itself: SIGKILL"),
    ],
)
def test_a_node_that_ends_early_ends_the_run_and_all_others(
    behaviour: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in behaviour.items():
        monkeypatch.setenv(name, value)
    with fifo(tmp_path, monkeypatch) as alive:
        with pytest.raises(SimulationError, match=message):
            run(scenario(3), tmp_path)
        await_gone(alive)


def test_nodes_that_ignore_sigterm_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_STUBBORN", "1")
    monkeypatch.setattr(children, "GRACE", 0.0)
    monkeypatch.setattr(children, "GRACE_PER_CHILD", 0.0)
    with fifo(tmp_path, monkeypatch) as alive:
        run(scenario(2), tmp_path)
        assert await_gone(alive).count(b"\n") == 2


def test_an_error_while_watching_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(time: float, event: Event) -> None:
        raise ZeroDivisionError

    monkeypatch.setenv("STUB_BUSY", "1")
    with fifo(tmp_path, monkeypatch) as alive:
        with pytest.raises(BaseExceptionGroup) as caught:
            run(scenario(2), tmp_path, broken)
        assert caught.group_contains(ZeroDivisionError)
        await_gone(alive)


def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match=r"node [01] ended by itself: exit code 1, .*No such file"):
        run(scenario(2), tmp_path, command=["/no/such/program"])


def test_a_program_that_says_something_else_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import signal; print('hello', flush=True); signal.pause()"]
    with pytest.raises(SimulationError, match="says 'hello' instead of where it listens"):
        run(scenario(2), tmp_path, command=command)
    assert processes_of(tmp_path) == []


def test_a_node_that_does_not_listen_in_time_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "START_DEADLINE", 0.0)
    monkeypatch.setattr(processes, "START_DEADLINE_PER_NODE", 0.0)
    with pytest.raises(SimulationError, match=r"node [01] does not listen after 0 seconds"):
        run(scenario(2), tmp_path, command=[sys.executable, "-c", "import signal; signal.pause()"])
    assert processes_of(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "nodes" / "node-1.new").mkdir(parents=True)
    with pytest.raises(SimulationError, match=r"cannot be watched: .*Is a directory"):
        run(scenario(2), tmp_path)


SIMULATOR_PROGRAM = """
import sys
from pathlib import Path
from tests.netsim.stubs import run, scenario

run(scenario(3), Path(sys.argv[1]), command=sys.argv[2:])
"""


@pytest.mark.parametrize(
    ("number", "stopped"),
    [(signal.SIGKILL, False), (signal.SIGKILL, True), (signal.SIGTERM, True), (signal.SIGINT, True)],
)
def test_nodes_die_with_the_simulator(number: signal.Signals, stopped: bool, tmp_path: Path) -> None:
    with fifo(tmp_path) as alive, ExitStack() as stack:
        simulator = subprocess.Popen(
            [sys.executable, "-c", SIMULATOR_PROGRAM, str(tmp_path), *STUB],
            env=os.environ | {"STUB_BUSY": "1", "STUB_ALIVE": str(tmp_path / "alive")},
            stderr=subprocess.PIPE,
        )
        stack.callback(simulator.communicate)
        stack.callback(simulator.kill)
        pids = [int(pid) for pid in read_lines(alive, 3)]
        assert sorted(processes_of(tmp_path)) == sorted([simulator.pid, *pids])
        assert all(os.getpgid(pid) == pid for pid in pids)
        if stopped:  # as hanging nodes are, and slow ones most of the time
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
        simulator.send_signal(number)
        await_gone(alive)
        assert simulator.wait(LONG) == -number
        assert processes_of(tmp_path) == []


def test_a_child_whose_parent_is_gone_before_it_runs_does_not_run(tmp_path: Path) -> None:
    guard = [sys.executable, "-I", "-S", guarded.__file__]
    result = subprocess.run([*guard, "1", "/bin/echo", "I run"], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "the parent is gone\n")


def test_what_a_child_started_ends_with_it(tmp_path: Path) -> None:
    script = f"exec > {tmp_path / 'alive'}; tail -f /dev/null & exit 3"
    with fifo(tmp_path) as alive, Children() as group:
        child = group.start("child", ["/bin/sh", "-c", script], tmp_path / "log", os.environ)
        assert child.wait(LONG)
        poll = select.poll()
        poll.register(alive, select.POLLIN)
        assert poll.poll(0) == []  # the child has ended, what it started goes on
        child.kill()
        await_gone(alive)


# -- a real run


@pytest.mark.xdist_group("nodes")
def test_three_real_nodes_learn_digits(tmp_path: Path) -> None:
    what = scenario(3, rounds=2, interval=0.0, dataset="digits", seed=1)
    outcome = run(what, tmp_path, command=NODE_COMMAND)
    completed = [(line["node"], line["round"]) for line in lines(tmp_path, "round-completed")]
    assert sorted(completed) == [(node, round) for node in range(3) for round in (1, 2)]
    assert lines(tmp_path, "merged")
    assert list(outcome.weights) == [0, 1, 2]
    assert len({len(weights) for weights in outcome.weights.values()}) == 1
    assert all(np.isfinite(weights).all() for weights in outcome.weights.values())
    urls = {line["url"] for line in lines(tmp_path, "started")}
    assert {line["url"] for line in lines(tmp_path, "exchanged")} <= urls
    assert processes_of(tmp_path) == []

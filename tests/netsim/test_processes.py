"""The process engine: what it starts, what it makes of the journals, and that it leaves nothing behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netsim import children, processes
from netsim.children import Children, free_addresses
from netsim.collect import Tail, restore
from netsim.config import SimConfig
from netsim.journal import SIMULATOR, Journal, read
from netsim.processes import ProcessEngine, environment, node_configs, to_toml
from netsim.virtual import bootstrap
from p2pfl.config import DataConfig, NodeConfig, build, flatten
from p2pfl.errors import SimulationError
from p2pfl.events import Event, Exchanged, Started, Trained

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="real node processes need Linux")

STUB = (sys.executable, str(Path(__file__).with_name("stub_node.py")))
LONG = 60.0  # seconds that a healthy machine never needs: a test fails then instead of hanging


def config(nodes: int, **values: object) -> SimConfig:
    return build(SimConfig, {"nodes": nodes, "engine": "process", **values})


def run_stubs(nodes: int, folder: Path, watch: Any = lambda time, event: None) -> Any:
    with Journal(folder / "journal.jsonl") as journal:
        return ProcessEngine(config(nodes), journal, watch, folder, STUB).run()


# -- what nodes are started with


def test_nodes_get_shards_seeds_and_the_virtual_engines_peers(tmp_path: Path) -> None:
    sim = config(12, seed=5, rounds=7, partition="dirichlet:0.5", evaluate="end")
    nodes = node_configs(sim, tmp_path, 90.0)
    urls = [f"http://{node.listen}" for node in nodes]
    assert [node.shard for node in nodes] == [f"{i}/12" for i in range(12)]
    assert len({node.seed for node in nodes}) == 12
    assert [node.peers for node in nodes] == [tuple(urls[j] for j in bootstrap(sim, i)) for i in range(12)]
    assert {(node.min_peers, node.wait) for node in nodes} == {(8, 90.0)}
    assert {node.evaluation.evaluate_every for node in nodes} == {0}
    assert all(
        (node.data, node.training, node.gossip) == (sim.data, sim.training, sim.gossip) for node in nodes
    )


def test_equal_seeds_make_equal_nodes_but_for_their_addresses(tmp_path: Path) -> None:
    first, second = (node_configs(config(3, seed=1), tmp_path, 1.0) for _ in range(2))
    assert [node.seed for node in first] == [node.seed for node in second]


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
    addresses = free_addresses(600, 8470)
    assert len(set(addresses)) == 600
    assert all(address.startswith("127.") for address in addresses)


def test_taken_addresses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_is_free", lambda address, port: not address.endswith(".1"))
    with pytest.raises(SimulationError, match="no free loopback addresses"):
        free_addresses(2, 8470)


# -- journals


def test_events_survive_the_journal() -> None:
    started = Started("i", "n", "u", "t", "m", "f", 3, 2, (1, 1), 0)
    exchanged = Exchanged("push", "p", "u", 1, 2, False, 0.5, "ok")
    assert restore(started.as_dict()) == started
    assert restore(exchanged.as_dict()) == exchanged
    assert restore(Trained(1, 2, 3, float("nan"), 0.5).as_dict()).as_dict()["loss"] is None


@pytest.mark.parametrize("fields", [{"event": "no-such"}, {}, {"event": "trained", "speed": 3}])
def test_an_unknown_event_is_an_error(fields: dict[str, object]) -> None:
    with pytest.raises(SimulationError, match="unknown event"):
        restore(fields)


def test_a_tail_waits_for_whole_lines_and_for_the_start(tmp_path: Path) -> None:
    path = tmp_path / "node.jsonl"
    tail = Tail(path, 4)
    assert list(tail.look()) == []
    started = (
        '"event":"started","id":"","name":"","url":"","task":"","model":"","fingerprint":"","parameters":1,'
    )
    with path.open("w") as file:
        file.write('{"t":1.0,"event":"checkpointed","round":1}\n')
        file.write('{"t":1.5,' + started + '"samples":0,"labels":[],"resumed_round":0}\n{"t":2.5,"eve')
        file.flush()
        assert list(tail.look()) == []
        tail.listens_at = 101.5
        assert [(time, node, event.kind) for time, node, event in tail.look()] == [
            (101.0, 4, "checkpointed"),
            (101.5, 4, "started"),
        ]
        file.write('nt":"checkpointed","round":2}\n')
        file.flush()
        assert [time for time, _, _ in tail.look()] == [102.5]
    assert list(tail.look()) == []


def test_a_damaged_journal_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "node.jsonl"
    path.write_text("nonsense\n")
    with pytest.raises(SimulationError, match=r"node\.jsonl cannot be read"):
        list(Tail(path, 0).look())


# -- runs of stubs


def test_merges_journals_up_to_the_last_done_and_fetches_the_models(tmp_path: Path) -> None:
    seen: list[tuple[float, Event]] = []
    outcome = run_stubs(3, tmp_path, lambda time, event: seen.append((time, event)))
    lines: list[Any] = list(read(tmp_path / "journal.jsonl"))
    assert [line["t"] for line in lines] == sorted(line["t"] for line in lines)
    for node in range(3):
        of_node = [line for line in lines if line["node"] == node]
        assert [line["event"] for line in of_node][:2] == ["served", "started"]
        done = next(line["t"] for line in of_node if line.get("state") == "done")
        trains = next(line["t"] for line in of_node if line.get("state") == "training")
        assert done - trains == pytest.approx(node, abs=1e-5)
    assert (lines[-1]["node"], lines[-1]["event"]) == (SIMULATOR, "run-ended")
    assert outcome.virtual_seconds == pytest.approx(lines[-1]["t"], abs=1e-6)
    assert max(line["t"] for line in lines if line.get("state") == "done") == lines[-1]["t"]
    assert all(line["t"] <= lines[-1]["t"] for line in lines)
    assert outcome.first_job <= outcome.last_merge
    for node in range(3):
        np.testing.assert_array_equal(outcome.weights[node], np.full(6, node, np.float32))
    assert sum(isinstance(event, Trained) for _, event in seen) == 3


def test_an_earlier_runs_journals_are_not_merged(tmp_path: Path) -> None:
    run_stubs(2, tmp_path)
    once = (tmp_path / "journal.jsonl").read_text().count("\n")
    run_stubs(2, tmp_path)
    assert (tmp_path / "journal.jsonl").read_text().count("\n") == once


@contextmanager
def fifo(folder: Path, monkeypatch: pytest.MonkeyPatch | None = None) -> Iterator[int]:
    """The reading end of STUB_ALIVE."""
    path = folder / "alive"
    os.mkfifo(path)
    if monkeypatch is not None:
        monkeypatch.setenv("STUB_ALIVE", str(path))
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield fd
    finally:
        os.close(fd)


def await_gone(fd: int) -> bytes:
    """What stubs wrote to STUB_ALIVE; returns when the kernel has closed it for the last of them."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    said = b""
    while poll.poll(LONG * 1000):
        chunk = os.read(fd, 4096)
        if not chunk:
            return said
        said += chunk
    pytest.fail("a node is left behind")


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
            run_stubs(3, tmp_path)
        await_gone(alive)


def test_nodes_that_ignore_sigterm_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_STUBBORN", "1")
    monkeypatch.setattr(children, "GRACE", 0.0)
    monkeypatch.setattr(children, "GRACE_PER_CHILD", 0.0)
    with fifo(tmp_path, monkeypatch) as alive:
        run_stubs(2, tmp_path)
        assert await_gone(alive).count(b"\n") == 2


def test_an_error_while_watching_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(time: float, event: Event) -> None:
        raise ZeroDivisionError

    monkeypatch.setenv("STUB_BUSY", "1")
    with fifo(tmp_path, monkeypatch) as alive:
        with pytest.raises(BaseExceptionGroup) as caught:
            run_stubs(2, tmp_path, broken)
        assert caught.group_contains(ZeroDivisionError)
        await_gone(alive)


def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        engine = ProcessEngine(config(2), journal, lambda time, event: None, tmp_path, ["/no/such/program"])
        with pytest.raises(SimulationError, match=r"node [01] ended by itself: exit code 1, .*No such file"):
            engine.run()


def test_a_program_that_says_something_else_is_an_error(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        command = [sys.executable, "-c", "import signal; print('hello', flush=True); signal.pause()"]
        engine = ProcessEngine(config(2), journal, lambda time, event: None, tmp_path, command)
        with pytest.raises(SimulationError, match="says 'hello' instead of where it listens"):
            engine.run()


SIMULATOR_PROGRAM = """
import sys
from pathlib import Path
from netsim.config import SimConfig
from netsim.journal import Journal
from netsim.processes import ProcessEngine

folder = Path(sys.argv[1])
with Journal(folder / "journal.jsonl") as journal:
    ProcessEngine(SimConfig(nodes=3), journal, lambda time, event: None, folder, sys.argv[2:]).run()
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGKILL, -signal.SIGKILL),
        (signal.SIGTERM, -signal.SIGTERM),
        (signal.SIGINT, -signal.SIGINT),
    ],
)
def test_nodes_die_with_the_simulator(number: signal.Signals, code: int, tmp_path: Path) -> None:
    with fifo(tmp_path) as alive, ExitStack() as stack:
        simulator = subprocess.Popen(
            [sys.executable, "-c", SIMULATOR_PROGRAM, str(tmp_path), *STUB],
            env=os.environ | {"STUB_BUSY": "1", "STUB_ALIVE": str(tmp_path / "alive")},
            stderr=subprocess.PIPE,
        )
        stack.callback(simulator.communicate)
        stack.callback(simulator.kill)
        poll = select.poll()
        poll.register(alive, select.POLLIN)
        said = b""
        while said.count(b"\n") < 3:
            assert poll.poll(LONG * 1000), "the nodes do not start"
            said += os.read(alive, 4096)
        pids = [int(pid) for pid in said.split()]
        assert all(os.getpgid(pid) == pid for pid in pids)
        simulator.send_signal(number)
        await_gone(alive)
        assert simulator.wait(LONG) == code


def test_a_child_whose_parent_is_gone_before_it_runs_does_not_run(tmp_path: Path) -> None:
    guard = [sys.executable, "-I", "-S", processes.__file__.replace("processes", "guarded")]
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


def test_three_real_nodes_learn_digits(tmp_path: Path) -> None:
    sim = config(3, rounds=2, interval=0.0, dataset="digits", seed=1)
    with Journal(tmp_path / "journal.jsonl") as journal:
        outcome = ProcessEngine(sim, journal, lambda time, event: None, tmp_path).run()
    lines: list[Any] = list(read(tmp_path / "journal.jsonl"))
    completed = [(line["node"], line["round"]) for line in lines if line["event"] == "round-completed"]
    assert sorted(completed) == [(node, round) for node in range(3) for round in (1, 2)]
    assert any(line["event"] == "merged" for line in lines)
    assert [len(weights) for weights in outcome.weights] == [len(outcome.weights[0])] * 3
    assert all(np.isfinite(weights).all() for weights in outcome.weights)

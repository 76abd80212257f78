"""What a user of three terminals relies on, with real processes on loopback."""

import json
import os
import signal
import socket
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.foreign import client as foreign
from tests.p2pfl.network import multicast
from tests.processes.real import nodes, run

# Wherever real nodes run: only a few at a time, however many tests do.
pytestmark = pytest.mark.xdist_group("nodes")

DATA = os.environ.get("P2PFL_DATA")
QUICK = ("--rounds", "3", "--interval", "0", "--settle", "1")

# A node that waits for company that never comes: it serves, and its model is the initial one.
WAITING = ("--min-peers", "9", "--wait", "100000")
# A node in the middle of an epoch that does not end.
ENDLESS = ("--local-epochs", "100000000")


def snapshot(url: str) -> bytes:
    answer = httpx.get(f"{url}/v1/model", trust_env=False)
    assert answer.status_code == 200
    return foreign.read_frame(answer.content)["w"]


def test_two_nodes_without_seeds_start_equal_on_disjoint_shards_and_first_line_means_ready(tmp_path):
    with nodes(tmp_path, ("--shard", "0/2", *WAITING), ("--shard", "1/2", *WAITING)) as (a, b):
        a.wait_listening()
        assert snapshot(a.url)
        b.wait_listening()
        assert snapshot(a.url) == snapshot(b.url)
        first, second = a.status(), b.status()
        assert first["data_fingerprint"] != second["data_fingerprint"]
        assert first["samples"] + second["samples"] == 1438
        assert first["id"] != second["id"]
        assert (first["state"], first["round"], first["accuracy"]) == ("waiting", 0, None)
        assert a.stop() == b.stop() == 0


def test_three_nodes_find_each_other_learn_and_leave_when_all_are_done(tmp_path):
    with nodes(tmp_path, ("--shard", "0/3", *QUICK, "--min-peers", "2", "--exit-when-done")) as (first,):
        url = first.wait_listening()
        company = ("--peers", url, *QUICK, "--min-peers", "2", "--exit-when-done")
        rest = [("--shard", f"{i}/3", *company, "--journal", f"{i}.jsonl") for i in (1, 2)]
        with nodes(tmp_path, *rest) as others:
            for node in (first, *others):
                _, log = node.process.communicate(timeout=120)
                assert node.process.returncode == 0, log
    for i in (1, 2):
        lines = [json.loads(line) for line in Path(tmp_path, f"{i}.jsonl").read_text().splitlines()]
        kinds = [line["event"] for line in lines]
        # One that was too busy to answer for a while is added again.
        assert len({line["peer"] for line in lines if line["event"] == "peer-added"}) == 2
        assert kinds.count("round-completed") == 3
        assert "merged" in kinds
        assert lines[-1]["event"] == "stopped"
        assert lines[-1]["state"] == "done"
        accuracy = [line["accuracy"] for line in lines if line["event"] == "evaluated"]
        assert accuracy[-1] > 0.5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_node_in_an_endless_epoch_with_a_slow_client_connected(tmp_path, number):
    with nodes(tmp_path, ENDLESS) as (node,):
        url = node.wait_listening()
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow:
            head = "POST /v1/exchange HTTP/1.1\r\nHost: x\r\nContent-Type: application/msgpack\r\n"
            slow.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode() + b"\x8f")
            assert node.status()["state"] == "training"
            assert node.stop(number) == 0
        assert "Traceback" not in node.process.stderr.read()


def test_a_killed_node_goes_on_from_its_state_directory_as_itself(tmp_path):
    flags = ("--state-dir", "state", "--interval", "0", "--rounds", "2", "--settle", "0")
    with nodes(tmp_path, flags) as (node,):
        node.wait_listening()
        while node.status()["round"] < 2:
            pass  # each look is a request that the node answers; nothing sleeps
        before = node.status()
        assert node.stop(signal.SIGKILL) == -signal.SIGKILL
    with nodes(tmp_path, (*flags, *WAITING)) as (again,):
        again.wait_listening()
        status = again.status()
        assert status["round"] == 2
        assert (status["id"], status["age"]) == (before["id"], before["age"])
        assert again.stop() == 0


def test_sighup_gives_a_node_the_peers_that_its_file_has_now(tmp_path):
    file = tmp_path / "node.toml"
    serving = ("--fixed-peers", "--rounds", "0", "--evaluate-every", "0", "--local-steps", "1")
    with nodes(tmp_path, ("--name", "a", *serving), ("--name", "b", *serving)) as (a, b):
        file.write_text(f"peers = ['{a.wait_listening()}']\ninterval = 0.1")
        b.wait_listening()
        with nodes(tmp_path, ("--config", str(file), *serving)) as (node,):
            node.wait_listening()
            await_peers(node, "a")
            file.write_text("peers = [")
            node.process.send_signal(signal.SIGHUP)
            assert "the peers stay as they are: " in read_until(node, "SIGHUP")
            file.write_text(f"peers = ['{b.url}']\ninterval = 0.2")
            node.process.send_signal(signal.SIGHUP)
            await_peers(node, "b")
            assert "only peers change in a running node, not interval" in read_until(node, "only peers")
            assert node.stop() == 0
        b.process.send_signal(signal.SIGHUP)
        assert "ignored: there is no configuration file" in read_until(b, "SIGHUP")
        assert a.stop() == b.stop() == 0


@multicast.needed
def test_nodes_find_each_other_on_the_local_network(tmp_path):
    task = f"lan-{os.getpid()}"  # other tests of this machine may be running
    serving = ("--task", task, "--rounds", "0", "--evaluate-every", "0", "--local-steps", "1")
    lan = ("--discover", "mdns", *serving)
    with nodes(tmp_path, ("--name", "a", *lan), ("--name", "b", *lan), ("--name", "c", *serving)) as (
        a,
        b,
        c,
    ):
        for node in (a, b, c):
            node.wait_listening()
        await_peers(a, "b")
        await_peers(b, "a")
        assert c.status()["peers"] == []  # it has not asked to be found
        assert a.stop() == b.stop() == c.stop() == 0


def await_peers(node, *names):
    """Ask the node for its status until the peers that it reached are these; each look is a request."""
    while [peer["name"] for peer in node.status()["peers"] if peer["state"] == "live"] != list(names):
        assert node.process.poll() is None


def read_until(node, word):
    """The next line of the node's log that has this word in it."""
    return next(line for line in node.process.stderr if word in line)


def test_a_foreign_client_takes_part(tmp_path):
    with nodes(tmp_path, (*WAITING, "--model", "softmax")) as (node,):
        url = node.wait_listening()
        theirs = foreign.read_frame(httpx.get(f"{url}/v1/model", trust_env=False).content)
        layout = httpx.get(f"{url}/v1/layout", trust_env=False).json()
        weights = np.ones(layout["size"], "<f4")
        frame = foreign.build_frame(
            layout["task"], layout["fingerprint"], weights, id="foreigner", reply=True
        )
        answer = httpx.post(
            f"{url}/v1/exchange",
            content=frame,
            headers={"Content-Type": "application/msgpack"},
            trust_env=False,
        )
        assert answer.status_code == 200
        reply = foreign.read_frame(answer.content)
        assert reply["w"] == theirs["w"]
        assert reply["id"] == node.status()["id"]
        assert node.status()["rejected"] == {}


@pytest.mark.skipif(DATA is None, reason="set P2PFL_DATA to a folder with MNIST and Fashion-MNIST")
def test_an_mnist_node_and_a_fashion_mnist_node_refuse_each_other(tmp_path):
    few = ("--shard", "0/300", "--rounds", "50", "--interval", "0.2", "--evaluate-every", "0")
    with nodes(tmp_path, ("--dataset", "mnist", *few)) as (mnist,):
        url = mnist.wait_listening()
        with nodes(tmp_path, ("--dataset", "fashion-mnist", "--peers", url, *few)) as (fashion,):
            fashion.wait_listening()
            for node, other in ((mnist, "fashion-mnist"), (fashion, "mnist")):
                while not node.status()["rejected"].get("wrong-task"):
                    assert node.process.poll() is None
                (refusal, *_) = node.status()["refusals"]
                assert other in refusal["detail"]
            (peer,) = fashion.status()["peers"]
            assert (peer["url"], peer["state"]) == (url, "refused")
            assert mnist.status()["peers"] == []
            assert mnist.stop() == fashion.stop() == 0


def test_a_port_in_use_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = run(tmp_path, "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("p2pfl: error: ")
    assert "in use" in line

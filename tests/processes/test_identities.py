"""Identities of real nodes: kept over restarts, on lists of those allowed, and proved to others."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from p2pfl.gossip.identity import Identity
from p2pfl.storage.identity import FILE_NAME, IdentityFile
from tests.foreign import client as foreign
from tests.processes.real import RealNode, nodes

# Wherever real nodes run: only a few at a time, however many tests do.
pytestmark = pytest.mark.xdist_group("nodes")

SERVING = ("--model", "softmax", "--rounds", "0", "--interval", "0.1", "--evaluate-every", "0")
WAITING = ("--model", "softmax", "--min-peers", "9", "--wait", "100000")


def ask_until(node: RealNode, reason: str) -> None:
    """Until the node has refused something for this reason; each look is a request that it answers."""
    while not node.status()["rejected"].get(reason):
        assert node.process.poll() is None


def await_verified(node: RealNode, id: str) -> None:
    while (id, "live", True) not in [(p["id"], p["state"], p["verified"]) for p in node.status()["peers"]]:
        assert node.process.poll() is None


def test_nodes_of_a_list_take_part_also_after_kill_and_restart_and_nobody_else_does(tmp_path: Path) -> None:
    ids = [IdentityFile(folder(tmp_path, name)).make(bytes([n]) * 32).id for n, name in enumerate("abc")]
    (tmp_path / "allow.txt").write_text(f"{ids[0]} Ann\n{ids[1]} # Bob\n")
    strict = ("--allow", "allow.txt", *SERVING)
    with nodes(tmp_path, ("--state-dir", "a", *strict)) as (a,):
        url = a.wait_listening()
        second = ("--state-dir", "b", "--peers", url, *strict)
        with nodes(tmp_path, second) as (b,):
            b.wait_listening()
            await_verified(b, ids[0])
            await_verified(a, ids[1])
            assert b.stop(signal.SIGKILL) == -signal.SIGKILL
        with nodes(tmp_path, second, ("--state-dir", "c", "--peers", url, *SERVING)) as (again, c):
            again.wait_listening()
            assert again.status()["id"] == ids[1]
            await_verified(again, ids[0])
            await_verified(a, ids[1])
            c.wait_listening()
            ask_until(a, "not-allowed")
            # Nobody was taken for a replay of itself.
            assert "replayed" not in a.status()["rejected"]
            (tmp_path / "allow.txt").write_text("\n".join(ids))
            a.process.send_signal(signal.SIGHUP)
            await_verified(c, ids[0])
            assert again.stop() == c.stop() == 0
        assert a.stop() == 0
    assert json.loads((tmp_path / "b" / FILE_NAME).read_text())["incarnation"] == 2


def folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


def test_a_foreign_client_that_signs_takes_part_where_others_may_not(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = foreign.Key(Ed25519PrivateKey.generate())
    with nodes(tmp_path, ("--require-signed", *WAITING)) as (node,):
        url, them = node.wait_listening(), node.status()["id"]
        with httpx.Client(base_url=url, trust_env=False) as http:
            form = {"Content-Type": "application/msgpack"}
            layout = http.get("/v1/layout").json()
            assert http.get("/v1/model").status_code == 403
            plain = foreign.build_hello(layout["task"], layout["fingerprint"])
            answer = http.post("/v1/membership", content=plain, headers=form)
            assert answer.json()["type"] == "urn:p2pfl:signature-required"

            header, asked = foreign.build_pull(bytes(16), key, them)
            pulled = foreign.read_frame(http.get("/v1/model", headers={"P2pfl-Pull": header}).content)
            foreign.expect_answer(pulled, asked, key, them)
            weights = np.ones(layout["size"], "<f4")
            frame = foreign.build_frame(
                layout["task"], layout["fingerprint"], weights, reply=True, key=key, to=them
            )
            reply = foreign.read_frame(http.post("/v1/exchange", content=frame, headers=form).content)
            foreign.expect_answer(reply, frame, key, them)
            again = http.post("/v1/exchange", content=frame, headers=form)
            assert (again.status_code, again.json()["type"]) == (409, "urn:p2pfl:replayed")
        assert node.status()["rejected"] == {"replayed": 1, "signature-required": 2}
        assert (node.status()["signs"], node.status()["requires_signatures"]) == (True, True)
        assert node.stop() == 0


def test_two_starts_without_a_state_directory_are_two_nodes_whatever_the_seed(tmp_path: Path) -> None:
    with nodes(tmp_path, ("--seed", "1", *WAITING), ("--seed", "1", *WAITING)) as (one, two):
        one.wait_listening()
        two.wait_listening()
        assert one.status()["id"] != two.status()["id"]
        assert one.stop() == two.stop() == 0


def test_a_state_directory_that_lost_its_identity_or_has_anothers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--state-dir", "state", *SERVING)
    with nodes(tmp_path, flags) as (node,):
        node.wait_listening()
        assert node.stop() == 0
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "state" / FILE_NAME

    def refusal() -> str:
        """Told before a node begins, so that this needs no process."""
        result = CliRunner().invoke(app, ["node", "start", *flags, "--train-in", "thread"])
        assert (result.exit_code, result.stdout) == (1, "")
        return result.stderr

    mine = file.read_bytes()
    file.unlink()
    assert "there is no identity in state" in refusal()
    IdentityFile(tmp_path / "state").make(bytes(32))
    assert f"holds the identity {Identity(bytes(32)).id} and the state of k" in refusal()
    file.write_bytes(mine[:-20])
    assert "is damaged" in refusal()

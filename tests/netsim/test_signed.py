"""Runs of nodes that sign: the same to the byte, and no node is taken for a replay of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from netsim import invariants
from p2pfl.gossip.identity import is_keyed
from tests.netsim.whole import simulate


def test_keys_come_from_the_seed_and_the_journal_is_the_same_to_the_byte(tmp_path: Path) -> None:
    one, two = (simulate(tmp_path / name, signed=True, gossip="pull") for name in ("one", "two"))
    assert one.journal == two.journal
    ids = [line["id"] for line in one.of("started")]
    assert all(map(is_keyed, ids))
    assert len(set(ids)) == len(ids)
    other = simulate(tmp_path / "other", signed=True, seed=1)
    assert not set(ids) & {line["id"] for line in other.of("started")}
    assert not one.of("rejected")


def test_who_does_not_sign_runs_as_if_nobody_ever_did(tmp_path: Path) -> None:
    run = simulate(tmp_path)
    assert not any(is_keyed(line["id"]) for line in run.of("started"))


@pytest.mark.parametrize("state", ["kept", "lost"])
def test_a_node_that_restarts_is_itself_if_it_kept_its_state(state: str, tmp_path: Path) -> None:
    run = simulate(
        tmp_path, signed=True, crash="2", restart="100%", restart_after="2s", state=state, rounds=6
    )
    starts: dict[int, list[str]] = {}
    for line in run.of("started"):
        starts.setdefault(line["node"], []).append(line["id"])
    again = [ids for ids in starts.values() if len(ids) > 1]
    assert len(again) == 2
    for ids in again:
        assert (len(set(ids)) == 1) == (state == "kept")
    assert not [line for line in run.of("rejected") if line["reason"] != "wrong-receiver"]


def test_requests_that_are_doubled_on_their_way_are_heard_once(tmp_path: Path) -> None:
    run = simulate(tmp_path, signed=True, gossip="push", duplication=0.5, rounds=4)
    refused = [line["reason"] for line in run.of("rejected")]
    assert set(refused) == {"replayed"}
    assert list(invariants.models(run.lines)) == []
    assert not any(line["repeated"] for line in run.of("merged"))

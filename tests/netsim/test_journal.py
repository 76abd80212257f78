"""The journal's lines, and what goes wrong with its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netsim.journal import SIMULATOR, Journal, RunEnded, read
from p2pfl.errors import StorageError
from p2pfl.events import RoundCompleted, Trained
from tests.netsim.whole import simulate


def test_one_line_for_each_event_in_the_order_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.write(0.1 + 0.2, 3, RoundCompleted(1, 64.0))
        journal.write(1.0, SIMULATOR, RunEnded(4, "done"))
    assert path.read_text() == (
        '{"t":0.3,"node":3,"event":"round-completed","round":1,"age":64.0}\n'
        '{"t":1.0,"node":"-","event":"run-ended","nodes":4,"reason":"done"}\n'
    )
    assert [line["event"] for line in read(path)] == ["round-completed", "run-ended"]


def test_what_json_cannot_say_becomes_null(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.write(0.0, 0, Trained(1, 2, 3, float("nan"), 0.5))
    assert [line["loss"] for line in read(path)] == [None]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*journal.jsonl: No such file"):
        Journal(tmp_path / "none" / "journal.jsonl")
    with pytest.raises(StorageError, match=r"cannot read .*journal.jsonl: No such file"):
        list(read(tmp_path / "none" / "journal.jsonl"))


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"t":0.0}\n{"t":0.1,"no\n{"t":0.2}\n')
    with pytest.raises(StorageError, match=r"journal.jsonl, line 2: not JSON"):
        list(read(path))


def test_a_last_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"t":0.0}\n{"t":0.1,"no')
    assert list(read(path)) == [{"t": 0.0}]


def test_a_runs_journal_tells_its_whole_story(tmp_path: Path) -> None:
    run = simulate(tmp_path)
    first, *_ = run.lines
    assert (first["event"], first["node"], first["t"]) == ("run-started", SIMULATOR, 0.0)
    assert first["classes"] == list("0123456789")
    assert (first["config"]["bootstrap"], first["config"]["evaluate"]) == (3, "nodes")  # decided defaults
    times = [line["t"] for line in run.lines]
    assert times == sorted(times)
    assert {line["node"] for line in run.lines} == {0, 1, 2, 3, SIMULATOR}
    kinds = {line["event"] for line in run.lines}
    assert kinds >= {
        "started",
        "state-changed",
        "peer-added",
        "trained",
        "merged",
        "published",
        "exchanged",
        "served",
        "evaluated",
        "round-completed",
        "run-ended",
        "model-evaluated",
        "consensus-measured",
    }
    ids = {line["id"] for line in run.of("started")}
    assert {sender for line in run.of("merged") for sender in line["senders"]} <= ids
    for line in run.of("merged"):
        assert sum(line["weights"]) == pytest.approx(1)
        assert len(line["weights"]) == len(line["senders"]) + 1


def test_every_line_is_json_without_extensions(tmp_path: Path) -> None:
    run = simulate(tmp_path, model="mlp", lr=1e20)  # diverges: losses and models that JSON cannot hold
    assert run.of("diverged")

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    for line in run.journal.splitlines():
        json.loads(line, parse_constant=refuse)

"""The journal of a process whose disk is full, and its persistence: from events to files."""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing

import pytest
import trio

from p2pfl.clock import Clock
from p2pfl.events import Evaluated, RoundCompleted, StateDamaged, Trained
from p2pfl.observing import Observer
from p2pfl.persistence import Persistence
from p2pfl.storage.health import StorageHealth
from p2pfl.storage.journal import JournalFile
from tests.p2pfl.storage.states import checkpoint, file_limit


def test_a_journal_that_cannot_be_written_costs_lines_and_nothing_else(tmp_path, caplog):
    path, health, heard = tmp_path / "node.jsonl", StorageHealth(), []

    async def observe_all():
        journal = JournalFile(path)
        observe = Observer(Clock(), journal, health)
        observe.listeners.append(heard.append)
        observe(RoundCompleted(1, 64.0))
        size = path.stat().st_size
        with file_limit(size + 10):
            for round in (2, 3, 4):
                observe(RoundCompleted(round, 64.0 * round))
        assert health.lost_lines == 3
        observe(RoundCompleted(5, 320.0))
        journal.close()

    with caplog.at_level(logging.WARNING):
        trio.run(observe_all)
    first, torn, lost, last = path.read_text().splitlines()
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        json.loads(torn)
    assert json.loads(first)["round"] == 1
    assert json.loads(lost) == {"t": json.loads(lost)["t"], "event": "lines-lost", "lines": 3}
    assert json.loads(last)["round"] == 5
    assert [event.round for event in heard] == [1, 2, 3, 4, 5]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        f"the journal {path} cannot be written",
        "the journal can be written again, lines=3 are missing",
    ]


def test_figures_go_to_the_database_with_the_checkpoint_and_wait_for_one_that_can_be_written(tmp_path):
    async def rounds():
        kept = Persistence(str(tmp_path), StorageHealth(), lambda event: None)
        for round in (1, 2, 3):
            kept.note(Trained(round, 4, 64, 0.5, 0.25))
            kept.note(Evaluated(round, 64.0 * round, 10, 0.5, 0.9, 0.9, ((1,),)))
            kept.note(RoundCompleted(round, 64.0 * round))
            with file_limit(8192 if round == 2 else 2**30):
                left_out = await kept.save(checkpoint(round=round))
            assert ("state.db" in left_out) == (round == 2)
        kept.close()

    trio.run(rounds)
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        assert connection.execute("SELECT round FROM round").fetchall() == [(1,), (2,), (3,)]
        assert connection.execute("SELECT round FROM evaluation").fetchall() == [(1,), (2,), (3,)]


def test_damage_is_logged_observed_and_shown(tmp_path, caplog):
    for round in (1, 2):
        kept = Persistence(str(tmp_path), StorageHealth(), lambda event: None)
        trio.run(kept.save, checkpoint(round=round))
        kept.close()
    (tmp_path / "checkpoint-2.safetensors").write_bytes(b"")
    (tmp_path / "state.db").write_bytes(b"spoilt" * 999)
    health, seen = StorageHealth(), []
    with caplog.at_level(logging.WARNING):
        kept = Persistence(str(tmp_path), health, seen.append)
    kept.close()
    assert kept.resume is not None
    assert kept.resume.round == health.round == 1
    assert [event.file for event in seen if isinstance(event, StateDamaged)] == [
        "state.db",
        "checkpoint-2.safetensors",
    ]
    assert len(health.damaged) == 2
    assert health.damaged[0] == "state.db: file is not a database"
    assert "file=state.db damaged and set aside: file is not a database" in caplog.records[0].getMessage()
    assert "file=checkpoint-2.safetensors damaged and set aside: " in caplog.records[1].getMessage()

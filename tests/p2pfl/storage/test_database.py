"""The database: what was saved survives kill -9, and damage is found, set aside, and never in the way."""

from __future__ import annotations

import math
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pfl.errors import StorageError
from p2pfl.gossip.messages import KnownPeer
from p2pfl.storage.database import Database
from p2pfl.storage.metrics import EvaluationRow, RoundRow
from tests.p2pfl.storage.states import PEERS, file_limit

OTHERS = (KnownPeer("d" * 16, "http://10.0.0.1:8470", 1, 2),)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database that holds PEERS, and nobody uses it."""
    path = tmp_path / "state.db"
    with closing(Database(path)) as database:
        database.save(PEERS, [row(1), row(2), evaluation(2)])
    return path


@pytest.fixture
def database(file: Path) -> Iterator[Database]:
    with closing(Database(file)) as database:
        yield database


def row(round: int, loss: float = 0.5) -> RoundRow:
    return RoundRow(round, 64.0 * round, 4, 64, loss, 0.25, 3)


def evaluation(round: int, accuracy: float = 0.75) -> EvaluationRow:
    return EvaluationRow(round, 64.0 * round, 100, 0.6, accuracy, 0.7)


def ask(file: Path, query: str) -> list[tuple[Any, ...]]:
    """As another program would, while the node runs or after it."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def test_peers_come_back(database: Database) -> None:
    assert database.peers() == PEERS
    database.save(OTHERS, [])
    assert database.peers() == OTHERS
    assert database.damage == ""


def test_a_new_one_is_empty_and_so_is_one_of_no_peers(tmp_path: Path) -> None:
    for _ in range(2):
        with closing(Database(tmp_path / "state.db")) as database:
            assert database.peers() == ()
            assert database.damage == ""
            database.save((), [])


def test_of_a_peer_that_is_named_twice_the_last_counts(database: Database) -> None:
    twice = (KnownPeer("a", "http://10.0.0.1:1"), KnownPeer("a", "http://10.0.0.2:1"))
    database.save(twice, [])
    assert database.peers() == twice[1:]


def test_figures_can_be_read_while_the_node_runs(database: Database, file: Path) -> None:
    database.save(PEERS, [row(3, math.nan), evaluation(3)])
    rounds = ask(file, "SELECT round, age, steps, samples, loss, seconds, merged FROM round ORDER BY round")
    assert rounds == [tuple(row(1)), tuple(row(2)), (3, 192.0, 4, 64, None, 0.25, 3)]
    evaluations = ask(file, "SELECT round, age, samples, loss, accuracy, balanced_accuracy FROM evaluation")
    assert evaluations == [tuple(evaluation(2)), tuple(evaluation(3))]
    ((at,),) = ask(file, "SELECT at FROM round WHERE round = 3")
    assert len(at) == len("2026-01-31T23:59:59Z")


def test_rounds_after_the_one_that_a_node_resumed_from_are_forgotten(database: Database, file: Path) -> None:
    database.save(PEERS, [row(3), evaluation(3)])
    database.resumed(1)  # it fell back to an older checkpoint
    database.save(PEERS, [row(2, 0.125), evaluation(2, 0.5)])
    database.save(PEERS, [row(3, 0.0625)])
    assert ask(file, "SELECT round, loss FROM round") == [(1, 0.5), (2, 0.125), (3, 0.0625)]
    assert ask(file, "SELECT round, accuracy FROM evaluation") == [(2, 0.5)]


def test_rows_that_are_saved_again_are_there_once(database: Database, file: Path) -> None:
    for _ in range(2):
        database.save(PEERS, [row(3), evaluation(3)])
    assert ask(file, "SELECT round FROM round") == [(1,), (2,), (3,)]
    assert ask(file, "SELECT round FROM evaluation") == [(2,), (3,)]


def test_what_was_saved_survives_kill_9(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    program = (
        "import os, signal, sys; from pathlib import Path; from p2pfl.storage.database import Database\n"
        "from tests.p2pfl.storage.states import PEERS\n"
        f"Database(Path({str(file)!r})).save(PEERS, []); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert file.with_name("state.db-wal").stat().st_size > 0
    with closing(Database(file)) as database:
        assert (database.peers(), database.damage) == (PEERS, "")


def test_every_cut_of_its_log_leaves_the_old_peers_or_the_new(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "state.db"
    copy.parent.mkdir()
    with closing(Database(file)) as database:
        database.save(OTHERS, [row(3)])
        log = file.with_name("state.db-wal").read_bytes()
        shutil.copy(file, copy)
    seen = []
    for length in [*range(0, len(log), 512), len(log)]:
        shutil.copy(copy, tmp_path / "copy" / "cut.db")
        (tmp_path / "copy" / "cut.db-wal").write_bytes(log[:length])
        with closing(Database(tmp_path / "copy" / "cut.db")) as database:
            seen.append(database.peers())
            assert database.damage == ""
    assert set(seen) == {PEERS, OTHERS}
    assert (seen[0], seen[-1]) == (PEERS, OTHERS)


def test_any_damage_is_found_or_does_no_harm(file: Path, tmp_path: Path) -> None:
    whole, rng = file.read_bytes(), np.random.default_rng(4)
    damaged = [whole[: int(length)] for length in rng.integers(1, len(whole), 40)]
    for where in [*range(100), *rng.integers(0, len(whole), 200)]:
        changed = bytearray(whole)
        changed[int(where)] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(changed))
    for start in rng.integers(0, len(whole) - 600, 60):
        damaged.append(whole[:start] + rng.bytes(600) + whole[start + 600 :])
    found = 0
    for number, content in enumerate(damaged):
        copy = tmp_path / str(number) / "state.db"
        copy.parent.mkdir()
        copy.write_bytes(content)
        with closing(Database(copy)) as database:
            peers = database.peers()
            if database.damage:
                found += 1
                assert peers == ()
                assert copy.with_name("state.db.damaged").read_bytes()[100:] == content[100:]
            else:
                assert peers == PEERS
            database.save(OTHERS, [row(3), evaluation(3)])
            assert database.peers() == OTHERS
    assert found > 100


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"")
    with closing(Database(tmp_path / "state.db")) as database:
        assert (database.peers(), database.damage) == ((), "")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE peer SET url = 'http://10.9.9.9:1' WHERE counter = 17", "checksum of its peers"),
        ("UPDATE peer SET url = x'00ff'", "checksum of its peers"),
        ("DELETE FROM peer", "checksum of its peers"),
        ("DELETE FROM sum", "checksum of its peers"),
        ("PRAGMA user_version = 7", "its version is 7"),
        ("ALTER TABLE peer RENAME COLUMN url TO place", "no such column"),
    ],
)
def test_a_database_that_says_something_else_is_set_aside(file: Path, change: str, reason: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(change)
    with closing(Database(file)) as database:
        assert database.peers() == ()
        assert reason in database.damage
        database.save(OTHERS, [])
        assert database.peers() == OTHERS
    assert file.with_name("state.db.damaged").exists()


def test_the_log_of_a_damaged_one_is_not_taken_for_that_of_the_next(file: Path, tmp_path: Path) -> None:
    with closing(Database(file)) as database:
        database.save(OTHERS, [])
        shutil.copy(file.with_name("state.db-wal"), tmp_path / "log")
    shutil.copy(tmp_path / "log", file.with_name("state.db-wal"))
    file.write_bytes(b"spoilt" * 1000)
    with closing(Database(file)) as database:
        assert database.damage
        assert database.peers() == ()


def test_damage_that_shows_while_it_is_used_costs_no_save(database: Database, file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DROP TABLE round")
    database.save(OTHERS, [row(3)])
    assert database.damage == "no such table: round"
    assert database.peers() == OTHERS
    assert ask(file, "SELECT round FROM round") == [(3,)]


def test_another_programs_lock_is_an_error_and_no_damage(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pfl.storage.database.BUSY", 0.0)
    with closing(Database(file)) as database, closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="database is locked"):
            database.save(OTHERS, [])
        other.rollback()
        assert (database.peers(), database.damage) == (PEERS, "")
        database.save(OTHERS, [])
        assert database.peers() == OTHERS


def test_a_full_disk_is_an_error_and_no_damage(database: Database) -> None:
    many = tuple(KnownPeer(f"{number:032x}", "http://10.0.0.1:8470") for number in range(1000))
    with file_limit(8192), pytest.raises(StorageError, match="cannot be used"):
        database.save(many, [])
    assert (database.peers(), database.damage) == (PEERS, "")
    database.save(many, [])
    assert database.peers() == many


def test_a_place_where_no_file_can_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "state.db").mkdir()
    with pytest.raises(StorageError, match=r"state\.db cannot be used: Is a directory"):
        Database(tmp_path / "state.db")

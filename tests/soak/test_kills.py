"""Ten kill -9 during real training, and whether the soak that does a hundred would see what is lost."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from p2pfl.storage.checkpoint import decode, encode
from soak.kills import Known, examine, run


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ten kills left: a state directory, a journal."""
    place = tmp_path_factory.mktemp("kills")
    result = run(10, 4, place)
    assert result.faults == ()
    assert (result.kills, result.lost) == (10, 0)
    assert result.rounds > 10
    assert result.rejoined > 2
    assert "10 kills in " in str(result)
    return place


def newest(place: Path) -> Path:
    return max((place / "state").glob("checkpoint-*"), key=lambda path: int(path.stem.split("-")[1]))


def test_ten_kills_lose_nothing_but_the_round_in_progress(killed: Path) -> None:
    known = examined(killed)
    assert known.faults == []
    assert known.saved > 10


def examined(place: Path) -> Known:
    """As after the last kill, of the whole journal at once: it tells of all the lives."""
    known = Known()
    examine(place, known)
    known.faults = [fault for fault in known.faults if "resumed at" not in fault]
    return known


def flip_a_bit(place: Path) -> None:
    content = bytearray(newest(place).read_bytes())
    content[-1000] ^= 4
    newest(place).write_bytes(content)


def lose_a_save(place: Path) -> None:
    newest(place).unlink()


def lose_all_saves(place: Path) -> None:
    for path in (place / "state").glob("checkpoint-*"):
        path.unlink()


def become_another(place: Path) -> None:
    newest(place).write_bytes(encode(replace(decode(newest(place).read_bytes()), id="another")))


def spoil_the_journal(place: Path) -> None:
    lines = (place / "victim.jsonl").read_bytes().split(b"\n")
    (place / "victim.jsonl").write_bytes(b"\n".join([*lines[:5], lines[5][:20], *lines[6:]]))


def spoil_the_database(place: Path) -> None:
    (place / "state" / "state.db-wal").unlink(missing_ok=True)
    (place / "state" / "state.db").write_bytes(b"spoilt" * 999)


def lose_a_row(place: Path) -> None:
    with closing(sqlite3.connect(place / "state" / "state.db")) as connection, connection:
        connection.execute("DELETE FROM round WHERE round = 3")


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (flip_a_bit, "is damaged: its checksum is wrong"),
        (lose_a_save, "saved round "),
        (lose_all_saves, "0 checkpoints"),
        (become_another, "another id"),
        (spoil_the_journal, "a line of the journal cannot be read"),
        (spoil_the_database, "the database is damaged"),
        (lose_a_row, "a round is missing"),
    ],
)
def test_what_is_lost_is_seen(
    killed: Path, tmp_path: Path, damage: Callable[[Path], None], fault: str
) -> None:
    place = tmp_path / "copy"
    shutil.copytree(killed, place)
    damage(place)
    assert any(fault in told for told in examined(place).faults)

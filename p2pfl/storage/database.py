"""Known peers and figures in SQLite: what is written is there after kill -9, and others may read meanwhile.

    peer        id, url, incarnation, counter: whom the node knew at its last checkpoint
    round       one row of each completed round, evaluation one of each evaluation (storage/metrics.py);
                `at` is when it was written, in UTC
    sum         one row: XXH3-128 over the peers, since SQLite has no checksums

The write-ahead log is synced with every transaction. A database that is damaged is set aside and made anew:
it holds nothing that a node could not do without.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

import xxhash

from p2pfl.errors import StorageError
from p2pfl.gossip.messages import KnownPeer
from p2pfl.storage.atomic import set_aside
from p2pfl.storage.metrics import EvaluationRow, RoundRow, Row

SCHEMA = 1  # SQLite's user_version; raised when a table changes

# Seconds to wait for another program that writes to the database; a save that does not get through is
# done again with the next checkpoint.
BUSY = 2.0

# What the surroundings are to blame for, not the file: see https://sqlite.org/rescode.html, primary codes.
_NOT_DAMAGE = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
)

_TABLES = """
CREATE TABLE IF NOT EXISTS peer (
    id TEXT PRIMARY KEY, url TEXT NOT NULL, incarnation INTEGER NOT NULL, counter INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sum (peers TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS round (
    round INTEGER PRIMARY KEY, age REAL, steps INTEGER, samples INTEGER, loss REAL, seconds REAL,
    merged INTEGER, at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS evaluation (
    round INTEGER, age REAL, samples INTEGER, loss REAL, accuracy REAL, balanced_accuracy REAL,
    at TEXT NOT NULL, PRIMARY KEY (round, age)
) WITHOUT ROWID;
"""

_NOW = "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')"


class Database:
    """May be used from any thread, from one at a time.

    damage: the reason why the file that was there has been set aside, "" if it has not.
    StorageError if the file can be neither used nor set aside.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.damage = ""
        self._resumed: int | None = None  # rows of later rounds have still to be removed
        self._open()

    def peers(self) -> tuple[KnownPeer, ...]:
        """In the order of their ids. A damaged database is set aside: then there are none."""
        try:
            return self._read_peers()
        except sqlite3.Error as error:
            self._recover(error)
            return ()

    def resumed(self, round: int) -> None:
        """The node goes on after this round: the next save removes what is told of later ones."""
        self._resumed = round

    def save(self, peers: Sequence[KnownPeer], rows: Iterable[Row]) -> None:
        """These are the peers now, and these rows are new; a row that is already there is replaced.

        In one transaction. StorageError if it cannot be written; then the database is as it was.
        """
        rows = list(rows)
        try:
            self._save(peers, rows)
        except sqlite3.Error as error:
            self._recover(error)
            try:
                self._save(peers, rows)
            except sqlite3.Error as again:
                raise self._unusable(again) from again

    def close(self) -> None:
        """May be called more than once."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def _open(self) -> None:
        try:
            # Private, as its log and index will be: SQLite gives them the file's own mode.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise self._unusable(error) from error
        try:
            self._connect()
        except sqlite3.Error as error:
            self._recover(error)

    def _connect(self) -> None:
        self._connection = sqlite3.connect(
            self._path, timeout=BUSY, isolation_level=None, check_same_thread=False
        )
        ask = self._connection.execute
        ask("PRAGMA journal_mode=WAL")
        ask("PRAGMA synchronous=FULL")
        (schema,) = ask("PRAGMA user_version").fetchone()
        if schema not in (0, SCHEMA):
            raise sqlite3.DatabaseError(f"its version is {schema}, not {SCHEMA}")
        (found,) = ask("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(str(found))
        self._connection.executescript(f"BEGIN IMMEDIATE;{_TABLES}PRAGMA user_version={SCHEMA};COMMIT;")
        self._read_peers()

    def _read_peers(self) -> tuple[KnownPeer, ...]:
        ask = self._connection.execute
        peers = tuple(map(KnownPeer._make, ask("SELECT id, url, incarnation, counter FROM peer ORDER BY id")))
        sums = ask("SELECT peers FROM sum").fetchall()
        if sums != ([(_sum(peers),)] if sums or peers else []):
            raise sqlite3.DatabaseError("the checksum of its peers is wrong")
        return peers

    def _save(self, peers: Sequence[KnownPeer], rows: list[Row]) -> None:
        ordered = sorted({peer.id: peer for peer in peers}.values())
        rounds = [row for row in rows if isinstance(row, RoundRow)]
        evaluations = [row for row in rows if isinstance(row, EvaluationRow)]
        with self._connection:  # commits, or rolls back
            ask, many = self._connection.execute, self._connection.executemany
            ask("BEGIN IMMEDIATE")
            ask("DELETE FROM peer")
            many("INSERT INTO peer VALUES (?, ?, ?, ?)", ordered)
            ask("DELETE FROM sum")
            ask("INSERT INTO sum VALUES (?)", (_sum(ordered),))
            if self._resumed is not None:
                ask("DELETE FROM round WHERE round > ?", (self._resumed,))
                ask("DELETE FROM evaluation WHERE round > ?", (self._resumed,))
            many(f"INSERT OR REPLACE INTO round VALUES (?, ?, ?, ?, ?, ?, ?, {_NOW})", rounds)
            many(f"INSERT OR REPLACE INTO evaluation VALUES (?, ?, ?, ?, ?, ?, {_NOW})", evaluations)
        self._resumed = None

    def _recover(self, error: sqlite3.Error) -> None:
        """Set a damaged file aside and begin a new one. StorageError if the file is not to blame."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in _NOT_DAMAGE:
            raise self._unusable(error) from error
        self.close()
        try:
            # The log first: one that outlives its database could be taken for that of the next.
            for suffix in ("-wal", "-shm", ""):
                part = self._path.with_name(self._path.name + suffix)
                if part.exists():
                    set_aside(part)
            self._connect()
        except (OSError, sqlite3.Error) as failed:
            raise self._unusable(failed) from failed
        self.damage = str(error)

    def _unusable(self, error: OSError | sqlite3.Error) -> StorageError:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return StorageError(f"the database {self._path} cannot be used: {reason}")


def _sum(peers: Iterable[KnownPeer]) -> str:
    """32 hex digits. peers: in the order of their ids."""
    return xxhash.xxh3_128(json.dumps([list(peer) for peer in peers], default=repr).encode()).hexdigest()

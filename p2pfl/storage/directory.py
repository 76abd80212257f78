"""A node's state directory: the last two checkpoints, the database, and a lock on all of it.

    checkpoint-N.safetensors    N counts saves; the two highest are kept
    state.db                    known peers and figures (database.py), with SQLite's own -wal and -shm
    lock                        held by the process that uses the folder; its number, for people
    *.damaged                   what could not be read and was set aside; nothing reads it again
    *.new                       what a crash left half written; removed at the next start

A save never touches the newest checkpoint: it writes the next beside it, syncs it, renames it, syncs the
folder, and only then removes the oldest. After a crash at any moment at least one whole checkpoint is there,
and it is the one of the last save that returned or a newer one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from p2pfl.errors import StorageError
from p2pfl.storage import atomic
from p2pfl.storage.checkpoint import Checkpoint, Damaged, OtherFormat, decode, encode
from p2pfl.storage.database import Database
from p2pfl.storage.lock import FolderLock
from p2pfl.storage.metrics import Row

KEPT = 2  # checkpoints: one to go on from, one in case that it is damaged

# The only file of p2pfl 0.1's first formats, which this one does not read.
_EARLIER = "checkpoint.safetensors"

_NAME = re.compile(r"checkpoint-(0|[1-9]\d{0,17})\.safetensors")
_LEFTOVER = re.compile(rf"({_NAME.pattern}|probe){re.escape(atomic.NEW)}")

# A disk that fails, or a name that is no file's: damage. Other failures to read are the surroundings'.
_DAMAGE = (errno.EIO, errno.EISDIR, errno.ELOOP)


class Damage(NamedTuple):
    """A file of the state directory was set aside. file: its name, without the folder."""

    file: str
    reason: str


class StateDirectory:
    """Locked for this process from its making to close(). Made if it is not there.

    damage: what has been set aside so far, in that order.
    StorageError if another process holds it, or it cannot be written to, or holds no state that can be used.
    """

    def __init__(self, path: str | Path) -> None:
        self.damage: list[Damage] = []
        self._folder = Path(path)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self._folder / "lock")
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._clean()
            self._probe()
            self._database = Database(self._folder / "state.db")
        except OSError as error:
            self._lock.close()
            raise self._unwritable(error) from error
        except StorageError:
            self._lock.close()
            raise
        self._note_database()

    def load(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, None if there never was one; damaged newer ones are set aside.

        StorageError, and nothing is changed, if none is whole, or one is of another format.
        """
        checkpoint, damaged = newest(self._folder)
        for file, reason in damaged:
            try:
                atomic.set_aside(self._folder / file)
            except OSError as error:
                raise self._unwritable(error) from error
            self.damage.append(Damage(file, reason))
        self._database.resumed(-1 if checkpoint is None else checkpoint.round)
        if checkpoint is None:
            return None
        peers = self._database.peers()
        self._note_database()
        return replace(checkpoint, peers=peers)

    def save(self, checkpoint: Checkpoint, rows: Iterable[Row] = ()) -> str:
        """On the disk when this returns; what could not be kept beside the checkpoint in words, or "".

        rows: figures since the last save; saving some again does no harm. StorageError if the checkpoint
        cannot be written; then the last one is still there, and so is the one before it.
        """
        left_out = ""
        try:
            # Before the checkpoint: a kill between the two leaves a round too many here, which is done again
            # and replaced. The other way round it would be missing for ever.
            self._database.save(checkpoint.peers, rows)
        except StorageError as error:
            left_out = str(error)
        finally:
            self._note_database()
        earlier = _numbers(self._folder)
        number = max(earlier, default=0) + 1
        file = self._folder / _file(number)
        try:
            atomic.replace(file, encode(checkpoint))
        except OSError as error:
            raise StorageError(
                f"the checkpoint {file} cannot be written: {error.strerror}; "
                "the state of the last save is kept"
            ) from error
        for old in sorted(earlier)[: 1 - KEPT]:
            # One that cannot be removed now is removed after the next save.
            with contextlib.suppress(OSError):
                (self._folder / _file(old)).unlink()
        return left_out

    def close(self) -> None:
        """Gives the lock back. May be called more than once."""
        self._database.close()
        self._lock.close()

    def _clean(self) -> None:
        """Remove what a crash left half written: the lock says that nobody writes it now."""
        for file in self._folder.iterdir():
            if _LEFTOVER.fullmatch(file.name):
                file.unlink()

    def _probe(self) -> None:
        """OSError unless a checkpoint of the size of the largest here can be written."""
        files = [self._folder / _file(number) for number in _numbers(self._folder)]
        size = max((file.lstat().st_size for file in files), default=1)
        probe = self._folder / ("probe" + atomic.NEW)
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot tell
                raise
        finally:
            os.close(descriptor)
            probe.unlink()

    def _note_database(self) -> None:
        if self._database.damage:
            self.damage.append(Damage("state.db", self._database.damage))
            self._database.damage = ""

    def _unwritable(self, error: OSError) -> StorageError:
        cure = "free some space, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return StorageError(
            f"the state directory {self._folder} cannot be written to: {error.strerror}; "
            f"{cure}choose another with --state-dir"
        )


def newest(folder: Path) -> tuple[Checkpoint | None, list[Damage]]:
    """The newest whole checkpoint in a folder, without peers, and the damaged ones that are newer.

    Changes nothing and takes no lock: it may be called beside a running node.
    None if there is no checkpoint at all; StorageError if all are damaged, or the newest is not ours to read.
    """
    damaged: list[Damage] = []
    for number in sorted(_numbers(folder), reverse=True):
        file = folder / _file(number)
        try:
            return decode(file.read_bytes()), damaged
        except FileNotFoundError as error:
            if number not in _numbers(folder):
                return newest(folder)  # a running node has just removed it, so there is a newer one
            damaged.append(Damage(file.name, error.strerror or str(error)))
        except Damaged as error:
            damaged.append(Damage(file.name, str(error)))
        except OtherFormat as error:
            raise StorageError(
                f"{file} has format {str(error)!r}, which this p2pfl does not read; "
                "use the p2pfl that wrote it, or another --state-dir"
            ) from error
        except OSError as error:
            if error.errno not in _DAMAGE:
                raise StorageError(f"{file} cannot be read: {error.strerror}") from error
            damaged.append(Damage(file.name, error.strerror or str(error)))
    if damaged:
        found = "; ".join(f"{file}: {reason}" for file, reason in damaged)
        raise StorageError(
            f"no checkpoint in {folder} is whole ({found}); nothing was changed; "
            "delete them to start afresh, or use another --state-dir"
        )
    if (folder / _EARLIER).exists():
        raise StorageError(
            f"{folder / _EARLIER} is of an earlier p2pfl, which this one does not read; "
            "use that one, or another --state-dir"
        )
    return None, []


def _numbers(folder: Path) -> list[int]:
    """Of the checkpoints in a folder. StorageError if it cannot be read."""
    try:
        names = [file.name for file in folder.iterdir()]
    except OSError as error:
        raise StorageError(f"the state directory {folder} cannot be read: {error.strerror}") from error
    return [int(match[1]) for name in names if (match := _NAME.fullmatch(name))]


def _file(number: int) -> str:
    return f"checkpoint-{number}.safetensors"

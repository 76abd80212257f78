"""Events as JSON lines in a file that is only ever appended to."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2pfl.errors import StorageError


def to_line(record: Mapping[str, object]) -> str:
    """One record as one line of JSON without spaces, newline included. NaN and infinity become null.

    Equal records give equal lines: keys stay in the record's order.
    """
    try:
        return json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n"
    except ValueError:  # a loss that diverged; JSON has no such number
        return json.dumps(_finite(record), separators=(",", ":"), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class JournalFile:
    """Appends records to a file; each is in the kernel's hands when append() returns, in one piece.

    A last line that a crash or a full disk cut short is ended first, so that it spoils no other.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        try:
            self._file = self._path.open("a+b", buffering=0)
            size = self._file.tell()
            if size > 0:
                self._file.seek(-1, os.SEEK_END)
            self._torn = size > 0 and self._file.read(1) != b"\n"
        except OSError as error:
            raise self._unwritable(error) from error

    def append(self, record: Mapping[str, object]) -> None:
        """StorageError if the line cannot be written whole, for instance because the disk is full."""
        line = to_line(record).encode()
        if self._torn:
            line = b"\n" + line
        try:
            written = self._file.write(line)
        except OSError as error:
            raise self._unwritable(error) from error
        if written:
            self._torn = line[written - 1 : written] != b"\n"
        if written != len(line):
            raise self._unwritable(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def close(self) -> None:
        """May be called more than once. StorageError if the last bytes cannot be written."""
        try:
            self._file.close()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> StorageError:
        return StorageError(
            f"the journal {self._path} cannot be written: {error.strerror}; choose another file"
        )

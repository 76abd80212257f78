"""Files that are whole or as they were: whatever happens while one is written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

NEW = ".new"  # ends the name of what is not whole yet
DAMAGED = ".damaged"  # ends the name of what was set aside


def replace(path: Path, content: bytes, mode: int = 0o600) -> None:
    """`path` holds `content`, on the disk, when this returns; after a crash at any moment, the old or new.

    Private to the user, unless `mode` says otherwise: weights tell of the data, and keys are secret.
    After an OSError `path` is as it was.
    A crash may leave a file of the same name with NEW at its end, which means nothing.
    """
    new = path.with_name(path.name + NEW)
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)  # on a full disk half a file takes what others need
        raise
    sync_folder(path.parent)  # else a power cut may undo the rename


def set_aside(path: Path) -> Path:
    """Rename a damaged file (or folder), over nothing that is there; returns its new path."""
    kept = path.with_name(path.name + DAMAGED)
    number = 2
    while kept.exists() or kept.is_symlink():
        kept = path.with_name(f"{path.name}{DAMAGED}-{number}")
        number += 1
    path.rename(kept)
    sync_folder(path.parent)
    return kept


def sync_folder(folder: Path) -> None:
    """What was made, renamed or removed in `folder` is on the disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Files that are whole or as they were: whatever happens while one is written."""

from __future__ import annotations

import os
from pathlib import Path


def replace(path: Path, content: bytes) -> None:
    """`path` holds `content`, on the disk, when this returns; after a crash at any moment, the old or new.

    Private to the user: weights tell of the data, and keys are secret. After an OSError `path` is as it was.
    """
    new = path.with_name(path.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
    sync_folder(path.parent)  # else a power cut may undo the rename


def sync_folder(folder: Path) -> None:
    """What was made, renamed or removed in `folder` is on the disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

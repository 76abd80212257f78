"""What an audit leaves: a PNG of originals beside reconstructions, and its figures as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from p2pfl.audit.leak import Leak
from p2pfl.audit.sheet import png
from p2pfl.errors import StorageError
from p2pfl.storage import atomic


def folder(path: Path) -> Path:
    """`path`, made if need be; before anything slow. Raises StorageError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {path}: {error.strerror}") from error
    return path


def write(leak: Leak, picture: Path, figures: Path) -> dict[str, Any]:
    """Returns the figures as written, with the picture's path. Raises StorageError."""
    found = leak.as_dict() | {"picture": str(picture)}
    put(picture, png(leak.originals, leak.shown))
    put(figures, (json.dumps(found, indent=1) + "\n").encode())
    return found


def put(file: Path, content: bytes) -> None:
    """Private to the user: pictures of training data are secret. Raises StorageError."""
    try:
        atomic.replace(file, content)
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror}") from error

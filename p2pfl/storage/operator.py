"""What a state directory keeps for whoever operates the node: the token, and what was set while it ran."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from p2pfl.errors import StorageError
from p2pfl.storage import atomic

TOKEN_FILE = "control-token"
CONTROLS_FILE = "controls.json"
FORMAT = 1  # raised whenever an older p2pfl could not read the file, or would read it wrongly


def keep_token(folder: str | Path, text: str) -> None:
    """Readable by its owner alone. StorageError."""
    _write(Path(folder) / TOKEN_FILE, f"{text}\n".encode())


def read_controls(folder: str | Path) -> dict[str, object]:
    """What keep_controls() was given last; empty if it never was. StorageError if it cannot be read."""
    file = Path(folder) / CONTROLS_FILE
    try:
        document = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
        raise StorageError(
            f"{file}, what was set while the node ran, is damaged or of another p2pfl; "
            "delete it to start with what flags and file say"
        )
    return document


def keep_controls(folder: str | Path, document: Mapping[str, object]) -> None:
    """On the disk when it returns. StorageError; then the former are still there."""
    text = json.dumps({"format": FORMAT, **document}, indent=1) + "\n"
    _write(Path(folder) / CONTROLS_FILE, text.encode())


def _write(file: Path, content: bytes) -> None:
    try:
        atomic.replace(file, content)
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror}; it is as it was") from error

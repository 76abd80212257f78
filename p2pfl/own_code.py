"""A user's own code, named `package.module:name` in a configuration."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def is_named(text: str) -> bool:
    """Whether it is written as such a name; nothing is imported."""
    module, colon, name = text.partition(":")
    return bool(colon) and name.isidentifier() and all(part.isidentifier() for part in module.split("."))


def find(text: str) -> object:
    """Import it, also from the current folder. ImportError, in one line, whatever the import came to."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # an installed command does not look in the current folder, its user does
    module, _, name = text.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # importing runs the user's code
        raise ImportError(one_line(error)) from error


def one_line(error: Exception) -> str:
    """`ValueError: what it says`, as it fits into a message of ours."""
    return " ".join(f"{type(error).__name__}: {error}".split())

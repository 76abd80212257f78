"""Merging by a function of the user's: `--merge package.module:function`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from p2pfl import own_code
from p2pfl.errors import ConfigError
from p2pfl.gossip.merge.mean import Change
from p2pfl.gossip.messages import Vector

Function = Callable[[list[Vector]], Vector]
"""k >= 2 vectors, (P,) float32, the node's own first, not to be modified -> the merged one, (P,)."""


@cache
def imported(function: str) -> Function:
    """ConfigError if there is no such function."""
    try:
        found = own_code.find(function)
    except ImportError as error:
        raise ConfigError(f"merge {function} cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigError(f"merge {function}: {function.partition(':')[2]} is not a function")
    return found


def merge_by(function: str, vectors: Sequence[Vector], change: Change | None) -> Vector:
    """What it makes of them, (P,) float32, with the change added. ConfigError if it fails or gives none."""
    own = vectors[0]
    try:
        found = imported(function)([_guarded(vector) for vector in vectors])
        merged = np.array(found, np.float32)  # a copy: it may have given back one of them
    except ConfigError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise ConfigError(f"merge {function} failed: {own_code.one_line(error)}") from error
    if merged.shape != own.shape:
        raise ConfigError(f"merge {function} gave {merged.shape}, not one vector of {own.shape}")
    if change is not None:
        after, before = change
        merged += after - before
    return merged


def _guarded(vector: Vector) -> Vector:
    """The same numbers, which nobody can write to."""
    view = vector.view()
    view.flags.writeable = False
    return view

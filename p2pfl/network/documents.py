"""Values as JSON, which has no NaN and no infinity."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping


def finite(value: object) -> object:
    """A value for JSON: null instead of what is not finite, as a diverged node's loss is."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [finite(member) for member in value]
    return value


def encoded(value: object) -> bytes:
    """One line of JSON."""
    return json.dumps(finite(value), separators=(",", ":"), allow_nan=False).encode()

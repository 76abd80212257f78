"""How a part of the soak is to be run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SECONDS = 600.0
"""No part takes longer."""


@dataclass(frozen=True)
class Options:
    """seconds: of a part that lasts as long as it is told to.  small: what CI runs.

    folder: for what the parts' processes write.
    """

    folder: Path
    seconds: float = SECONDS
    small: bool = False
    seed: int = 0

"""Presets of a node's options, by name: `--profile edge`. What is given explicitly wins over a preset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Profile = Literal["none", "edge"]

# A small device on a slow or dear link. What each costs and saves is in docs/benchmarks.md.
EDGE: Mapping[str, object] = {
    "threads": 1,
    "train_in": "thread",  # a second process would hold a second copy of what it touches
    "codec": "f16",  # half the bytes
    "fanout": 1,
    "interval": 30.0,
    "probe_interval": 10.0,
    "view_size": 16,
    "evaluate_every": 5,
    "evaluate_samples": 1000,
    "checkpoint_every": 5,  # flash wears out
    "bytes_per_hour": 100_000_000,
    "metered": "auto",
}

PROFILES: Mapping[str, Mapping[str, object]] = {"none": {}, "edge": EDGE}

"""Whole simulated runs on the handwritten digits, as small as they can be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

import netsim.run
from netsim import report
from netsim.config import SimConfig
from netsim.population import Device
from p2pfl.config import build

IMAGES = 1438  # training images of the digits
HELD_OUT = 359


@dataclass(frozen=True)
class WholeRun:
    """What a run returned and left."""

    summary: dict[str, Any]
    folder: Path

    @property
    def journal(self) -> bytes:
        return (self.folder / "journal.jsonl").read_bytes()

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.journal.splitlines()]

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        """The journal's lines of these events."""
        return [line for line in self.lines if line["event"] in kinds]

    def final_accuracies(self) -> list[float]:
        """Of the nodes that were evaluated after the run."""
        return [
            line["accuracy"] for line in self.of("model-evaluated") if line["final"] and line["of"] == "node"
        ]


def simulate(folder: Path, devices: Sequence[Device] | None = None, **flat: object) -> WholeRun:
    """netsim.run.run without its pictures. flat: keys of SimConfig; by default 4 nodes, softmax, 2 rounds."""
    small = {"nodes": 4, "model": "softmax", "rounds": 2, "workers": 2, "out": str(folder)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw", lambda journal, out: [])
        summary = netsim.run.run(build(SimConfig, small | flat), devices)
    return WholeRun(summary, folder)

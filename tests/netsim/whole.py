"""Whole simulated runs on the handwritten digits, as small as they can be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import netsim.run
from netsim.config import SimConfig
from netsim.scenario_file import scenario_of
from netsim.units import quantities_as_text
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


def simulate(
    folder: Path, tables: Mapping[str, Sequence[Mapping[str, object]]] | None = None, **flat: object
) -> WholeRun:
    """netsim.run.run without its report. flat: keys of SimConfig; by default 4 nodes, softmax, 2 rounds.

    tables: of a scenario file, by their names in Scenario.tables.
    """
    small = {"nodes": 4, "model": "softmax", "rounds": 2, "workers": 2, "out": str(folder)}
    config = build(SimConfig, quantities_as_text(SimConfig, small | flat))
    return WholeRun(netsim.run.run(scenario_of(config, tables), draw=False), folder)

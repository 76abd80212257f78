"""What to simulate: how many nodes, over which network, and the configuration that real nodes take too."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from p2pfl.config import (
    DataConfig,
    EvaluationConfig,
    GossipConfig,
    TrainingConfig,
    check,
    group,
    option,
)
from p2pfl.errors import ConfigError

Engine = Literal["virtual", "process"]
EvaluateMode = Literal["nodes", "sample", "mean", "end"]

# Up to this many nodes each is evaluated by default; of more, a random sample of as many.
EVALUATED_NODES = 50

# How many others a node knows at the start, if there are as many.
BOOTSTRAP = 8

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}


def parse_duration(key: str, text: str) -> float:
    """ "20ms" -> 0.02 seconds; units us, ms, s, min; a bare number is seconds. ConfigError otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s|min)?", text.strip())
    if match is None:
        raise ConfigError(f"{key} {text!r} is not a duration; for example 20ms, 1.5s or 2min")
    seconds = float(match[1]) * _UNITS[match[2] or "s"]
    check(seconds < float("inf"), f"{key} is too long")
    return seconds


@dataclass(frozen=True, kw_only=True)
class SimConfig:
    """One simulated run. Determined, byte for byte, by these values alone."""

    nodes: int = option(20, "How many nodes.")
    bootstrap: int | None = option(
        None, f"Random other nodes that each node knows at the start. [default: {BOOTSTRAP}, or all]"
    )
    latency: str = option("20ms", "One-way delay of every message (virtual engine), e.g. 20ms.")
    speed: float = option(1000.0, "Samples that a device trains in a second (virtual engine).")
    seed: int = option(0, "Seed of everything random except the split and the initial weights.")
    workers: int | None = option(None, "Processes that train and evaluate. [default: the cores]")
    engine: Engine = option("virtual", "virtual: in virtual time; process: real node processes on loopback.")
    evaluate: EvaluateMode | None = option(
        None,
        "nodes: every node in every round; sample: 50 random ones; mean: only the mean model; "
        "end: only after the run. [default: nodes up to 50 nodes, else sample]",
    )
    out: str | None = option(None, "Folder for journal, summary and pictures. [default: runs/TIME]")
    data: DataConfig = group(DataConfig)
    training: TrainingConfig = group(TrainingConfig)
    gossip: GossipConfig = group(GossipConfig)
    evaluation: EvaluationConfig = group(EvaluationConfig)

    def __post_init__(self) -> None:
        check(self.nodes >= 1, "nodes must be at least 1")
        check(self.bootstrap is None or self.bootstrap >= 0, "bootstrap must be 0 or more")
        check(
            self.bootstrap is None or self.bootstrap < self.nodes,
            f"bootstrap must be below nodes: a node can know {self.nodes - 1} others",
        )
        check(0 < self.speed < float("inf"), "speed must be above 0 samples a second")
        check(self.seed >= 0, "seed must be 0 or more")
        check(self.workers is None or self.workers >= 1, "workers must be at least 1")
        check(self.training.rounds >= 1, "rounds must be at least 1: a simulated run has to end")
        parse_duration("latency", self.latency)

    @property
    def latency_seconds(self) -> float:
        return parse_duration("latency", self.latency)

    @property
    def bootstrap_peers(self) -> int:
        return min(BOOTSTRAP, self.nodes - 1) if self.bootstrap is None else self.bootstrap

    @property
    def evaluate_mode(self) -> EvaluateMode:
        if self.evaluate is not None:
            return self.evaluate
        return "nodes" if self.nodes <= EVALUATED_NODES else "sample"

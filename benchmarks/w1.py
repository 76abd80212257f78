"""W1: MNIST over N simulated nodes, five rounds of one epoch, against plain loops on the same images.

The nodes push to two peers after each round and end with five exchanges without training: about the least
that holds the accuracies, and the same for every N. A push is cheaper than a push-pull, which moves two
models; and the exchanges at the end cost the most, since no training goes on beside them. Evaluation is at
the end only and not in the time.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from benchmarks import floor
from benchmarks.figures import Figure, median_ratio
from benchmarks.processes import p2pfl

RATIOS = {10: 0.8, 50: 0.7, 100: 0.6}  # nodes -> least share of the floor's images a second
ACCURACIES = {10: 0.95, 100: 0.865}  # nodes -> least mean accuracy, mean over SEEDS
SEEDS = (0, 1, 2)
WORKLOAD = ["--dataset", "mnist", "--model", "mlp", "--batch-size", "64", "--lr", "0.1"]
GOSSIP = ["--gossip", "push", "--interval", "0", "--fanout", "2", "--settle", "5"]


def simulate(*flags: str) -> dict[str, Any]:
    """The summary of one `p2pfl sim run`; its folder is removed."""
    with tempfile.TemporaryDirectory() as folder:
        line = [p2pfl(), "sim", "run", "--json", "--out", folder, *flags]
        result = subprocess.run(line, capture_output=True, text=True)
    if result.returncode:
        sys.stderr.write(result.stderr)
        raise SystemExit(f"{' '.join(line)} ended with status {result.returncode}")
    summary: dict[str, Any] = json.loads(result.stdout)
    return summary


def measure(quick: bool) -> Iterator[Figure]:
    rounds, seeds = (2, SEEDS[:1]) if quick else (5, SEEDS)
    for nodes, least in RATIOS.items():
        floors, ours, accuracies, exchanges = [], [], [], 0
        for seed in seeds:
            floors.append(floor.images_per_second(60_000 * rounds))
            summary = simulate(
                *WORKLOAD, *GOSSIP, "--nodes", str(nodes), "--rounds", str(rounds), "--seed", str(seed),
                "--workers", str(floor.WORKERS), "--evaluate", "end",
            )  # fmt: skip
            ours.append(summary["images_per_second"])
            accuracies.append(summary["accuracy_mean"])
            exchanges = summary["exchanges"]
        made_of = {
            "ours": statistics.median(ours),
            "floor": statistics.median(floors),
            "exchanges": exchanges,
        }
        yield Figure(
            f"W1, {nodes} nodes: images a second",
            median_ratio(ours, floors),
            "of floor",
            "at least",
            least,
            made_of,
        )
        yield Figure(
            f"W1, {nodes} nodes: mean accuracy, {rounds} rounds",
            statistics.fmean(accuracies),
            "",
            "at least",
            None if quick else ACCURACIES.get(nodes),
            {"lowest run": min(accuracies)},
        )

"""Memory: the largest sum of PSS over a simulation's processes, as its own summary says."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import Figure
from benchmarks.w1 import WORKLOAD, simulate

LIMITS = ((1000, "softmax", 2e9), (200, "mlp", 2.5e9))  # nodes, model, most bytes
EVALUATION = ["--evaluate", "end", "--evaluate-samples", "1000"]


def measure(quick: bool) -> Iterator[Figure]:
    rounds = 1 if quick else 5
    for nodes, model, most in LIMITS:
        summary = simulate(
            *WORKLOAD, "--model", model, "--nodes", str(nodes), "--rounds", str(rounds), *EVALUATION
        )
        made_of = {"accuracy": summary["accuracy_mean"], "wall seconds": summary["wall_seconds"]}
        yield Figure(
            f"memory: {nodes:,} nodes, {model}, {rounds} rounds",
            summary["peak_pss_bytes"] / 1e9,
            "GB",
            "at most",
            most / 1e9,
            made_of,
        )

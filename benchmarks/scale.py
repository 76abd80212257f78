"""Many nodes: what a thousand and ten thousand simulated ones cost in time and in memory.

The simulating process does everything but the training, so its CPU time by exchange says what an exchange
costs: the exchange itself, its share of hellos, merges and journal, and handing the fits over. Simulations of
two sizes are the same but for their number of nodes, hence of exchanges.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks import floor
from benchmarks.figures import Figure, median_ratio
from benchmarks.w1 import WORKLOAD, simulate

GOSSIP = ["--gossip", "push", "--interval", "0", "--fanout", "2", "--settle", "4"]
# Every node is evaluated at the end, which is not in the time of training but in that of the whole run.
EVALUATION = ["--evaluate", "end", "--evaluate-samples", "1000"]
IMAGES = 60_000  # of an epoch: what the floor trains too

NODES, ROUNDS = 1000, 10
FEW = 100  # nodes whose exchanges the cost is compared with
MANY, MANY_ROUNDS = 10_000, 5

LEAST_OF_FLOOR = 0.4
MOST_BYTES = 6e9
MOST_TIMES_FEW = 1.3
MOST_MINUTES = 15.0


def measure(quick: bool) -> Iterator[Figure]:
    size = 10 if quick else 1
    rounds = 1 if quick else ROUNDS
    floor_rate = floor.images_per_second(IMAGES * rounds)
    large = _simulated(NODES // size, rounds, "mlp")
    yield Figure(
        f"scale: {large['nodes']:,} nodes, mlp, {rounds} rounds: images",
        median_ratio([large["images_per_second"]], [floor_rate]),
        "of floor",
        "at least",
        LEAST_OF_FLOOR,
        {
            "ours": large["images_per_second"],
            "floor": floor_rate,
            "accuracy": large["accuracy_mean"],
            "exchanges": large["exchanges"],
            "CPU seconds": large["simulation_cpu_seconds"],
            "seconds": large["train_seconds"],
        },
    )
    yield _memory(large, "mlp")
    few = _simulated(FEW // size, rounds, "mlp")
    costs = {summary["nodes"]: _cost(summary) for summary in (few, large)}
    yield Figure(
        "scale: CPU of an exchange, many to few nodes",
        costs[large["nodes"]] / costs[few["nodes"]],
        "times",
        "at most",
        MOST_TIMES_FEW,
        {f"us, {nodes:,} nodes": 1e6 * cost for nodes, cost in costs.items()},
    )
    many = _simulated(MANY // size, MANY_ROUNDS, "softmax")
    yield _memory(many, "softmax")
    yield Figure(
        f"scale: {many['nodes']:,} nodes, softmax: the whole run",
        many["wall_seconds"] / 60,
        "minutes",
        "at most",
        MOST_MINUTES,
        {
            "exchanges": many["exchanges"],
            "us CPU an exchange": 1e6 * _cost(many),
            "accuracy": many["accuracy_mean"],
        },
    )


def _simulated(nodes: int, rounds: int, model: str) -> dict[str, Any]:
    return simulate(
        *WORKLOAD, *GOSSIP, *EVALUATION, "--model", model, "--nodes", str(nodes), "--rounds", str(rounds),
        "--workers", str(floor.WORKERS), "--no-report",
    )  # fmt: skip


def _cost(summary: dict[str, Any]) -> float:
    """CPU seconds of the simulating process by exchange."""
    return float(summary["simulation_cpu_seconds"] / summary["exchanges"])


def _memory(summary: dict[str, Any], model: str) -> Figure:
    name = f"scale: {summary['nodes']:,} nodes, {model}: memory"
    return Figure(name, summary["peak_pss_bytes"] / 1e9, "GB", "at most", MOST_BYTES / 1e9)

"""W5: five real nodes over loopback, three rounds of MNIST, against plain loops on as many images.

The clock runs from the moment when the last node has its peers and starts to train until the last one is
done, with everything that a node does by default: push-pull with two peers, an evaluation of all held-out
data after each round, four exchanges without training.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks import floor
from benchmarks.figures import Figure, median_ratio
from benchmarks.processes import NodeProcess
from benchmarks.w1 import WORKLOAD

NODES = 5
ROUNDS = 3
IMAGES = 60_000 * ROUNDS
MOST = 4.0  # times the floor's seconds
TIMEOUT = 300.0  # seconds for nodes to start, and to be done


def measure(quick: bool) -> Iterator[Figure]:
    ours, floors, accuracies, starts, sent = [], [], [], [], 0
    for _ in range(1 if quick else 3):
        floors.append(IMAGES / floor.images_per_second(IMAGES))
        with tempfile.TemporaryDirectory() as folder:
            seconds, start, accuracy, sent = _run(Path(folder))
        ours.append(seconds)
        starts.append(start)
        accuracies.append(accuracy)
    made_of = {
        "seconds": statistics.median(ours),
        "floor's seconds": statistics.median(floors),
        "lowest mean accuracy": min(accuracies),
        "MB sent": sent / 1e6,
        "seconds to start and meet": statistics.median(starts),
    }
    ratio = median_ratio(ours, floors)
    yield Figure(f"W5, {NODES} processes: time", ratio, "x floor", "at most", MOST, made_of)


def _run(folder: Path) -> tuple[float, float, float, int]:
    """(seconds, seconds from the first start until all train, mean accuracy, bytes of requests' bodies)."""
    with ExitStack() as stack:

        def start(index: int, *peers: str) -> NodeProcess:
            flags = (*WORKLOAD, "--rounds", str(ROUNDS), "--shard", f"{index}/{NODES}", "--interval", "0")
            waits = ("--min-peers", str(NODES - 1), "--wait", str(TIMEOUT))
            return stack.enter_context(NodeProcess(folder, f"node-{index}", *flags, *waits, *peers))

        first = start(0)
        known, _ = first.listening()
        nodes = [first, *(start(index, "--peers", known) for index in range(1, NODES))]
        for node in nodes:
            node.listening()
        ends = [node.wait_until("done", TIMEOUT) for node in nodes]
        begins = [node.wait_until("training", 0.1) for node in nodes]
        journals = [node.events() for node in nodes]
    accuracies = [[e["accuracy"] for e in events if e["event"] == "evaluated"][-1] for events in journals]
    sent = sum(e["sent"] for events in journals for e in events if e["event"] in ("exchanged", "served"))
    return max(ends) - max(begins), max(begins) - first.started, statistics.fmean(accuracies), sent

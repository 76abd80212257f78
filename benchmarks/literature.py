"""A1 and A3 of the literature: how long gossip takes, against plain training of the same images.

Three workers train a small CNN in 282 rounds of ten steps; as many plain loops as cores train as many images
of the same data, with the same model, batches, rate and momentum. On both sides time begins with the first
step and ends with the last: without start-up, and without judging accuracy. The authors found that training
apart took almost twice as long.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks import floor
from benchmarks.figures import Figure, median_ratio
from benchmarks.w1 import simulate

ROWS = ("A1", "A3")
SEEDS = (1, 2, 3)
MOST = 1.25  # times plain training
PLAIN = floor.Loop("cnn-dropout", learning_rate=0.01, momentum=0.5)
QUICK_ROUNDS = 20
# Only the nodes are timed: the scenario's own baseline is cut as short as can be.
FLAGS = ["--evaluate", "end", "--baseline-rounds", "1"]


def measure(quick: bool) -> Iterator[Figure]:
    less = ["--rounds", str(QUICK_ROUNDS)] if quick else []
    for row in ROWS:
        ours, plain, accuracies = [], [], []
        for seed in SEEDS[:1] if quick else SEEDS:
            summary = simulate(
                f"literature/{row}", *FLAGS, *less, "--seed", str(seed), "--workers", str(floor.WORKERS)
            )
            images = summary["images_trained"]
            ours.append(summary["train_seconds"])
            plain.append(images / floor.images_per_second(images, loop=PLAIN))
            accuracies.append(summary["accuracy_mean"])
        yield Figure(
            f"{row}: seconds of gossip to plain training",
            median_ratio(ours, plain),
            "times",
            "at most",
            MOST,
            {
                "ours": statistics.median(ours),
                "plain": statistics.median(plain),
                "images": images,
                "accuracy": statistics.fmean(accuracies),
            },
        )

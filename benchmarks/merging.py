"""Merging ten models of 11.7 million weights, as of ResNet-18, on one thread: times reading them once.

The floor is reading the ten vectors from memory, by BLAS (a dot product of each with itself), which is as
fast as numpy reads. It is measured in turn with each rule. A process of its own computes, since BLAS takes
its number of threads from the environment when it is loaded. As in the simulator malloc keeps what was freed:
new memory, which the kernel has to clear first, adds a third of the floor, and is measured for the mean.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks.figures import Figure, median_ratio

PARAMETERS = 11_700_000
MODELS = 10
RUNS = 9
# Rules with their targets, in times of the floor.
TARGETS: dict[str, float | None] = {
    "mean": 1.5,
    "median": 12.0,
    "trimmed-mean:0.2": 12.0,
    "krum:f=2": 4.0,
    "multi-krum:f=2": None,
    "geometric-median": None,
    "centred-clipping": None,
    "clipped-gossip:0.2": None,
    "norm-bound": None,
    "fltrust": None,
}
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


NEW_MEMORY = "mean, result in new memory"


def measure(quick: bool) -> Iterator[Figure]:
    parameters, runs = (PARAMETERS // 50, 2) if quick else (PARAMETERS, RUNS)
    command = [sys.executable, "-m", "benchmarks.merging", str(parameters), str(runs)]
    for rules in (list(TARGETS), [NEW_MEMORY]):
        done = subprocess.run(
            [*command, *rules], env=os.environ | ONE_THREAD, stdout=subprocess.PIPE, check=True
        )
        for rule, (ours, floors) in json.loads(done.stdout).items():
            details = {"ms": 1e3 * sorted(ours)[runs // 2], "floor ms": 1e3 * sorted(floors)[runs // 2]}
            name = f"merging {MODELS} of {parameters / 1e6:.3g} M: {rule}"
            yield Figure(name, median_ratio(ours, floors), "x floor", "at most", TARGETS.get(rule), details)


def _times(parameters: int, runs: int, rules: list[str]) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds of CPU of each rule, and of the floor just before each."""
    import numpy as np

    from netsim.memory import keep_freed_memory
    from p2pfl.gossip import merge
    from p2pfl.merge_rule import parse

    if NEW_MEMORY not in rules:
        keep_freed_memory()
    rng = np.random.default_rng(0)
    own = rng.standard_normal(parameters, dtype=np.float32)
    noise = [rng.standard_normal(parameters, dtype=np.float32) for _ in range(MODELS - 1)]
    vectors = [own, *(own + np.float32(0.01) * each for each in noise)]
    equal = np.full(MODELS, 1 / MODELS)

    def seconds(work: Callable[[], object]) -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    def read() -> list[float]:
        return [float(np.dot(vector, vector)) for vector in vectors]

    def work(name: str) -> Callable[[], object]:
        if name in ("mean", NEW_MEMORY):
            return lambda: merge.weighted_mean(vectors, equal)
        rule = parse(name)
        return lambda: merge.merge_robustly(rule, vectors)

    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in rules}
    for turn in range(runs + 1):
        for name, (ours, floors) in found.items():
            floor, mine = seconds(read), seconds(work(name))
            if turn:  # the first turn touches the memory for the first time
                floors.append(floor)
                ours.append(mine)
    return found


if __name__ == "__main__":
    print(json.dumps(_times(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])))

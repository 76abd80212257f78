"""Bad networks: what faults cost the survivors, on both engines, and what the fuzzer finds in how long.

The scenario is `bad-network`: skewed data, 30 % of the nodes crash and half of those come back, a cut for a
fifth of the run, 10 % of all messages lost, 20 % of the nodes ten times slower. Its reference is the same
scenario without faults.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.processes import p2pfl
from benchmarks.w1 import simulate

SCENARIO = ["bad-network", "--no-report", "--baselines", "", "--evaluate", "end"]
NODES = {"virtual": 50, "process": 20}
WIDEST = 0.02  # accuracy
SEEDS = 200
MOST_SECONDS = 600.0


def measure(quick: bool) -> Iterator[Figure]:
    size = ["--rounds", "2"] if quick else []
    for engine, nodes in NODES.items():
        flags = [*SCENARIO, "--engine", engine, "--nodes", str(nodes // 5 if quick else nodes), *size]
        calm, faulty = simulate(*flags, "--without-faults"), simulate(*flags)
        yield Figure(
            f"bad-network, {engine}: worst survivor below calm",
            calm["accuracy_mean"] - faulty["accuracy_min"],
            "accuracy",
            "at most",
            None if quick else WIDEST,
            {
                "calm": calm["accuracy_mean"],
                "calm worst": calm["accuracy_min"],
                "mean": faulty["accuracy_mean"],
                "worst": faulty["accuracy_min"],
                "survivors": faulty["survivors"],
                "faults": faulty["faults"],
                "lost": faulty["lost"],
            },
        )
        yield Figure(
            f"bad-network, {engine}: faults that struck late", faulty["faults_late"], "", "at most", 0
        )
    journals = {_journal_digest(*SCENARIO, *size, "--workers", str(workers)) for workers in (1, 2)}
    yield Figure("bad-network: journals of 1 and 2 workers", len(journals), "different", "at most", 1)
    yield from _fuzz(10 if quick else SEEDS)


def _journal_digest(*flags: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [p2pfl(), "sim", "run", *flags, "--out", folder],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return hashlib.sha256((Path(folder) / "journal.jsonl").read_bytes()).hexdigest()


def _fuzz(seeds: int) -> Iterator[Figure]:
    result = subprocess.run(
        [p2pfl(), "sim", "fuzz", "--seeds", str(seeds), "--json"], stdout=subprocess.PIPE, text=True
    )
    if not result.stdout:
        print(f"sim fuzz ended with status {result.returncode}", file=sys.stderr)
        raise SystemExit(1)
    found = json.loads(result.stdout.splitlines()[-1])
    settling = {"settling checked": found["settling_checked"], "most left": found["most_left"] or 0.0}
    yield Figure(f"fuzz, {seeds} seeds: failures", len(found["failed"]), "", "at most", 0, settling)
    yield Figure(f"fuzz, {seeds} seeds: time", found["seconds"], "s", "at most", MOST_SECONDS)

"""Whole virtual runs: equal seeds give equal journals, whatever the host does meanwhile.

One test runs this very file as a program in fresh interpreters: with every tie there can be (equal work,
constant latency, no jitter), random real delays in the workers, a crash during training and a return.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netsim.run
from p2pfl.gossip.messages import Vector
from p2pfl.learning.learner import FitPlan, FitResult
from p2pfl.learning.torch_learner import TorchLearner
from tests.netsim.whole import WholeRun, simulate

TIES = {"local_steps": 5, "interval": 0.0, "rounds": 4}  # 160 samples a round at every node
CRASH, RETURN = 0.28, 0.5  # virtual seconds; the second training of TIES lasts from 0.20 to 0.36


@pytest.mark.parametrize(
    "flat",
    [
        {},
        {"gossip": "push", "fanout": 3},
        {"gossip": "pull", "codec": "f16", "partition": "dirichlet:0.5"},
        {"nodes": 6, "bootstrap": 1, "evaluate": "mean", "merge": "age", "momentum": 0.9},
        {"partition": "draw:5", "interval": 0.0, "model": "mlp"},  # equal shards, redrawn each round
    ],
    ids=lambda flat: " ".join(map(str, flat.values())),
)
@pytest.mark.parametrize("jitter", [0.0, 0.05], ids=["ties", "jitter"])
def test_one_and_two_workers_write_the_same_journal(
    flat: dict[str, Any], jitter: float, tmp_path: Path
) -> None:
    one = simulate(tmp_path / "one", workers=1, speed_jitter=jitter, **flat)
    two = simulate(tmp_path / "two", workers=2, speed_jitter=jitter, **flat)
    assert one.journal == two.journal
    assert one.of("merged")


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    runs = [simulate(tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    times = [[line["t"] for line in run.of("trained")] for run in runs]
    assert times[0] != times[1]
    starts = [[(line["id"], line["url"]) for line in run.of("started")] for run in runs]
    assert starts[0] != starts[1]


def test_the_journal_depends_on_no_interpreter_thread_count_delay_or_folder(tmp_path: Path) -> None:
    program = Path(__file__)
    hosts = [("1", "0", "1"), ("2", "1", "2")]  # workers, hash seed, arithmetic threads
    running = [
        subprocess.Popen(
            [sys.executable, str(program), str(tmp_path / str(number)), workers],
            env={
                **os.environ,
                "PYTHONHASHSEED": hash_seed,
                "OMP_NUM_THREADS": threads,
                "OPENBLAS_NUM_THREADS": threads,
                "PYTHONPATH": str(program.parents[2]),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, (workers, hash_seed, threads) in enumerate(hosts)
    ]
    errors = [run.communicate(timeout=120)[1] for run in running]
    assert [run.returncode for run in running] == [0] * len(hosts), errors
    for scenario in ("ties", "jitter"):
        first, second = [
            (tmp_path / str(number) / scenario / "journal.jsonl").read_bytes() for number in range(len(hosts))
        ]
        assert first == second, scenario
    check_the_crash(WholeRun({}, tmp_path / "0" / "ties"))


def check_the_crash(run: WholeRun) -> None:
    """Node 1 of TIES died while it trained for the second time, came back, and all were done in the end."""
    own = [line for line in run.lines if line["node"] == 1]
    assert [(line["fault"], line["t"]) for line in run.of("fault-struck")] == [
        ("crash", CRASH),
        ("restart", RETURN),
    ]
    assert not [line for line in own if CRASH <= line["t"] < RETURN]
    assert [line["resumed_round"] for line in own if line["event"] == "started"] == [0, 1]
    before, after = (
        [line["t"] for line in own if line["event"] == "trained" and (line["t"] > CRASH) is late]
        for late in (False, True)
    )
    assert len(before) == 1
    assert len(after) == TIES["rounds"] - 1
    assert after[0] > RETURN
    failures = [line for line in run.of("exchanged") if line["outcome"] != "ok" and line["t"] > CRASH]
    assert failures
    done = [line["node"] for line in run.of("state-changed") if line["state"] == "done"]
    assert sorted(done) == [0, 1, 2, 3]


def test_the_journal_holds_nothing_of_the_host(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
    rng = np.random.default_rng(0)
    arrays = {
        f"{part}_{what}": rng.integers(0, high, (60, *shape), dtype=np.uint8)
        for part in ("train", "test")
        for what, high, shape in (("images", 256, (4, 4)), ("labels", 2, (1,)))
    }
    np.savez(tmp_path / "here" / "spots.npz", **arrays)
    shutil.copy(tmp_path / "here" / "spots.npz", tmp_path / "there")
    here, there = (
        simulate(
            tmp_path / place / "run",
            dataset=str(tmp_path / place / "spots.npz"),
            data_dir=str(tmp_path / place),
            workers=workers,
        )
        for place, workers in (("here", 1), ("there", 2))
    )
    assert here.journal == there.journal
    text = here.journal.decode()
    assert str(tmp_path) not in text
    assert json.dumps(socket.gethostname()) not in text
    (config,) = [line["config"] for line in here.of("run-started")]
    assert config["dataset"] == "spots.npz"
    assert not {"workers", "out", "data-dir"} & config.keys()


def test_a_node_that_dies_while_it_hangs_answers_nothing_more(tmp_path: Path) -> None:
    run = simulate(
        tmp_path,
        {
            "events": [
                {"kind": "hang", "at": "0.6s", "nodes": "1"},
                {"kind": "crash", "at": "5s", "nodes": "1"},
            ]
        },
        rounds=8,
        interval=0.5,
        latency="0.01s",
    )
    (place,) = [line["url"] for line in run.of("started") if line["node"] == 1]
    hung, dead = [line["t"] for line in run.of("fault-struck")]
    asked = [line for line in run.of("exchanged") if line["url"] == place and line["t"] > hung + 0.1]
    assert [line for line in asked if line["t"] < dead + 0.1]
    assert "ok" not in {line["outcome"] for line in asked}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_slow_and_a_late_node_end_within_one_point_of_the_others(seed: int, tmp_path: Path) -> None:
    """Six nodes: node 0 ten times slower, node 5 thirty virtual seconds late."""
    tables = {
        "groups": [{"name": "slow", "nodes": "0", "speed": "100"}],
        "events": [{"kind": "join", "at": "30s", "nodes": "5"}],
    }
    flat = {"nodes": 6, "rounds": 12, "lr": 0.05, "fanout": 3, "settle": 8, "seed": seed}
    run = simulate(tmp_path, tables, **flat)
    accuracies = run.final_accuracies()
    assert len(accuracies) == 6
    assert max(accuracies) - min(accuracies) <= 0.01
    assert min(accuracies) > 0.88

    seconds = {
        node: [line["seconds"] for line in run.of("trained") if line["node"] == node] for node in (0, 1)
    }
    assert np.mean(seconds[0]) == pytest.approx(10 * np.mean(seconds[1]), rel=0.05)
    done = {line["node"]: line["t"] for line in run.of("state-changed") if line["state"] == "done"}
    assert max(done[node] for node in (1, 2, 3, 4)) < min(done[0], done[5])  # nobody waited for them

    (joined,) = run.of("joined")
    assert joined["node"] == 5
    assert 30 < joined["t"] < 30.5
    first = next(line for line in run.of("evaluated") if line["node"] == 5)
    assert first["round"] == 1
    assert first["accuracy"] > 0.87


# -- the program that one test above starts


class SlowNow(TorchLearner):
    """Its results are the learner's; its real duration follows from nothing."""

    def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan, stop: Callable[[], bool]) -> FitResult:
        # Real, unseeded delays are what this test is about: in the worker, a few ms.
        time.sleep(random.SystemRandom().uniform(0, 0.004))
        return super().fit(weights, optimiser, plan, stop)


def main(folder: Path, workers: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(netsim.run, "TorchLearner", SlowNow)
        simulate(folder / "jitter", workers=workers, model="mlp", interval=0.0)
        crash = {"kind": "crash", "at": f"{CRASH}s", "nodes": "1", "lasting": f"{RETURN - CRASH:g}s"}
        tables = {"events": [crash]}
        simulate(folder / "ties", tables, workers=workers, model="mlp", speed_jitter=0.0, **TIES)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

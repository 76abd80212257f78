"""The same scenario in virtual time and with real processes comes to the same end."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from netsim.memory import descendants
from p2pfl.events import MODEL_MODES
from tests.netsim.stubs import processes_of
from tests.netsim.whole import IMAGES, WholeRun, simulate

pytestmark = pytest.mark.xdist_group("nodes")

# Whole shards as batches: nothing is left to chance but who meets whom, and when.
SCENARIO: dict[str, Any] = {
    "nodes": 3,
    "rounds": 6,
    "batch_size": 512,
    "local_steps": 10,
    "lr": 0.3,
    "interval": 0.3,
    "seed": 1,
}


@pytest.mark.skipif(sys.platform != "linux", reason="real node processes need Linux")
def test_both_engines_agree(tmp_path: Path) -> None:
    """Within one point of mean accuracy and 10 % of the exchanges; no process is left."""
    virtual = simulate(tmp_path / "virtual", **SCENARIO)
    before = descendants(os.getpid())
    real = simulate(tmp_path / "process", engine="process", **SCENARIO)
    assert descendants(os.getpid()) == before

    accuracies = [run.summary["accuracy_mean"] for run in (virtual, real)]
    assert abs(accuracies[0] - accuracies[1]) <= 0.01
    assert min(accuracies) > 0.9
    exchanges = [run.summary["exchanges"] for run in (virtual, real)]
    assert abs(exchanges[0] - exchanges[1]) <= 0.1 * exchanges[0]
    images = [run.summary["images_trained"] for run in (virtual, real)]
    assert images == [6 * 10 * IMAGES] * 2
    # Hellos differ: real nodes call each other before all are there.
    assert model_bytes(real) == pytest.approx(model_bytes(virtual), rel=0.1)
    assert (virtual.summary["virtual_seconds"] is None, real.summary["virtual_seconds"]) == (False, None)
    # Both had the same shards.
    for field in ("name", "task", "fingerprint", "samples", "labels"):
        starts = [
            sorted((line["node"], line[field]) for line in run.of("started")) for run in (virtual, real)
        ]
        assert starts[0] == starts[1], field
    kinds = [{line["event"] for line in run.lines} for run in (virtual, real)]
    assert kinds[0] <= kinds[1]


FAULTY: dict[str, Any] = {
    **SCENARIO,
    "nodes": 6,
    "rounds": 20,
    "settle": 6,
    "loss": 0.1,
    "stragglers": 1,
    "slowdown": 5.0,
}
EVENTS: list[dict[str, object]] = [
    {"kind": "cut", "at": "20%", "parts": 2, "lasting": "20%"},
    {"kind": "crash", "at": "25%", "nodes": "0"},
    {"kind": "crash", "at": "30%", "nodes": "1", "lasting": "1s"},
    {"kind": "hang", "at": "35%", "nodes": "2", "lasting": "1s"},
]


@pytest.mark.skipif(sys.platform != "linux", reason="real node processes need Linux")
def test_the_same_faults_strike_on_both_engines_and_the_survivors_learn(tmp_path: Path) -> None:
    """Within two points of a run without faults; a node that is killed goes on from its state as itself."""
    calm = {**FAULTY, "loss": 0.0, "stragglers": 0}
    undisturbed = simulate(tmp_path / "calm", **calm).summary["accuracy_mean"]
    for engine in ("virtual", "process"):
        faulty = simulate(tmp_path / engine, {"events": EVENTS}, engine=engine, **FAULTY)
        struck = faulty.of("fault-struck")
        assert sorted((line["fault"], *line["nodes"]) for line in struck) == [
            ("crash", 0),
            ("crash", 1),
            ("cut",),
            ("hang", 2),
            ("heal",),
            ("restart", 1),
            ("resume", 2),
        ]
        assert all(2 * line["training"] >= line["running"] for line in struck)
        first, second = (line for line in faulty.of("started") if line["node"] == 1)
        assert (first["resumed_round"], first["id"]) == (0, second["id"])
        assert second["resumed_round"] > 0
        assert [line["t"] for line in faulty.of("trained") if line["node"] == 0][-1] <= struck[-1]["t"]
        assert faulty.of("message-lost")
        accuracies = faulty.final_accuracies()
        assert len(accuracies) == faulty.summary["survivors"] == 5
        assert min(accuracies) >= undisturbed - 0.02
    assert processes_of(tmp_path) == []


def model_bytes(run: WholeRun) -> int:
    """Sent with model exchanges by those who asked."""
    return sum(line["sent"] for line in run.of("exchanged") if line["mode"] in MODEL_MODES)


@pytest.mark.skipif(sys.platform != "linux", reason="real node processes need Linux")
def test_real_nodes_lie(tmp_path: Path) -> None:
    """One sends NaN, one does not train, one learns flipped labels."""
    tables = {
        "adversaries": [
            {"attack": "nan", "nodes": "0"},
            {"attack": "free-rider", "nodes": "1", "from": 2},
            {"attack": "label-flip", "nodes": "2"},
        ]
    }
    flat = {**SCENARIO, "nodes": 5, "rounds": 3}
    real = simulate(tmp_path / "process", tables, engine="process", **flat)
    virtual = simulate(tmp_path / "virtual", tables, **flat)
    for run in (real, virtual):
        ends = [line["node"] for line in run.of("model-evaluated") if line["final"] and line["of"] == "node"]
        assert ends == [3, 4]
        assert run.summary["survivors"] == 5
        assert run.summary["refused"] > 0
        trained = [(line["node"], line["samples"]) for line in run.of("trained")]
        assert [samples for node, samples in trained if node == 1][1:] == [0, 0]
        assert all(samples for node, samples in trained if node != 1)
        first = {line["node"]: line["accuracy"] for line in run.of("evaluated") if line["round"] == 1}
        assert first[2] < min(first[3], first[4]) - 0.2  # by its own model, before it is averaged away
    for field in ("fingerprint", "samples", "labels"):
        starts = [
            sorted((line["node"], line[field]) for line in run.of("started")) for run in (virtual, real)
        ]
        assert starts[0] == starts[1], field

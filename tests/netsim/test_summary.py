"""Every figure of a summary, recomputed from the journal or counted a second way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import netsim.virtual
from netsim.journal import SIMULATOR
from netsim.network import SimulatedNetwork
from netsim.summary import summarise
from p2pfl.events import MODEL_MODES
from tests.netsim.whole import IMAGES, simulate

KEYS = [
    "nodes",
    "rounds",
    "seed",
    "engine",
    "adversaries",
    "accuracy_mean",
    "accuracy_min",
    "accuracy_max",
    "accuracy_of_mean_model",
    "balanced_accuracy_mean",
    "consensus_distance",
    "back_door_mean",
    "back_door_of_mean_model",
    "exchanges",
    "bytes_sent",
    "virtual_seconds",
    "wall_seconds",
    "startup_seconds",
    "train_seconds",
    "simulation_cpu_seconds",
    "evaluate_seconds",
    "images_trained",
    "images_per_second",
    "peak_pss_bytes",
    "out",
    "survivors",
    "ended",
    "faults",
    "faults_late",
    "lost",
    "kept_own",
    "refused",
    "clipped",
    "baselines",
]


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> list[SimulatedNetwork]:
    """The networks of all simulations of this test."""
    seen: list[SimulatedNetwork] = []

    class Remembered(SimulatedNetwork):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            seen.append(self)

    monkeypatch.setattr(netsim.virtual, "SimulatedNetwork", Remembered)
    return seen


def test_the_keys_are_those_that_were_promised(tmp_path: Path) -> None:
    run = simulate(tmp_path)
    assert sorted(run.summary) == sorted(KEYS)
    assert json.loads((tmp_path / "summary.json").read_text()) == run.summary


def test_accuracies_follow_from_the_confusions(tmp_path: Path) -> None:
    run = simulate(tmp_path, settle=0, partition="classes:3")
    lines = [line for line in run.of("model-evaluated") if line["final"]]
    nodes = [line["confusion"] for line in lines if line["of"] == "node"]
    (mean,) = [line["confusion"] for line in lines if line["of"] == "mean"]
    accuracies = [accuracy(confusion) for confusion in nodes]
    assert len(set(accuracies)) == 4  # skewed and not settled: it matters which is which
    summary = run.summary
    assert summary["accuracy_mean"] == pytest.approx(sum(accuracies) / 4)
    assert summary["accuracy_min"] == pytest.approx(min(accuracies))
    assert summary["accuracy_max"] == pytest.approx(max(accuracies))
    assert summary["accuracy_of_mean_model"] == pytest.approx(accuracy(mean))
    assert summary["balanced_accuracy_mean"] == pytest.approx(sum(map(recall, nodes)) / 4)


def accuracy(confusion: list[list[int]]) -> float:
    return sum(row[i] for i, row in enumerate(confusion)) / sum(map(sum, confusion))


def recall(confusion: list[list[int]]) -> float:
    return sum(row[i] / sum(row) for i, row in enumerate(confusion)) / len(confusion)


@pytest.mark.parametrize(
    "flat",
    [{}, {"gossip": "push"}, {"gossip": "pull"}, {"codec": "f16", "interval": 0.0}],
    ids=lambda flat: " ".join(map(str, flat.values())) or "defaults",
)
def test_exchanges_and_bytes_are_those_that_crossed_the_network(
    flat: dict[str, Any], tmp_path: Path, networks: list[SimulatedNetwork]
) -> None:
    run = simulate(tmp_path, **flat)
    requests = run.of("exchanged")
    models = [line for line in requests if line["mode"] in MODEL_MODES and line["outcome"] == "ok"]
    assert run.summary["exchanges"] == len(models) >= 4 * 2

    (network,) = networks
    traffic = network.traffic.values()
    # A request that is under way when the last node is done is not in the journal.
    under_way = sum(pair.requests for pair in traffic) - len(requests)
    largest = max(line["received"] for line in requests)
    missing = sum(pair.bytes for pair in traffic) - run.summary["bytes_sent"]
    assert 0 <= under_way <= 4
    assert 0 <= missing <= 2 * under_way * largest
    assert run.summary["bytes_sent"] > 1.5 * len(models) * (650 * 2 if flat.get("codec") else 650 * 4)


def test_what_one_side_sent_the_other_received(tmp_path: Path) -> None:
    run = simulate(tmp_path)
    asked = [line for line in run.of("exchanged") if line["outcome"] == "ok"]
    served = run.of("served")
    assert sum(line["sent"] for line in asked) == sum(line["received"] for line in served)
    assert sum(line["received"] for line in asked) == sum(line["sent"] for line in served)


@pytest.mark.parametrize(
    ("flat", "images"),
    [
        ({"rounds": 3}, 3 * IMAGES),
        ({"rounds": 2, "local_epochs": 2}, 2 * 2 * IMAGES),
        ({"rounds": 2, "local_steps": 3}, 4 * 2 * 3 * 32),
        ({"rounds": 2, "partition": "draw:5"}, 4 * 2 * 50),
    ],
    ids=str,
)
def test_images_are_steps_times_batches(flat: dict[str, Any], images: int, tmp_path: Path) -> None:
    run = simulate(tmp_path, **flat)
    assert run.summary["images_trained"] == images
    assert len(run.of("trained")) == 4 * int(flat["rounds"])


def test_times_fit_together(tmp_path: Path) -> None:
    run = simulate(tmp_path, nodes=3, rounds=3, seed=5)
    summary = run.summary
    assert (summary["nodes"], summary["rounds"], summary["seed"]) == (3, 3, 5)
    assert (summary["engine"], summary["out"]) == ("virtual", str(tmp_path))
    done = [line["t"] for line in run.of("state-changed") if line["state"] == "done"]
    assert summary["virtual_seconds"] == max(done)
    assert 0 < summary["train_seconds"] < summary["wall_seconds"] - summary["startup_seconds"]
    assert summary["evaluate_seconds"] > 0
    assert summary["simulation_cpu_seconds"] > 0
    assert summary["images_per_second"] == summary["images_trained"] / summary["train_seconds"]
    assert summary["peak_pss_bytes"] > 50_000_000  # torch alone takes more


def test_the_journal_alone_is_enough(tmp_path: Path) -> None:
    run = simulate(tmp_path)
    figures = summarise(tmp_path / "journal.jsonl")
    assert figures == {key: run.summary[key] for key in figures}
    assert run.of("run-ended")[0]["node"] == SIMULATOR


def test_real_processes_have_no_virtual_time(tmp_path: Path) -> None:
    run = simulate(tmp_path)
    (start,) = run.of("run-started")
    start["config"]["engine"] = "process"
    path = tmp_path / "other.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in run.lines))
    assert summarise(path)["virtual_seconds"] is None

"""Whole runs with adversaries: what they do to the honest, and that only these are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.netsim.whole import HELD_OUT, WholeRun, simulate

LEARNING: dict[str, Any] = {"nodes": 6, "rounds": 6, "local_steps": 8, "batch_size": 16, "lr": 0.1, "seed": 2}


def lying(folder: Path, *tables: dict[str, object], **flat: object) -> WholeRun:
    return simulate(folder, {"adversaries": list(tables)}, **{**LEARNING, **flat})


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> WholeRun:
    return simulate(tmp_path_factory.mktemp("honest"), **LEARNING)


def test_flipped_labels_hurt_a_mean(honest: WholeRun, tmp_path: Path) -> None:
    run = lying(tmp_path, {"attack": "label-flip", "nodes": "0,1"})
    assert run.summary["accuracy_mean"] < honest.summary["accuracy_mean"] - 0.02
    assert run.summary["adversaries"] == {"label-flip": "0-1"}


def test_a_flipped_sign_hurts_a_mean(honest: WholeRun, tmp_path: Path) -> None:
    run = lying(tmp_path, {"attack": "sign-flip", "nodes": "0,1", "factor": 4.0})
    assert run.summary["accuracy_mean"] < honest.summary["accuracy_mean"] - 0.1


def test_only_honest_nodes_are_counted(tmp_path: Path) -> None:
    run = lying(tmp_path, {"attack": "sign-flip", "nodes": "1,4"})
    ends = [line for line in run.of("model-evaluated") if line["final"] and line["of"] == "node"]
    assert [line["node"] for line in ends] == [0, 2, 3, 5]
    accuracies = run.final_accuracies()
    assert run.summary["accuracy_mean"] == pytest.approx(sum(accuracies) / 4)
    assert {line["nodes"] for line in run.of("consensus-measured")} == {4}


def test_progress_shows_the_accuracy_of_the_honest(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = lying(tmp_path, {"attack": "random-labels", "nodes": "0-4"}, settle=0, evaluate_every=6)
    (own,) = [line["accuracy"] for line in run.of("evaluated") if line["node"] == 5][-1:]
    assert f"accuracy {own:.3f}" in capfd.readouterr().err.splitlines()[-1]


def test_a_target_accuracy_is_the_honest_nodes(tmp_path: Path) -> None:
    table = {"attack": "sign-flip", "nodes": "0-4", "factor": 10.0}
    run = lying(tmp_path, table, target_accuracy=0.8, gossip="pull", evaluate="nodes")
    assert run.summary["ended"] == "done"
    last = {line["node"]: line["accuracy"] for line in run.of("evaluated")}
    assert last[5] < 0.8


def test_liars_lie_the_same_whoever_computes_and_again(tmp_path: Path) -> None:
    tables = (
        {"attack": "random-labels", "nodes": "0"},
        {"attack": "noise", "nodes": "1", "until": 2},
        {"attack": "inner-product", "nodes": "2"},
        {"attack": "a-little", "nodes": "3,4", "z": 1.0},
        {"attack": "free-rider", "nodes": "0", "sigma": 0.01},
    )
    runs = [
        lying(tmp_path / str(workers), *tables, workers=workers, crash=1, restart=1, rounds=4)
        for workers in (1, 2)
    ]
    assert runs[0].journal == runs[1].journal
    assert runs[0].of("fault-struck")


def test_a_free_rider_does_not_train(tmp_path: Path) -> None:
    run = lying(tmp_path, {"attack": "free-rider", "nodes": "1", "from": 3}, rounds=4, local_epochs=None)
    samples = [line["samples"] for line in run.of("trained") if line["node"] == 1]
    assert samples[2:] == [0, 0]
    assert min(samples[:2]) > 0
    assert run.summary["images_trained"] == sum(line["samples"] for line in run.of("trained"))


def test_nan_is_refused_counted_and_harms_nobody(tmp_path: Path) -> None:
    run = lying(tmp_path, {"attack": "nan", "nodes": "0,1"})
    refusals = run.of("rejected")
    assert run.summary["refused"] == len(refusals) > 0
    assert run.summary["accuracy_min"] > 0.8


def test_a_back_door_opens_and_is_measured(honest: WholeRun, tmp_path: Path) -> None:
    run = lying(tmp_path, {"attack": "back-door", "nodes": "0,1,2", "size": 2, "target": 7}, rounds=8)
    assert run.summary["back_door_mean"] > 0.5
    measured = run.of("back-door-measured")
    assert {(line["node"], line["of"]) for line in measured if line["final"]} == {
        (3, "node"), (4, "node"), (5, "node"), ("-", "mean"),
    }  # fmt: skip
    assert run.summary["back_door_of_mean_model"] == measured[-1]["success"]
    assert {line["target"] for line in measured} == {7}
    others = {line["samples"] for line in measured}
    assert others == {HELD_OUT - 36}  # of the target there are 36
    assert len([line for line in measured if not line["final"]]) > 0
    assert honest.summary["back_door_mean"] is None


def test_absurd_claims_are_clipped_and_counted(honest: WholeRun, tmp_path: Path) -> None:
    run = lying(tmp_path, {"attack": "sybil", "nodes": "0"}, merge="samples")
    assert run.summary["clipped"] > 0
    assert run.summary["clipped"] == sum(line["clipped"] for line in run.of("merged"))
    assert honest.summary["clipped"] == 0
    assert run.summary["accuracy_min"] > 0.7  # it counts four times as much as others, not a million times


@pytest.mark.parametrize(
    ("attack", "options"),
    [
        ("noise", {"sigma": 1.0}),
        ("scaled", {"factor": 30.0}),
        ("inner-product", {"epsilon": 6.0}),
        ("a-little", {"z": 30.0}),
    ],
)
def test_attacks_on_models_hurt_a_mean(
    attack: str, options: dict[str, object], honest: WholeRun, tmp_path: Path
) -> None:
    run = lying(tmp_path, {"attack": attack, "nodes": "0,1", **options})
    assert run.summary["accuracy_mean"] < honest.summary["accuracy_mean"] - 0.1


def test_poisoned_data_reach_baselines_and_their_accuracies(tmp_path: Path) -> None:
    flat: dict[str, Any] = {"baselines": ["fedavg", "centralised", "d-psgd"], "evaluate": "end", "settle": 0}
    calm = simulate(tmp_path / "calm", **{**LEARNING, **flat}).summary["baselines"]
    told = lying(tmp_path / "lied", {"attack": "label-flip", "nodes": "0-2"}, **flat).summary["baselines"]
    for name in flat["baselines"]:
        assert told[name] < calm[name] - 0.03


def test_drawn_shards_are_poisoned_too(tmp_path: Path) -> None:
    table = {"attack": "label-flip", "nodes": "0-3"}
    run = lying(tmp_path, table, partition="draw:20", local_steps=None, settle=4)
    assert run.summary["accuracy_mean"] < 0.6

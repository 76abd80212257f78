"""What a run evaluates, when, and that it costs no virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import netsim.run
from netsim import population
from netsim.config import EVALUATED_NODES, SimConfig
from netsim.evaluation import consensus_distance, mean_model
from netsim.virtual import VirtualEngine
from p2pfl.learning.torch_learner import TorchLearner
from tests.netsim.whole import HELD_OUT, WholeRun, simulate

EVALUATIONS = ("evaluated", "model-evaluated")


def before_the_end(run: WholeRun) -> list[dict[str, Any]]:
    """Evaluations while the nodes live: whatever is not the final one of a model."""
    return [line for line in run.of(*EVALUATIONS) if not line.get("final", False)]


def final(run: WholeRun) -> list[int | str]:
    """Whose models were evaluated after the run: nodes' and the simulator's own, the mean."""
    return [line["node"] for line in run.of("model-evaluated") if line["final"]]


def test_nodes_evaluate_themselves_each_round_and_the_mean_model_once_a_round(tmp_path: Path) -> None:
    run = simulate(tmp_path, evaluate="nodes", rounds=3)
    own = [(line["node"], line["round"]) for line in run.of("evaluated")]
    for node in range(4):
        assert {round for index, round in own if index == node} == {1, 2, 3}
    means = [line for line in run.of("model-evaluated") if line["of"] == "mean"]
    assert [(line["round"], line["final"]) for line in means] == [
        (1, False),
        (2, False),
        (3, False),
        (3, True),
    ]
    assert final(run) == [0, 1, 2, 3, "-"]


def test_every_second_round(tmp_path: Path) -> None:
    run = simulate(tmp_path, evaluate="nodes", rounds=4, evaluate_every=2)
    assert {line["round"] for line in run.of("evaluated")} == {2, 4}
    assert [line["round"] for line in before_the_end(run) if line["event"] == "model-evaluated"] == [2, 4]


def test_a_sample_of_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(population, "EVALUATED_NODES", 2)
    run = simulate(tmp_path, evaluate="sample")
    chosen = sorted({line["node"] for line in run.of("evaluated")})
    assert len(chosen) == 2
    assert final(run) == [*chosen, "-"]


def test_only_the_mean_model(tmp_path: Path) -> None:
    run = simulate(tmp_path, evaluate="mean")
    assert not run.of("evaluated")
    assert [line["round"] for line in before_the_end(run)] == [1, 2]
    assert final(run) == ["-"]
    assert run.summary["accuracy_mean"] is None
    assert run.summary["accuracy_of_mean_model"] > 0.5


def test_only_at_the_end(tmp_path: Path) -> None:
    run = simulate(tmp_path, evaluate="end")
    assert before_the_end(run) == []
    assert final(run) == [0, 1, 2, 3, "-"]
    assert run.summary["accuracy_mean"] > 0.5
    assert [line["event"] for line in run.lines][-7:] == [
        "run-ended",
        *["model-evaluated"] * 5,
        "consensus-measured",
    ]


def test_a_limited_number_of_samples(tmp_path: Path) -> None:
    limited = simulate(tmp_path / "limited", evaluate_samples=100)
    assert {line["samples"] for line in limited.of(*EVALUATIONS)} == {100}
    whole = simulate(tmp_path / "whole")
    assert {line["samples"] for line in whole.of(*EVALUATIONS)} == {HELD_OUT}


def test_large_runs_evaluate_a_sample_by_default() -> None:
    assert SimConfig(nodes=EVALUATED_NODES).evaluate_mode == "nodes"
    assert SimConfig(nodes=EVALUATED_NODES + 1).evaluate_mode == "sample"
    chosen = population.evaluated_nodes(SimConfig(nodes=EVALUATED_NODES + 1))
    assert chosen == sorted(set(chosen))
    assert len(chosen) == EVALUATED_NODES


def test_evaluation_changes_nothing_else(tmp_path: Path) -> None:
    """The same events at the same virtual times, and the same models in the end."""
    modes = ("nodes", "sample", "mean", "end")
    runs = [simulate(tmp_path / mode, evaluate=mode) for mode in modes]
    apart = (*EVALUATIONS, "consensus-measured", "run-started")
    others = [[line for line in run.lines if line["event"] not in apart] for run in runs]
    assert others[1:] == [others[0]] * 3
    assert len({run.summary["virtual_seconds"] for run in runs}) == 1
    assert len({run.summary["accuracy_of_mean_model"] for run in runs}) == 1


def test_the_final_figures_are_those_of_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model that the nodes ended with, evaluated anew in this process."""
    engines: list[VirtualEngine] = []
    learners: list[TorchLearner] = []

    class Watched(VirtualEngine):
        def __init__(self, scenario: Any, learner: Any, *rest: Any) -> None:
            super().__init__(scenario, learner, *rest)
            engines.append(self)
            learners.append(learner)

    monkeypatch.setattr(netsim.run, "VirtualEngine", Watched)
    # No settling and skewed shards, so that the models differ.
    run = simulate(tmp_path, settle=0, partition="classes:3", evaluate="end")
    weights = list(engines[0].outcome.weights.values())
    evaluate = learners[0].evaluate
    assert run.final_accuracies() == [evaluate(vector).accuracy for vector in weights]
    mean = np.mean(np.stack(weights).astype(np.float64), axis=0)
    distance = np.sqrt(np.mean([np.sum((vector - mean) ** 2) for vector in weights]))
    assert run.summary["consensus_distance"] == pytest.approx(distance, rel=1e-5)
    assert distance > 0.1
    expected = evaluate(mean.astype(np.float32))
    assert run.summary["accuracy_of_mean_model"] == pytest.approx(expected.accuracy, abs=1.01 / HELD_OUT)


# -- the measures


def test_the_mean_model_and_its_distance() -> None:
    vectors = [np.array([0, 0], np.float32), np.array([6, 8], np.float32)]
    mean = mean_model(vectors)
    assert mean.tolist() == [3, 4]
    assert mean.dtype == np.float32
    assert consensus_distance(vectors, mean) == 5.0
    assert consensus_distance(vectors[:1], vectors[0]) == 0.0


def test_the_distance_does_not_depend_on_the_hosts_threads() -> None:
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=50_000).astype(np.float32) for _ in range(8)]
    found = []
    for threads in (1, 2, 3):
        with threadpool_limits(threads, user_api="blas"):
            found += [[consensus_distance([vector], vectors[0]) for vector in vectors]]
    assert found[0] == found[1] == found[2]

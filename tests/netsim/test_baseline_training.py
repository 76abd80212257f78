"""The local training of baselines is a node's: plans, momentum, groups, batch orders, divergence."""

from __future__ import annotations

import math

import numpy as np
import pytest

from p2pfl.config import TrainingConfig
from tests.netsim.baseline_bench import START, ran


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("centralised", [0, 1, 1]), ("isolated", [0, 0, 1, 1, 1, 1]), ("d-psgd", [0, 0, 1, 1, 1, 1]),
     ("fedavg", [0] * 6), ("cyclic", [0] * 6)],
)  # fmt: skip
def test_momentum_is_kept_where_a_node_trains_on_and_starts_anew_where_a_model_visits(
    name: str, sizes: list[int]
) -> None:
    assert [size for _, _, size in ran(name, (10, 10)).bench.fits] == sizes


def test_plans_are_those_of_the_configuration_and_the_round() -> None:
    keys = {"lr": 0.4, "lr_schedule": "cosine", "momentum": 0.9, "weight_decay": 0.01, "local_epochs": 2}
    run = ran("isolated", (10, 7), **keys)
    rates = [plan.learning_rate for _, plan, _ in run.bench.fits]
    assert rates == pytest.approx(np.repeat([0.4, 0.3, 0.1], 2).tolist())
    for _, plan, _ in run.bench.fits:
        assert (plan.momentum, plan.weight_decay, plan.batch_size) == (0.9, 0.01, 5)
        assert plan.steps == 4
    assert run.events[-1].images == 3 * 2 * 17


@pytest.mark.parametrize("name", ["isolated", "cyclic", "fedavg", "d-psgd"])
def test_nodes_may_train_differently(name: str) -> None:
    def training_of(node: int) -> TrainingConfig:
        return TrainingConfig(rounds=3, batch_size=5, lr=0.1 * (node + 1), local_epochs=node + 1)

    run = ran(name, (10, 10), training_of=training_of)
    for label, plan, _ in run.bench.fits:
        node = int(label.split()[-1])
        assert plan.learning_rate == pytest.approx(0.1 * (node + 1))
        assert plan.samples == 10 * (node + 1)
    assert run.events[-1].images == 3 * (10 + 20)


def test_a_nodes_batch_orders_are_the_same_in_every_baseline() -> None:
    def seeds(name: str) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for label, plan, _ in ran(name).bench.fits:
            found.setdefault(label.split(", ")[1], []).append(plan.seed)
        return found

    assert seeds("isolated") == seeds("cyclic") == seeds("fedavg") == seeds("d-psgd")
    drawn = [seed for own in seeds("isolated").values() for seed in own]
    assert len(set(drawn)) == len(drawn) == 12


@pytest.mark.parametrize("name", ["isolated", "cyclic", "fedavg", "d-psgd"])
def test_training_that_diverged_is_dropped(name: str, caplog: pytest.LogCaptureFixture) -> None:
    run = ran(name, (10, 10), broken=(10,), graph=((0, 1),), topology="complete")
    assert all(math.isfinite(loss) for loss in run.losses)
    per_round = 1 if name == "cyclic" else 0.5  # of node 0, whose fit adds 1
    assert run.losses[-1] == pytest.approx(START + 3 * per_round)
    assert f"{name}, node 1: training diverged" in caplog.text


def test_centralised_training_that_diverged_keeps_the_model() -> None:
    assert ran("centralised", (10, 10), broken=(0,)).losses == [START] * 3

"""Baselines on real data: that they learn, and that equal seeds give equal lines."""

from __future__ import annotations

from typing import Any

import pytest

from netsim.baselines import run_baselines
from netsim.config import SimConfig
from netsim.inline import InlinePool
from netsim.jobs import Jobs
from netsim.journal import BaselineEvaluated
from netsim.workers import WorkerPool
from p2pfl.config import DataConfig, build
from p2pfl.learning.data import load
from p2pfl.learning.learner import Learner
from p2pfl.learning.partition import shards
from p2pfl.learning.torch_learner import TorchLearner

ALL = ["centralised", "isolated", "cyclic", "fedavg", "d-psgd"]
DIGITS = {
    "nodes": 6, "rounds": 3, "model": "softmax", "momentum": 0.5, "partition": "dirichlet:0.5",
    "baselines": ALL,
}  # fmt: skip


@pytest.fixture(scope="module")
def dataset() -> Any:
    return load(DataConfig())


def digits(
    dataset: Any, pool: Jobs, learner: Learner, **flat: object
) -> list[tuple[float, BaselineEvaluated]]:
    config = build(SimConfig, DIGITS | flat)
    parts = shards(dataset, config.data, config.nodes)
    lines: list[tuple[float, BaselineEvaluated]] = []
    run_baselines(
        config, learner, parts, pool, lambda at, event: lines.append((at, event)), (), [1000.0] * config.nodes
    )
    return lines


def test_they_learn_the_digits_as_they_should(dataset: Any) -> None:
    learner = TorchLearner(dataset, "softmax")
    lines = digits(dataset, InlinePool(learner), learner)
    last = {event.baseline: event.accuracy for _, event in lines if event.round == 3}
    assert list(last) == ALL
    assert last["centralised"] > 0.9
    assert last["isolated"] < min(last["centralised"], last["fedavg"], last["d-psgd"])
    assert min(last["fedavg"], last["d-psgd"]) > 0.75
    images = {event.baseline: event.images for _, event in lines if event.round == 3}
    assert set(images.values()) == {3 * 1438}


def test_equal_seeds_give_equal_lines_on_any_pool_and_whichever_else_run(dataset: Any) -> None:
    learner = TorchLearner(dataset, "softmax")
    alone = digits(dataset, InlinePool(learner), learner)
    with WorkerPool(learner, 2) as pool:
        assert digits(dataset, pool, learner) == alone
        fewer = digits(dataset, pool, learner, baselines=["d-psgd", "fedavg"])
    assert [line for line in fewer if line[1].baseline == "d-psgd"] == [
        line for line in alone if line[1].baseline == "d-psgd"
    ]
    other = digits(dataset, InlinePool(learner), learner, seed=1)
    assert [event.loss for _, event in other] != [event.loss for _, event in alone]
    assert [event.images for _, event in other] == [event.images for _, event in alone]

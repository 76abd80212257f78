"""The examples do what they say."""

import json
from pathlib import Path

import numpy as np
import pytest

from examples.sklearn_node import SgdLearner
from p2pfl.config import DataConfig
from p2pfl.learning.data import load
from p2pfl.learning.learner import FitPlan
from tests.processes.real import SKLEARN_NODE, nodes


def plan(samples: int, **changed: object) -> FitPlan:
    values = {
        "indices": np.arange(samples),
        "steps": 40,
        "batch_size": 16,
        "learning_rate": 0.01,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "seed": 3,
    }
    return FitPlan(**values | changed)


@pytest.mark.parametrize("kept", [(), ("3", "7")])
def test_the_sklearn_learner_learns_and_is_pure(kept):
    learner = SgdLearner(load(DataConfig(keep_classes=kept)))
    start = learner.initial_weights()
    chance = learner.evaluate(start)
    once = learner.fit(start, np.empty(0, np.float32), plan(200), lambda: False)
    again = learner.fit(start, np.empty(0, np.float32), plan(200), lambda: False)
    np.testing.assert_array_equal(once.weights, again.weights)
    assert not start.any()
    assert (once.weights.shape, once.weights.dtype) == ((learner.layout.size,), np.float32)
    assert (once.steps, once.samples) == (40, plan(200).samples)
    learned = learner.evaluate(once.weights)
    assert learned.accuracy > max(0.7, chance.accuracy)
    assert learned.loss < chance.loss
    assert learner.evaluate(once.weights, limit=50).samples == 50


def test_the_sklearn_learner_stops_between_batches():
    learner = SgdLearner(load(DataConfig()))
    asked = iter([False, False, True])
    result = learner.fit(learner.initial_weights(), np.empty(0, np.float32), plan(200), lambda: next(asked))
    assert (result.steps, result.samples) == (2, 32)


@pytest.mark.xdist_group("nodes")
def test_two_sklearn_nodes_gossip_through_the_same_node(tmp_path):
    flags = ("--rounds", "3", "--interval", "0", "--lr", "0.01", "--min-peers", "1", "--exit-when-done")
    with nodes(tmp_path, ("--shard", "0/2", *flags), command=SKLEARN_NODE) as (first,):
        url = first.wait_listening()
        company = ("--shard", "1/2", *flags, "--peers", url, "--journal", "second.jsonl")
        with nodes(tmp_path, company, command=SKLEARN_NODE) as (second,):
            for node in (first, second):
                _, log = node.process.communicate(timeout=120)
                assert node.process.returncode == 0, log
    lines = [json.loads(line) for line in Path(tmp_path, "second.jsonl").read_text().splitlines()]
    assert "merged" in [line["event"] for line in lines]
    assert [line["accuracy"] for line in lines if line["event"] == "evaluated"][-1] > 0.85

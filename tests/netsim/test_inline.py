"""Jobs in the calling process: the contract, what is lazy about them, and torch as in a worker."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from netsim.inline import InlinePool
from netsim.workers import WorkerPool
from p2pfl.gossip.messages import Task
from p2pfl.learning import work
from p2pfl.learning.dataset import Dataset
from p2pfl.learning.learner import FitPlan, FitResult
from p2pfl.learning.torch_learner import TorchLearner
from tests.learners import STATELESS, NumpyLearner, plan, same
from tests.netsim.pool_contract import LEARNER, PoolContract


class TestInlinePool(PoolContract):
    @pytest.fixture
    def pool(self) -> Iterator[InlinePool]:
        with InlinePool(LEARNER) as pool:
            yield pool


def test_nothing_is_computed_before_somebody_asks() -> None:
    computed: list[int] = []

    def before(todo: FitPlan) -> None:
        computed.append(todo.seed)

    learner = NumpyLearner(before=before)
    with InlinePool(learner) as pool:
        first, second, third = (
            pool.submit_fit(learner.initial_weights(), STATELESS, plan(seed)) for seed in (1, 2, 3)
        )
        assert computed == []
        pool.result(third)
        pool.discard(first)
        pool.result(second)
    assert computed == [3, 2]


def test_torch_trains_as_in_a_worker_and_gets_its_threads_back() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    labels = rng.integers(0, 3, 60)
    task = Task("blots", ("a", "b", "c"), (1, 8, 8), (0.5,), (0.25,))
    learner = TorchLearner(Dataset(task, images[:40], labels[:40], images[40:], labels[40:]), "mlp")
    todo = FitPlan(np.arange(40), 9, 8, 0.1, 0.9, 0.001, 5)
    threads = torch.get_num_threads()
    results: list[FitResult] = []
    losses: list[float] = []
    for pool in (WorkerPool(learner, 1), InlinePool(learner)):
        with pool:
            first = pool.result(pool.submit_fit(learner.initial_weights(), STATELESS, todo))
            results.append(pool.result(pool.submit_fit(first.weights, first.optimiser, todo)))
            losses.append(pool.result(pool.submit_evaluate(first.weights)).loss)
    assert same(*results)
    assert losses[0] == losses[1]
    torch.set_num_threads(2)
    try:
        with work.one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)

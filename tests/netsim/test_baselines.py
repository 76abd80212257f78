"""Each baseline against a slow obvious reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netsim import topology
from netsim.baselines import run_baselines
from netsim.config import SimConfig
from p2pfl.config import build
from p2pfl.learning.partition import Shard
from tests.netsim.baseline_bench import LATENCY, MODEL, START, Adder, Bench, added, ran


def test_centralised_trains_one_model_on_all_samples() -> None:
    run = ran("centralised", (4, 9, 7), local_epochs=2)
    assert [event.round for event in run.events] == [1, 2, 3]
    assert run.losses == [START + 1, START + 2, START + 3]
    for label, plan, _ in run.bench.fits:
        assert label == "centralised, all shards"
        assert plan.indices.tolist() == list(range(20))
        assert plan.samples == 40
    assert [event.images for event in run.events] == [40, 80, 120]
    assert {(event.bytes, event.nodes) for event in run.events} == {(0, 1)}
    assert len({plan.seed for _, plan, _ in run.bench.fits}) == 3


def test_centralised_trains_as_many_images_as_all_nodes_to_a_batch() -> None:
    run = ran("centralised", (4, 9, 7), local_steps=3)  # nodes: 4 x 3, 5 + 4 + 5 and 5 + 2 + 5 images
    (_, plan, _), *_ = run.bench.fits
    assert 38 <= plan.samples < 38 + 5


def test_centralised_of_overlapping_shards_takes_every_sample_once_a_pass() -> None:
    bench = Bench(Adder())
    own = [Shard(3, (3, 0), "", np.array(part)) for part in ([0, 1, 2], [1, 2, 5])]
    config = build(SimConfig, {"nodes": 2, "rounds": 1, "batch-size": 1, "baselines": ["centralised"]})
    run_baselines(config, bench.learner, own, bench, lambda *_: None, (), [1.0, 1.0])
    ((_, plan, _),) = bench.fits
    assert plan.indices.tolist() == [0, 1, 2, 5]
    assert plan.samples == 6


def test_isolated_nodes_train_alone_and_their_accuracies_are_averaged() -> None:
    sizes = (4, 9, 7)
    run = ran("isolated", sizes)
    for round, event in enumerate(run.events, 1):
        weights = START + round * added(sizes)
        accuracies = (100 - weights) / 100
        assert event.loss == pytest.approx(weights.mean())
        assert event.accuracy == pytest.approx(accuracies.mean())
        assert (event.accuracy_min, event.accuracy_max) == pytest.approx((accuracies.min(), accuracies.max()))
        assert (event.nodes, event.images, event.bytes) == (3, round * 20, 0)
        assert np.sum(event.confusion) == 300


def test_of_many_isolated_nodes_a_sample_is_trained() -> None:
    run = ran("isolated", (5,) * 60, rounds=2)
    nodes = {label for label, _, _ in run.bench.fits}
    assert len(nodes) == 50
    assert len(run.bench.fits) == 100
    assert {(event.nodes, event.images) for event in run.events} == {(50, 250), (50, 500)}
    assert {label for label, _, _ in ran("isolated", (5,) * 60, seed=1).bench.fits} != nodes


@pytest.mark.parametrize(
    ("order", "visited", "handed_over"),
    [
        ((), [0, 1, 2], 3 * 3 - 1),
        (("2", "0"), [2, 0], 2 * 3 - 1),
        (("1",), [1], 0),
        (("1", "1", "0"), [1, 1, 0], 5),
    ],
)
def test_cyclic_takes_one_model_from_node_to_node(
    order: tuple[str, ...], visited: list[int], handed_over: int
) -> None:
    sizes = (4, 9, 7)
    run = ran("cyclic", sizes, cyclic_order=order)
    assert [label for label, _, _ in run.bench.fits] == [f"cyclic, node {node}" for node in visited] * 3
    per_tour = added(sizes)[visited].sum()
    assert run.losses == [START + round * per_tour for round in (1, 2, 3)]
    assert run.events[-1].bytes == handed_over * MODEL
    assert run.events[-1].images == 3 * sum(sizes[node] for node in visited)


def test_fedavg_of_all_clients_with_equal_shards_is_the_mean_of_what_they_trained() -> None:
    run = ran("fedavg")
    assert run.losses == pytest.approx([START + round * added((10,) * 4).mean() for round in (1, 2, 3)])
    assert [event.bytes for event in run.events] == [round * 4 * 2 * MODEL for round in (1, 2, 3)]
    assert [event.images for event in run.events] == [40, 80, 120]


def test_fedavg_weighs_clients_by_their_samples() -> None:
    sizes = (4, 9, 7)
    expected = START + np.arange(1, 4) * (np.array(sizes) * added(sizes)).sum() / 20
    assert ran("fedavg", sizes).losses == pytest.approx(expected.tolist())


@pytest.mark.parametrize(("share", "asked"), [(0.5, 4), (0.01, 1), (1.0, 8), (0.3, 2)])
def test_fedavg_asks_a_random_share_of_the_clients(share: float, asked: int) -> None:
    run = ran("fedavg", (10,) * 8, server_share=share, rounds=6)
    labels = [label for label, _, _ in run.bench.fits]
    rounds = [labels[start : start + asked] for start in range(0, len(labels), asked)]
    assert len(rounds) == 6
    assert all(len(set(clients)) == asked for clients in rounds)
    assert len({tuple(clients) for clients in rounds}) > 1 or asked == 8
    expected = START
    for clients in rounds:
        expected += np.mean([added((10,) * 8)[int(label.split()[-1])] for label in clients])
    assert run.losses[-1] == pytest.approx(expected)
    assert run.events[-1].bytes == 6 * asked * 2 * MODEL


@pytest.mark.parametrize("kind", ["ring", "star", "complete", "torus"])
def test_d_psgd_is_its_matrix_formula(kind: str) -> None:
    sizes = (3, 5, 2, 6, 4, 4)
    config = build(SimConfig, {"topology": kind}).topology
    graph = topology.edges(config, 6, np.random.default_rng(0))
    run = ran("d-psgd", sizes, graph=graph, topology=kind, rounds=7)
    degree = np.bincount(np.array(graph).ravel())
    mixing = np.zeros((6, 6))
    for i, j in graph:
        mixing[i, j] = mixing[j, i] = 1 / (1 + max(degree[i], degree[j]))
    mixing += np.diag(1 - mixing.sum(axis=1))
    values = np.full(6, START)
    for event in run.events:
        values = mixing @ values + added(sizes)
        assert event.loss == pytest.approx(values.mean(), rel=1e-6)
        accuracies = (100 - values).clip(0) / 100
        found = (event.accuracy, event.accuracy_min, event.accuracy_max)
        assert found == pytest.approx((accuracies.mean(), min(accuracies), max(accuracies)), abs=0.006)
    assert run.events[-1].bytes == 7 * 2 * len(graph) * MODEL
    assert run.events[-1].images == 7 * sum(sizes)
    np.testing.assert_allclose(run.bench.evaluated[-6:], values, rtol=1e-6)


@pytest.mark.parametrize(
    ("nodes", "fanout", "edges"), [(9, 2, 18), (5, 2, 10), (4, 2, 6), (30, 3, 90), (1, 2, 0)]
)
def test_d_psgd_with_random_sampling_takes_a_random_regular_or_the_complete_graph(
    nodes: int, fanout: int, edges: int
) -> None:
    run = ran("d-psgd", (5,) * nodes, fanout=fanout, rounds=1)
    assert run.events[-1].bytes == 2 * edges * MODEL


def test_d_psgd_settles_after_the_last_round() -> None:
    keys: dict[str, Any] = {"graph": ((0, 1), (1, 2)), "topology": "star", "rounds": 2}
    apart, close = ran("d-psgd", (3, 4, 5), **keys), ran("d-psgd", (3, 4, 5), **keys, settle=40)
    assert close.events[0] == apart.events[0]
    assert [event.round for event in close.events] == [1, 2]
    last = close.events[-1]
    assert last.loss == pytest.approx(apart.losses[-1], rel=1e-5)
    assert last.accuracy_min == last.accuracy_max
    assert last.images == apart.events[-1].images
    assert last.bytes == apart.events[-1].bytes + 40 * 4 * MODEL
    assert close.times[-1] == pytest.approx(apart.times[-1] + 40 * 2 * LATENCY)


@pytest.mark.parametrize("stop", [{"virtual_time": "1.7s"}, {"target_accuracy": 0.01}])
def test_d_psgd_that_is_stopped_does_not_settle(stop: dict[str, object]) -> None:
    run = ran("d-psgd", (10, 10), graph=((0, 1),), topology="complete", settle=9, **stop)
    assert [event.round for event in run.events] == [1]
    assert run.events[0].bytes == 2 * MODEL


def test_d_psgd_settles_only_as_long_as_there_is_time() -> None:
    keys = {"graph": ((0, 1),), "topology": "complete", "settle": 9, "rounds": 1}
    run = ran("d-psgd", (10, 10), **keys, virtual_time="1.13s")
    assert run.times == [pytest.approx(1 + 3 * 2 * LATENCY)]
    assert run.events[0].bytes == 3 * 2 * MODEL


def test_of_many_d_psgd_nodes_all_train_and_a_sample_is_evaluated() -> None:
    run = ran("d-psgd", (5,) * 60, rounds=1)
    assert (run.events[0].nodes, run.events[0].images) == (50, 300)
    assert len(run.bench.evaluated) == 50

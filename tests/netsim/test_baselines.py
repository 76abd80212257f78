"""Each baseline against a slow obvious reference, what it costs, when it stops, and that it learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from netsim import topology
from netsim.baselines import run_baselines
from netsim.config import SimConfig
from netsim.inline import InlinePool
from netsim.jobs import Job, Jobs
from netsim.journal import BaselineEvaluated
from netsim.workers import WorkerPool
from p2pfl.config import DataConfig, TrainingConfig, build
from p2pfl.gossip.messages import Layout, Task, TensorSpec, Vector
from p2pfl.learning.data import load
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult, Learner
from p2pfl.learning.partition import Shard, shards
from p2pfl.learning.torch_learner import TorchLearner

PARAMETERS = 3
MODEL = 4 * PARAMETERS  # bytes
START = 5.0
LATENCY = 0.02  # of the default links


class Adder:
    """A learner whose fit adds to every weight the number of its first sample, and 1.

    Its optimiser state counts the fits that went before. broken: first samples whose fits overflow.
    """

    task = Task("adding", ("a", "b"), (1, 1, 2), (0.5,), (0.5,))
    layout = Layout("adder", (TensorSpec("w", (PARAMETERS,)),))

    def __init__(self, broken: tuple[int, ...] = ()) -> None:
        self.broken = broken

    def initial_weights(self, seed: int | None = None) -> Vector:
        return np.full(PARAMETERS, START, np.float32)

    def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan, stop: Callable[[], bool]) -> FitResult:
        first = int(plan.indices[0])
        new = weights + np.float32(first + 1)
        if first in self.broken:
            new = np.full(PARAMETERS, np.inf, np.float32)
        count = optimiser[0] if optimiser.size else 0
        return FitResult(new, np.array([count + 1], np.float32), plan.steps, plan.samples, 0.5)

    def evaluate(
        self, weights: Vector, limit: int = 0, stop: Callable[[], bool] = lambda: False
    ) -> Evaluation:
        """The loss is the first weight; the accuracy falls by a percent for each 1 in it."""
        right = max(0, 100 - round(float(weights[0])))
        return Evaluation(float(weights[0]), np.array([[right, 100 - right], [0, 0]]))


class Bench(InlinePool):
    """A pool that keeps what it was asked."""

    def __init__(self, learner: Learner) -> None:
        super().__init__(learner)
        self.learner = learner
        self.fits: list[tuple[str, FitPlan, int]] = []  # label, plan, optimiser's size
        self.evaluated: list[float] = []  # first weights

    def submit_fit(
        self, weights: Vector, optimiser: Vector, plan: FitPlan, *, label: str = "", due: float = 0.0
    ) -> Job[FitResult]:
        self.fits.append((label, plan, optimiser.size))
        return super().submit_fit(weights, optimiser, plan, label=label)

    def submit_evaluate(self, weights: Vector, limit: int = 0, *, label: str = "") -> Job[Evaluation]:
        self.evaluated.append(float(weights[0]))
        return super().submit_evaluate(weights, limit, label=label)


def dealt(sizes: Sequence[int]) -> list[Shard]:
    """Shards of these sizes, one after another; node i begins at sample sum(sizes[:i])."""
    starts = np.cumsum([0, *sizes])
    return [
        Shard(size, (size, 0), f"{i:032x}", np.arange(start, start + size))
        for i, (size, start) in enumerate(zip(sizes, starts[:-1], strict=True))
    ]


@dataclass
class Ran:
    lines: list[tuple[float, BaselineEvaluated]]
    bench: Bench

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.lines]

    @property
    def events(self) -> list[BaselineEvaluated]:
        return [event for _, event in self.lines]

    @property
    def losses(self) -> list[float]:
        return [event.loss for event in self.events]


def ran(
    name: str,
    sizes: Sequence[int] = (10, 10, 10, 10),
    *,
    graph: topology.Edges = (),
    speeds: Sequence[float] | None = None,
    training_of: Callable[[int], TrainingConfig] | None = None,
    broken: tuple[int, ...] = (),
    **flat: object,
) -> Ran:
    """One baseline of three rounds with the Adder, on devices of 10 samples a second, batches of 5."""
    keys = {"nodes": len(sizes), "rounds": 3, "batch-size": 5, "settle": 0, "baselines": [name]} | {
        key.replace("_", "-"): value for key, value in flat.items()
    }
    learner = Adder(broken)
    bench = Bench(learner)
    lines: list[tuple[float, BaselineEvaluated]] = []
    run_baselines(
        build(SimConfig, keys),
        learner,
        dealt(sizes),
        bench,
        lambda at, event: lines.append((at, event)),
        graph,
        speeds or [10.0] * len(sizes),
        training_of,
    )
    return Ran(lines, bench)


def added(sizes: Sequence[int]) -> np.ndarray:
    """What a fit of each node adds."""
    return np.cumsum([0, *sizes])[:-1] + 1.0


# -- what each of them computes


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


# -- local training is a node's


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


# -- what they cost


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("centralised", 30 / 35),
        ("isolated", 2.0),
        ("cyclic", 1.0 + 0.5 + 2.0 + 3 * 2 * LATENCY),
        ("fedavg", 2.0 + 2 * LATENCY),
        ("d-psgd", 2.0 + 2 * LATENCY),
    ],
)
def test_rounds_take_the_time_of_the_slowest_and_of_its_exchanges(name: str, seconds: float) -> None:
    run = ran(name, (10, 10, 10), speeds=[10.0, 20.0, 5.0], graph=((0, 1), (1, 2)), topology="star")
    first = seconds - (2 * LATENCY if name == "cyclic" else 0)  # the first node has the model
    assert run.times == pytest.approx([first, first + seconds, first + 2 * seconds])


@pytest.mark.parametrize(
    ("name", "links", "transfer"),
    [
        ("fedavg", {"bandwidth": "12B/s"}, 2.0),
        ("fedavg", {"bandwidth": "12B/s", "uplink": "6B/s", "downlink": "3B/s"}, 8.0),
        ("d-psgd", {"bandwidth": "12B/s"}, 2.0),
        ("d-psgd", {"bandwidth": "12B/s", "uplink": "12B/s"}, 4.0),  # two neighbours share it
        ("cyclic", {"downlink": "12B/s"}, 3.0),
        ("isolated", {"bandwidth": "12B/s"}, 0.0),
        ("centralised", {"bandwidth": "12B/s"}, 0.0),
    ],
)
def test_models_of_12_bytes_take_the_narrowest_links_time(
    name: str, links: dict[str, str], transfer: float
) -> None:
    keys: dict[str, Any] = {"graph": ((0, 1), (0, 2), (1, 2)), "topology": "ring", "rounds": 2}
    quick, slow = ran(name, (10, 10, 10), **keys), ran(name, (10, 10, 10), **keys, **links)
    assert slow.times[1] - slow.times[0] == pytest.approx(quick.times[1] - quick.times[0] + transfer)


def test_latencies_are_typical_ones() -> None:
    run = ran("fedavg", latency="lognormal:1s,0.5", rounds=1)
    assert run.times == pytest.approx([1.0 + 2 * 1.0])


# -- when they are evaluated and when they end


@pytest.mark.parametrize(
    ("keys", "rounds"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"evaluate_every": 2}, [2, 4, 5]),
        ({"evaluate_every": 0}, [5]),
        ({"evaluate": "end"}, [5]),
        ({"evaluate": "mean", "evaluate_every": 5}, [5]),
        ({"virtual_time": "3.5s"}, [1, 2, 3]),
        ({"virtual_time": "3s", "evaluate_every": 2}, [2, 3]),
        ({"virtual_time": "0.5s"}, [0]),
        ({"rounds": 0, "virtual_time": "7.9s", "evaluate_every": 3}, [3, 6, 7]),
        ({"target_accuracy": 0.95}, [1, 2, 3, 4, 5]),
        ({"target_accuracy": 0.95, "evaluate_every": 2}, [2, 4, 5]),
        ({"target_accuracy": 0.90, "evaluate_every": 5}, [5]),
        ({"target_accuracy": 0.01, "evaluate": "end"}, [5]),
        ({"target_accuracy": 0.01}, [1]),
        ({"target_accuracy": 0.01, "evaluate_every": 2}, [2]),
    ],
)
def test_evaluated_after_these_rounds(keys: dict[str, object], rounds: list[int]) -> None:
    run = ran("isolated", (10,), **({"rounds": 5} | keys))
    assert [event.round for event in run.events] == rounds
    assert run.times == [float(round) for round in rounds]


def test_a_target_is_reached_in_the_midst() -> None:
    class Improving(Adder):
        def evaluate(self, weights: Vector, limit: int = 0, stop: Any = None) -> Evaluation:
            right = round(float(weights[0]) - START)
            return Evaluation(0.1, np.array([[right, 10 - right], [0, 0]]))

    bench = Bench(Improving())
    lines: list[BaselineEvaluated] = []
    config = build(
        SimConfig, {"nodes": 1, "rounds": 9, "baselines": ["fedavg", "isolated"], "target-accuracy": 0.4}
    )
    run_baselines(
        config, bench.learner, dealt((10,)), bench, lambda _, event: lines.append(event), (), [10.0]
    )
    assert [(event.baseline, event.round) for event in lines] == [
        (name, round) for name in ("fedavg", "isolated") for round in (1, 2, 3, 4)
    ]


def test_without_a_baseline_nothing_is_trained() -> None:
    bench = Bench(Adder())
    run_baselines(build(SimConfig, {"nodes": 2}), bench.learner, dealt((5, 5)), bench, print, (), [1.0, 1.0])
    assert bench.fits == []


# -- real training


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

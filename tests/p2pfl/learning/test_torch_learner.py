"""The PyTorch learner: plain SGD done exactly, on vectors, the same wherever and whenever it runs."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from p2pfl.gossip.messages import Task, Vector
from p2pfl.learning import models
from p2pfl.learning.dataset import Dataset
from p2pfl.learning.learner import FitPlan, FitResult, Learner
from p2pfl.learning.torch_learner import TorchLearner

NONE = np.zeros(0, dtype=np.float32)
TASK = Task("blobs", ("a", "b", "c"), (1, 8, 8), (0.4,), (0.3,))


def blobs(samples: int = 150, task: Task = TASK) -> Dataset:
    """Noise with one bright row for each class: easy to learn."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 120, (samples + 90, *task.input_shape), dtype=np.uint8)
    labels = np.arange(samples + 90) % len(task.classes)
    images[np.arange(len(images)), :, labels] += 90
    return Dataset(task, images[90:], labels[90:], images[:90], labels[:90])


def plan(**changes: object) -> FitPlan:
    base = FitPlan(np.arange(150), 12, 16, 0.1, 0.0, 0.0, 7)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def never() -> bool:
    return False


def fit(learner: Learner, weights: Vector, optimiser: Vector = NONE, **changes: object) -> FitResult:
    return learner.fit(weights, optimiser, plan(**changes), never)


def same(one: FitResult, other: FitResult) -> bool:
    return (
        one.weights.tobytes() == other.weights.tobytes()
        and one.optimiser.tobytes() == other.optimiser.tobytes()
        and one.loss == other.loss
    )


@pytest.fixture(scope="module")
def learner() -> TorchLearner:
    return TorchLearner(blobs(), "mlp")


def test_it_learns(learner: TorchLearner) -> None:
    weights = learner.initial_weights()
    before = learner.evaluate(weights)
    result = fit(learner, weights, steps=60)
    after = learner.evaluate(result.weights)
    assert before.accuracy < 0.7
    assert after.accuracy > 0.95
    assert after.loss < before.loss
    assert result.weights.shape == (learner.layout.size,)
    assert result.weights.dtype == np.float32
    assert np.isfinite(result.loss)


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.0, 0.01), (0.9, 0.0), (0.9, 0.01)])
def test_steps_are_those_of_torch_optim_sgd(learner: TorchLearner, momentum: float, decay: float) -> None:
    """Two fits in a row, the optimiser's state handed on, against one loop with torch's own optimiser."""
    data, start = blobs(), learner.initial_weights(1)
    first = fit(learner, start, momentum=momentum, weight_decay=decay)
    second = fit(learner, first.weights, first.optimiser, momentum=momentum, weight_decay=decay)

    module = models.build("mlp", TASK)
    parameters = list(module.parameters())
    nn.utils.vector_to_parameters(torch.from_numpy(start.copy()), parameters)
    sgd = torch.optim.SGD(parameters, lr=0.1, momentum=momentum, weight_decay=decay)
    losses = []
    for _ in range(2):
        rng = np.random.default_rng(7)
        order = np.concatenate([rng.permutation(150), rng.permutation(150)])
        cuts = [*range(0, 150, 16), *range(150, 300, 16)]
        for begin, end in itertools.pairwise(cuts[:13]):
            x = (torch.from_numpy(data.train_images[order[begin:end]]).float() / 255 - 0.4) / 0.3
            loss = functional.cross_entropy(module(x), torch.from_numpy(data.train_labels[order[begin:end]]))
            sgd.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            sgd.step()
            losses.append(loss.item() * (end - begin))
    expected = nn.utils.parameters_to_vector(parameters).detach().numpy()
    np.testing.assert_allclose(second.weights, expected, atol=2e-6)
    assert first.samples == second.samples == 182 == plan().samples
    assert second.loss == pytest.approx(sum(losses[12:]) / 182, rel=1e-4)
    assert first.optimiser.shape == ((learner.layout.size,) if momentum else (0,))


def test_equal_plans_give_equal_results_and_change_nothing_they_were_given(learner: TorchLearner) -> None:
    weights = learner.initial_weights()
    kept = weights.copy()
    one = fit(learner, weights, momentum=0.5)
    optimiser = one.optimiser.copy()
    two = fit(learner, one.weights, one.optimiser, momentum=0.5)
    learner.evaluate(two.weights)
    assert same(one, fit(learner, weights, momentum=0.5))
    assert same(two, fit(learner, one.weights, optimiser, momentum=0.5))
    assert not same(one, fit(learner, weights, momentum=0.5, seed=8))
    assert weights.tobytes() == kept.tobytes()
    assert one.optimiser.tobytes() == optimiser.tobytes()


def test_results_are_the_callers_own(learner: TorchLearner) -> None:
    first = fit(learner, learner.initial_weights())
    kept = first.weights.copy()
    fit(learner, first.weights)
    assert first.weights.tobytes() == kept.tobytes()


@pytest.mark.parametrize("model", ["mlp", "cnn-dropout"])
def test_the_result_does_not_depend_on_thread_memory_or_the_global_generator(model: str) -> None:
    learner = TorchLearner(blobs(), model)
    weights = learner.initial_weights()
    expected = fit(learner, weights)
    results = []
    for offset in range(1, 4):
        torch.manual_seed(offset)
        shifted = np.zeros(len(weights) + offset, dtype=np.float32)[offset:]
        shifted[:] = weights
        other = TorchLearner(blobs(), model)
        thread = threading.Thread(target=lambda w=shifted, o=other: results.append(fit(o, w)))
        thread.start()
        thread.join()
    assert len(results) == 3
    assert all(same(expected, result) for result in results)


def test_torchs_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    learner = TorchLearner(blobs(), "cnn-dropout")
    fit(learner, learner.initial_weights(3))
    assert torch.equal(state, torch.get_rng_state())


def test_the_number_of_threads_is_set_in_the_thread_that_trains() -> None:
    learner = TorchLearner(blobs(), "mlp", threads=1)
    seen = []

    def work() -> None:
        fit(learner, learner.initial_weights())
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [1]


def test_stop_is_asked_between_batches_and_what_was_trained_is_returned(learner: TorchLearner) -> None:
    asked = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 3

    weights = learner.initial_weights()
    result = learner.fit(weights, NONE, plan(), stop)
    assert (result.steps, result.samples) == (3, 48)
    assert same(result, fit(learner, weights, steps=3))


def test_stopped_before_the_first_batch_nothing_changes(learner: TorchLearner) -> None:
    weights = learner.initial_weights()
    result = learner.fit(weights, NONE, plan(), lambda: True)
    assert (result.steps, result.samples, result.loss) == (0, 0, 0.0)
    assert result.weights.tobytes() == weights.tobytes()


def test_each_pass_visits_every_own_sample_once(learner: TorchLearner) -> None:
    own = np.array([3, 50, 51, 97, 140])
    orders = []
    for steps in (3, 6):
        batches = list(learner._batches(plan(indices=own, batch_size=2, steps=steps)))
        assert [len(y) for _, y in batches] == [2, 2, 1] * (steps // 3)
        orders.append(torch.cat([x for x, _ in batches]))
    data = (torch.from_numpy(blobs().train_images[own]).float() / 255 - 0.4) / 0.3
    for one_pass in (orders[0], orders[1][:5], orders[1][5:]):
        assert torch.allclose(one_pass.sum((1, 2, 3)).sort()[0], data.sum((1, 2, 3)).sort()[0], atol=1e-4)
    assert not torch.equal(orders[1][:5], orders[1][5:])


def test_a_batch_larger_than_the_shard_is_one_full_pass(learner: TorchLearner) -> None:
    result = fit(learner, learner.initial_weights(), indices=np.arange(5), batch_size=1000, steps=2)
    assert (result.steps, result.samples) == (2, 10)


def test_a_plan_without_samples_is_refused(learner: TorchLearner) -> None:
    with pytest.raises(ValueError, match="without samples"):
        fit(learner, learner.initial_weights(), indices=np.arange(0))


def test_weights_that_overflow_are_returned_as_they_are(learner: TorchLearner) -> None:
    result = fit(learner, learner.initial_weights(), learning_rate=1e30)
    assert not np.all(np.isfinite(result.weights))
    assert result.steps == 12
    evaluation = learner.evaluate(result.weights)
    assert evaluation.samples == 90


@pytest.mark.parametrize(
    "bad", [np.zeros(3, np.float32), np.zeros((1, 3), np.float32), np.zeros(0, np.float64)]
)
def test_vectors_of_another_shape_or_type_are_refused(learner: TorchLearner, bad: Vector) -> None:
    good = learner.initial_weights()
    with pytest.raises(ValueError, match="weights are"):
        fit(learner, bad)
    with pytest.raises(ValueError, match="weights are"):
        learner.evaluate(good.astype(np.float64))
    if bad.shape != (0,):
        with pytest.raises(ValueError, match="optimiser state is"):
            fit(learner, good, bad, momentum=0.5)


# Initial weights


def test_initial_weights_are_byte_identical_in_another_process() -> None:
    """Which has drawn other random numbers before. And torchvision, slow to import, is not needed."""
    program = (
        "import hashlib, sys, torch; torch.manual_seed(99)\n"
        "from tests.p2pfl.learning.test_torch_learner import TorchLearner, blobs\n"
        "print(hashlib.sha256(TorchLearner(blobs(60), 'cnn').initial_weights().tobytes()).hexdigest())\n"
        "assert 'torchvision' not in sys.modules"
    )
    root = Path(__file__).parents[3]
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    here = TorchLearner(blobs(), "cnn").initial_weights()
    assert hashlib.sha256(here.tobytes()).hexdigest() == run.stdout.strip()


def test_initial_weights_follow_seed_and_layout(learner: TorchLearner) -> None:
    assert learner.initial_weights(4).tobytes() == learner.initial_weights(4).tobytes()
    assert learner.initial_weights(4).tobytes() != learner.initial_weights(5).tobytes()
    default = learner.initial_weights()
    assert default.tobytes() == learner.initial_weights(int(learner.layout.fingerprint[:16], 16)).tobytes()


# Evaluation


def test_evaluation_is_that_of_a_plain_loop(learner: TorchLearner) -> None:
    weights = fit(learner, learner.initial_weights()).weights
    evaluation, data = learner.evaluate(weights), blobs()
    module = models.build("mlp", TASK)
    nn.utils.vector_to_parameters(torch.from_numpy(weights), module.parameters())
    scores = module((torch.from_numpy(data.test_images).float() / 255 - 0.4) / 0.3).detach()
    expected = np.zeros((3, 3), dtype=np.int64)
    for label, guess in zip(data.test_labels, scores.argmax(1).tolist(), strict=True):
        expected[label, guess] += 1
    assert np.array_equal(evaluation.confusion, expected)
    assert evaluation.confusion.dtype == np.int64
    assert evaluation.loss == pytest.approx(
        functional.cross_entropy(scores, torch.from_numpy(data.test_labels)).item(), rel=1e-5
    )


def test_a_limited_evaluation_takes_a_fixed_sample_with_every_classs_share() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    data = dataclasses.replace(
        blobs(), test_images=blobs(10).test_images.repeat(2, 0)[:100], test_labels=labels
    )
    one, other = TorchLearner(data, "softmax"), TorchLearner(data, "softmax")
    weights = fit(one, one.initial_weights()).weights
    for limit, expected in [(10, [6, 3, 1]), (50, [30, 15, 5]), (100, [60, 30, 10]), (1000, [60, 30, 10])]:
        evaluation = one.evaluate(weights, limit)
        assert list(evaluation.confusion.sum(axis=1)) == expected
        assert evaluation.loss == other.evaluate(weights, limit).loss
    assert one.evaluate(weights, 1).samples == 1
    assert one.evaluate(weights).loss == pytest.approx(one.evaluate(weights, 100).loss)


def test_evaluation_leaves_dropout_and_batch_statistics_out() -> None:
    learner = TorchLearner(blobs(), "cnn-dropout")
    weights = learner.initial_weights()
    assert learner.evaluate(weights).loss == learner.evaluate(weights).loss


# Modules with buffers, frozen, unused or shared parts


class Peculiar(nn.Module):
    """BatchNorm's buffers, a frozen layer, an unused layer, one of two names, and an integer buffer."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.frozen = nn.Linear(64, 20)
        self.frozen.requires_grad_(False)
        self.norm = nn.BatchNorm1d(20)
        self.unused = nn.Linear(2, 2)
        self.last = nn.Linear(20, len(task.classes))
        self.again = self.last
        self.register_buffer("scratch", torch.ones(5), persistent=False)
        self.register_buffer("steps", torch.zeros(2, dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.again(torch.relu(self.norm(self.frozen(x.flatten(1)))))
        return scores


@pytest.fixture
def peculiar(monkeypatch: pytest.MonkeyPatch) -> TorchLearner:
    monkeypatch.setitem(models.MODELS, "peculiar", Peculiar)
    return TorchLearner(blobs(), "peculiar")


def test_running_statistics_travel_and_counters_do_not(peculiar: TorchLearner) -> None:
    names = [tensor.name for tensor in peculiar.layout.tensors]
    assert names == [
        "frozen.weight", "frozen.bias", "norm.weight", "norm.bias", "unused.weight", "unused.bias",
        "last.weight", "last.bias", "norm.running_mean", "norm.running_var",
    ]  # fmt: skip
    start = peculiar.initial_weights()
    assert start.shape == (peculiar.layout.size,)
    trained = fit(peculiar, start, momentum=0.9, weight_decay=0.1, steps=40)
    parts = {}
    begin = 0
    for tensor in peculiar.layout.tensors:
        parts[tensor.name] = slice(begin, begin + tensor.size)
        begin += tensor.size
    changed = {name: not np.array_equal(start[part], trained.weights[part]) for name, part in parts.items()}
    assert [name for name in names if not changed[name]] == [
        "frozen.weight", "frozen.bias", "unused.weight", "unused.bias",
    ]  # fmt: skip
    assert peculiar.evaluate(trained.weights).accuracy > 0.9
    again = fit(peculiar, start, momentum=0.9, weight_decay=0.1, steps=40)
    assert same(trained, again)


def test_a_last_batch_of_one_passes_through_batch_norm(peculiar: TorchLearner) -> None:
    result = fit(peculiar, peculiar.initial_weights(), indices=np.arange(17), batch_size=16, steps=4)
    assert (result.steps, result.samples) == (4, 34)
    assert np.all(np.isfinite(result.weights))
    assert peculiar._net.module.norm.training  # type: ignore[union-attr]

"""An update as a function of pictures is what training really does; what cannot be differentiated is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from p2pfl.audit.config import LeakConfig
from p2pfl.audit.functional import Functional, LocalTraining
from p2pfl.audit.observation import after_training, gradient, travelled
from p2pfl.config import DataConfig
from p2pfl.errors import ModelError
from p2pfl.gossip.messages import Task, Vector
from p2pfl.learning.data import load
from p2pfl.learning.models import build
from p2pfl.learning.torch_learner import TorchLearner
from p2pfl.learning.weights import FlatModule

DATA = load(DataConfig(dataset="digits"))
CPU = torch.device("cpu")


class Rounded(torch.autograd.Function):
    """Twice what comes in, with a derivative that autograd must not differentiate."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:
        return 2 * slope


class Once(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        doubled: torch.Tensor = Rounded.apply(self.linear(x.flatten(1)))
        return doubled


def once(task: Task) -> nn.Module:
    return Once()


def normed(task: Task) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Sigmoid(), nn.Flatten(), nn.Linear(144, 10)
    )


def made(model: str) -> tuple[TorchLearner, FlatModule, Functional]:
    learner = TorchLearner(DATA, model)
    network = FlatModule(build(model, DATA.task), model)
    network.load(learner.initial_weights())
    return learner, network, Functional(network, CPU)


def inputs(own: Any) -> torch.Tensor:
    pixels = torch.from_numpy(DATA.train_images[own]).double() / 255
    return (pixels - DATA.task.mean[0]) / DATA.task.std[0]


def flat(network: FlatModule, functional: Functional, vector: Vector) -> np.ndarray[Any, Any]:
    return np.concatenate([part.numpy().reshape(-1) for part in functional.split(vector)])


@pytest.mark.parametrize(
    "model", ["cnn-sigmoid", "mlp", "softmax", "tests.p2pfl.audit.test_functional:normed"]
)
@pytest.mark.parametrize("count", [1, 3])
def test_the_gradient_is_the_one_of_training(model: str, count: int) -> None:
    _, network, functional = made(model)
    own = np.arange(count)
    labels = torch.from_numpy(DATA.train_labels[own])
    sent = flat(network, functional, gradient(network, inputs(own).float(), labels, 0))
    found = functional.update(inputs(own), labels, LocalTraining(1, count, count, 0, 0.1))
    shown = np.concatenate([part.detach().numpy().reshape(-1) for part in found])
    np.testing.assert_allclose(shown, sent, atol=2e-4 * np.abs(sent).max())


@pytest.mark.parametrize(("held", "batch", "steps"), [(1, 1, 1), (1, 1, 4), (2, 2, 3)])
def test_steps_are_those_of_training(held: int, batch: int, steps: int) -> None:
    learner, network, functional = made("cnn-sigmoid")
    own = np.arange(2 * held)
    training = LocalTraining(2, held, batch, steps, 0.1)
    before = network.vector()
    after = after_training(learner, before, own, training, 0)
    found = functional.update(inputs(own), torch.from_numpy(DATA.train_labels[own]), training)
    shown = np.concatenate([part.detach().numpy().reshape(-1) for part in found])
    np.testing.assert_allclose(shown, (before - after) / 0.1, atol=1e-5)


def test_the_mean_of_models_after_one_step_is_the_model_of_one_batch() -> None:
    """Averaging the models of n nodes hides as much of a picture as a batch of n does, and no more."""
    learner, network, _ = made("cnn-sigmoid")
    own, before = np.arange(4), network.vector()
    averaged = after_training(learner, before, own, LocalTraining(4, 1, 1, 1, 0.1), 0)
    together = after_training(learner, before, own, LocalTraining(1, 4, 4, 1, 0.1), 0)
    np.testing.assert_allclose(averaged, together, atol=1e-6)


def test_a_gradient_leaves_the_running_statistics_alone() -> None:
    _, network, _ = made("tests.p2pfl.audit.test_functional:normed")
    before = network.vector()
    gradient(network, inputs(np.arange(3)).float(), torch.tensor([0, 1, 2]), 0)
    assert network.vector().tobytes() == before.tobytes()


def test_a_model_without_a_second_derivative_is_one_line() -> None:
    _, _, functional = made("tests.p2pfl.audit.test_functional:once")
    with pytest.raises(ModelError, match="has no second derivative") as caught:
        functional.check(inputs(np.arange(1)), torch.zeros(1, dtype=torch.int64))
    assert "\n" not in str(caught.value)
    made("cnn-sigmoid")[2].check(inputs(np.arange(1)), torch.zeros(1, dtype=torch.int64))


def test_what_travels_is_what_nodes_make_of_it() -> None:
    rng = np.random.default_rng(0)
    vector = rng.normal(size=70_000).astype(np.float32)
    assert travelled(vector, "f32", 0, rng).tobytes() == vector.tobytes()
    assert travelled(vector, "f32+deflate", 0, rng).tobytes() == vector.tobytes()
    for codec in ("f16", "f16+deflate"):
        assert (travelled(vector, codec, 0, rng) == vector.astype(np.float16).astype(np.float32)).all()
    noisy = travelled(vector, "f32", 0.5, rng)
    assert np.std(noisy - vector) == pytest.approx(0.5, rel=0.02)


def test_the_last_layer_is_found_and_missed() -> None:
    _, _, functional = made("mlp")
    assert [functional.names[place] for place in functional.last_layer() if place is not None] == [
        "5.weight",
        "5.bias",
    ]
    assert LeakConfig(batch=2, pictures=4).together == 2
    network = FlatModule(nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten()), "convolution")
    with pytest.raises(ModelError, match="no fully connected layer"):
        Functional(network, CPU).last_layer()

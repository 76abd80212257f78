"""Built-in models on every shape of picture, and what happens to factories that do not work."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from p2pfl.errors import ModelError
from p2pfl.gossip.messages import Task
from p2pfl.learning.models import MODELS, build
from p2pfl.learning.weights import FlatModule, layout_of

DIGITS = Task("digits", tuple("0123456789"), (1, 8, 8), (0.3,), (0.4,))
MNIST = Task("mnist", tuple("0123456789"), (1, 28, 28), (0.1307,), (0.3081,))
COLOUR = Task("colour", ("cat", "dog"), (3, 32, 32), (0.5,) * 3, (0.5,) * 3)
ODD = Task("odd", ("x", "y", "z"), (1, 13, 7), (0.5,), (0.5,))


@pytest.mark.parametrize("task", [DIGITS, MNIST, COLOUR, ODD], ids=lambda task: task.name)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_gives_class_scores_for_every_picture(model: str, task: Task) -> None:
    module = build(model, task)
    assert module.training
    scores = module(torch.ones(3, *task.input_shape))
    assert scores.shape == (3, len(task.classes))
    assert scores.dtype == torch.float32


@pytest.mark.parametrize(
    ("model", "size"),
    [("softmax", 7_850), ("mlp", 235_146), ("cnn", 73_594), ("cnn-sigmoid", 9_814), ("resnet18", 11_182_410)],
)
def test_sizes_for_mnist(model: str, size: int) -> None:
    layout = layout_of(build(model, MNIST), model)
    assert layout.size == size
    assert layout.model == model


def test_softmax_starts_from_zero() -> None:
    assert not FlatModule(build("softmax", MNIST), "softmax").vector().any()


def test_flat_vectors_of_pictures_suit_only_models_without_convolutions() -> None:
    table = Task("table", ("a", "b"), (13,), (0.0,), (1.0,))
    assert build("mlp", table)(torch.zeros(2, 13)).shape == (2, 2)
    for model in ("cnn", "cnn-dropout", "cnn-sigmoid", "resnet18"):
        with pytest.raises(ModelError, match="convolutions need pictures"):
            build(model, table)


@pytest.mark.parametrize("model", ["", "mlpp", "MLP", "module:", ":factory", "a.b.c"])
def test_an_unknown_name_lists_the_known_ones(model: str) -> None:
    with pytest.raises(ModelError, match=r"unknown model.*softmax, mlp, cnn"):
        build(model, MNIST)


FACTORIES = """
import torch
from torch import nn

def good(task):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, len(task.classes)))

def fails(task):
    raise RuntimeError("no\\nluck")

def nothing(task):
    return None

def too_many(task):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 11))

def too_small(task):
    return nn.Sequential(nn.Flatten(), nn.Linear(63, 10))

class Pair(nn.Module):
    def forward(self, x):
        return x, x

def pair(task):
    return Pair()

def double(task):
    return good(task).double()

class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = nn.Linear(64, 10)
        self.lazy = nn.LazyLinear(3)

    def forward(self, x):
        return self.used(x.flatten(1))

def lazy(task):
    return Lazy()

def weightless(task):
    return nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(10))

constant = 3
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's module in the current folder, which is not on the import path of an installed command."""
    (tmp_path / "own_models.py").write_text(FACTORIES)
    (tmp_path / "broken_models.py").write_text("import torch\n1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("own_models", "broken_models"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("factories")
def test_a_factory_of_ones_own_gets_the_task() -> None:
    assert build("own_models:good", DIGITS)(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


@pytest.mark.usefixtures("factories")
@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("own_models:fails", "RuntimeError: no luck"),
        ("own_models:nothing", "returned a NoneType"),
        ("own_models:too_many", r"gives \(2, 11\) for 2 samples, not \(2, 10\)"),
        ("own_models:too_small", "shapes cannot be multiplied"),
        ("own_models:pair", "gives tuple"),
        ("own_models:double", "cannot be built"),
        ("own_models:absent", "AttributeError"),
        ("own_models:constant", "is not a function"),
        ("no_such_models:good", "ModuleNotFoundError"),
        ("broken_models:good", "ZeroDivisionError"),
    ],
)
def test_a_factory_that_cannot_be_used_is_one_line(model: str, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        build(model, DIGITS)
    assert "\n" not in str(caught.value)
    assert model.partition(":")[0] in str(caught.value)


@pytest.mark.usefixtures("factories")
@pytest.mark.parametrize(
    ("model", "said"), [("lazy", "has no shape yet"), ("weightless", "no weights to learn")]
)
def test_a_module_that_cannot_be_flattened_is_one_line(model: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        FlatModule(build(f"own_models:{model}", DIGITS), model)


def test_weights_must_be_float32() -> None:
    with pytest.raises(ModelError, match=r"0\.weight is torch.float16"):
        layout_of(nn.Sequential(nn.Linear(2, 2).half()), "half")


def test_loading_a_vector_changes_the_module_and_the_vector_is_a_copy() -> None:
    net = FlatModule(build("mlp", DIGITS), "mlp")
    weights = np.arange(net.layout.size, dtype=np.float32)
    net.load(weights)
    assert torch.equal(next(net.module.parameters()).detach().flatten(), torch.arange(64.0 * 256))
    vector = net.vector()
    vector[:] = 0
    assert np.array_equal(net.vector(), weights)


def test_the_layout_is_that_of_the_state_dict_in_its_order() -> None:
    module = build("cnn", MNIST)
    layout = layout_of(module, "cnn")
    assert [tensor.name for tensor in layout.tensors] == list(module.state_dict())
    flat = FlatModule(module, "cnn").vector()
    expected = np.concatenate([tensor.numpy().ravel() for tensor in module.state_dict().values()])
    assert np.array_equal(flat, expected)

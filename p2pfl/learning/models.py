"""The built-in models, and anybody's own as `package.module:factory`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from p2pfl import own_code
from p2pfl.errors import ModelError
from p2pfl.gossip.messages import Task
from p2pfl.learning.vision import torchvision
from p2pfl.own_code import one_line

Factory = Callable[[Task], nn.Module]


def build(model: str, task: Task) -> nn.Module:
    """The untrained `model` for `task`: (n, *input_shape) float32 in, (n, C) class scores out.

    model: a key of MODELS, or `package.module:factory` where `factory(task)` returns the module and
    draws its initial weights from torch's global generator only, so that all nodes start equal.
    Raises ModelError, in one line, for an unknown name, a factory that fails, or scores of another shape.
    """
    factory = MODELS.get(model) or _import(model)
    try:
        module = factory(task)
        if not isinstance(module, nn.Module):
            raise TypeError(f"it returned a {type(module).__name__}, not a torch.nn.Module")
        scores = _try(module, task)
    except ModelError:
        raise
    except Exception as error:  # a user's factory may raise anything; it becomes one line
        raise ModelError(f"model {model} cannot be built for {_shown(task)}: {one_line(error)}") from error
    if not isinstance(scores, torch.Tensor) or scores.shape != (2, len(task.classes)):
        got = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise ModelError(
            f"model {model} gives {got} for 2 samples, not (2, {len(task.classes)}) class scores"
        )
    return module


def _try(module: nn.Module, task: Task) -> object:
    """Scores of two black pictures; shapes that do not fit fail here, before any training."""
    module.eval()
    with torch.no_grad():
        scores: object = module(torch.zeros(2, *task.input_shape))
    module.train()
    return scores


def _import(model: str) -> Factory:
    if not own_code.is_named(model):
        raise ModelError(f"unknown model {model!r}; take {', '.join(MODELS)} or package.module:factory")
    try:
        factory = own_code.find(model)
    except ImportError as error:
        raise ModelError(f"model {model} cannot be imported: {error}") from error
    if not callable(factory):
        raise ModelError(f"model {model}: {model.partition(':')[2]} is not a function")
    return factory


def _shown(task: Task) -> str:
    return f"inputs of {'x'.join(map(str, task.input_shape))} and {len(task.classes)} classes"


def softmax(task: Task) -> nn.Module:
    """Softmax regression from zero weights.

    Zero is the usual start of a convex problem: every start leads to the same optimum, and figures
    published for this model begin there.
    """
    linear = nn.Linear(math.prod(task.input_shape), len(task.classes))
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.Flatten(), linear)


def mlp(task: Task) -> nn.Module:
    """Two hidden layers: 784-256-128-10 for MNIST, 235,146 weights."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(task.input_shape), 256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, len(task.classes)),
    )


def cnn(task: Task) -> nn.Module:
    """Two 5x5 convolutions, each followed by a 2x2 maximum, and one hidden layer: 73,594 weights for MNIST.

    Few channels in the first convolution, whose large maps take most of the time.
    """
    channels, padding, (height, width) = _halved_twice(task)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 5, padding=padding),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(8, 32, 5, padding=padding),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * height * width, 128),
        nn.ReLU(),
        nn.Linear(128, len(task.classes)),
    )


def cnn_dropout(task: Task) -> nn.Module:
    """The classic small MNIST network with dropout: 10 and 20 channels of 5x5, 50 hidden units."""
    channels, padding, (height, width) = _halved_twice(task)
    return nn.Sequential(
        nn.Conv2d(channels, 10, 5, padding=padding),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(10, 20, 5, padding=padding),
        nn.Dropout2d(),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(20 * height * width, 50),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(50, len(task.classes)),
    )


def cnn_sigmoid(task: Task) -> nn.Module:
    """Two 12-channel 5x5 convolutions of stride 2 with sigmoids, and one fully connected layer.

    Twice differentiable everywhere, as reconstructing inputs from gradients needs: after LeNet in
    Zhu, Liu, Han, Deep Leakage from Gradients (2019), section 4.
    """
    channels, height, width = _picture(task)
    side_y, side_x = -(-height // 4), -(-width // 4)  # two strides of 2, each rounding up
    return nn.Sequential(
        nn.Conv2d(channels, 12, 5, stride=2, padding=2),
        nn.Sigmoid(),
        nn.Conv2d(12, 12, 5, stride=2, padding=2),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(12 * side_y * side_x, len(task.classes)),
    )


def resnet18(task: Task) -> nn.Module:
    """He et al. (2016), with the usual stem for small pictures: one 3x3 convolution, no maximum.

    The stem of the ImageNet version would shrink a 28x28 picture to 7x7 before the first block.
    """
    channels, _, _ = _picture(task)
    module: nn.Module = torchvision("models").resnet18(num_classes=len(task.classes))
    stem = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    module.conv1 = stem
    module.maxpool = nn.Identity()
    return module


def _halved_twice(task: Task) -> tuple[int, int, tuple[int, int]]:
    """(channels, padding, what is left of height and width) for two 5x5 convolutions with a halving each.

    Unpadded where the picture allows it, which is the cheaper; 8x8 pictures would be used up.
    """
    channels, *sides = _picture(task)
    padding = 0 if min(sides) >= 16 else 2
    for _ in range(2):
        sides = [(side - 4 + 2 * padding) // 2 for side in sides]
    return channels, padding, (sides[0], sides[1])


def _picture(task: Task) -> tuple[int, int, int]:
    """(C, H, W) of a task of pictures that are large enough to be halved twice."""
    if len(task.input_shape) != 3 or min(task.input_shape[1:]) < 4:
        raise ModelError(
            f"convolutions need pictures of 4x4 or more, not {_shown(task)}; take softmax or mlp"
        )
    channels, height, width = task.input_shape
    return channels, height, width


MODELS: dict[str, Factory] = {
    "softmax": softmax,
    "mlp": mlp,
    "cnn": cnn,
    "cnn-dropout": cnn_dropout,
    "cnn-sigmoid": cnn_sigmoid,
    "resnet18": resnet18,
}

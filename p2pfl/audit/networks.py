"""Networks for audits that nodes rarely train, to be named as `p2pfl.audit.networks:cnn_relu`."""

from __future__ import annotations

from torch import nn

from p2pfl.gossip.messages import Task
from p2pfl.learning.models import build


def cnn_relu(task: Task) -> nn.Module:
    """`cnn-sigmoid` with ReLU: its second derivative is zero wherever it exists."""
    module = build("cnn-sigmoid", task)
    _exchange(module, nn.Sigmoid, nn.ReLU)
    return module


def resnet18_sigmoid(task: Task) -> nn.Module:
    """`resnet18` with sigmoids and without strides, as Zhu, Liu, Han (2019), section 4, attack it.

    Maps keep the picture's size through all layers: some forty times the work of `resnet18`.
    """
    module = build("resnet18", task)
    _exchange(module, nn.ReLU, nn.Sigmoid)
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.stride = (1, 1)
    return module


def _exchange(module: nn.Module, old: type[nn.Module], new: type[nn.Module]) -> None:
    for name, part in module.named_children():
        if isinstance(part, old):
            setattr(module, name, new())
        else:
            _exchange(part, old, new)

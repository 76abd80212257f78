"""Networks that a publication describes and nobody else needs."""

from __future__ import annotations

from torch import nn

from p2pfl.gossip.messages import Task

_CHANNELS = 16


def five_layers(task: Task) -> nn.Module:
    """Five 3x3 convolutions of stride 1, 2, 1, 2, 1 with ReLU, their mean, a linear layer."""
    layers: list[nn.Module] = []
    before = task.input_shape[0]
    for stride in (1, 2, 1, 2, 1):
        layers += [nn.Conv2d(before, _CHANNELS, 3, stride, padding=1), nn.ReLU()]
        before = _CHANNELS
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_CHANNELS, len(task.classes))
    )

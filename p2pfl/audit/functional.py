"""A model's update as a function of the pictures, which can be differentiated by them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from p2pfl.errors import ModelError
from p2pfl.gossip.messages import Vector
from p2pfl.learning.weights import FlatModule

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class LocalTraining:
    """How an update came about, which an attacker who runs the same program knows or can guess.

    nodes: whose models were averaged.  held: pictures of each.  batch: pictures in a step of SGD.
    steps: 0 for the bare gradient of what is held.  lr: learning rate.
    """

    nodes: int
    held: int
    batch: int
    steps: int
    lr: float


class Functional:
    """A network at given weights, in float64: matching to the last digits is what shows a picture.

    Dropout is off, since nobody outside knows what was dropped. BatchNorm takes its running statistics for
    a batch of one, as training does (`TorchLearner`).
    """

    def __init__(self, network: FlatModule, device: torch.device) -> None:
        """network: at the weights before training; copied."""
        self.name = network.layout.model
        self.device = device
        self._module = copy.deepcopy(network.module).to(device, torch.float64)
        self._module.eval()
        self._norms = [part for part in self._module.modules() if isinstance(part, _NORMS)]
        trained = {name: p for name, p in self._module.named_parameters() if p.requires_grad}
        self.names = tuple(trained)
        self._start = tuple(p.detach().clone().requires_grad_() for p in trained.values())
        kept = {name: p for name, p in self._module.named_parameters() if name not in trained}
        self._fixed = {**kept, **dict(self._module.named_buffers())}
        ends = np.cumsum([tensor.size for tensor in network.layout.tensors])
        self._places = {
            tensor.name: (slice(int(end) - tensor.size, int(end)), tensor.shape)
            for tensor, end in zip(network.layout.tensors, ends, strict=True)
        }

    def split(self, vector: Vector | np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[Tensor, ...]:
        """vector: (P,) in the layout's order -> the trained parameters' parts, float64."""
        parts = [self._places[name] for name in self.names]
        return tuple(
            torch.from_numpy(vector[place].astype(np.float64)).view(shape).to(self.device)
            for place, shape in parts
        )

    def update(self, inputs: Tensor, targets: Tensor, training: LocalTraining) -> tuple[Tensor, ...]:
        """(weights before - weights after) / learning rate, a tensor for each trained parameter.

        inputs: (nodes * held, C, H, W) float64, normalised.  targets: (nodes * held,) int64 labels, or
        (nodes * held, classes) float64 probabilities. A node's steps take its pictures in the given order.
        """
        updates = [
            self._of_one(x, y, training)
            for x, y in zip(
                torch.split(inputs, training.held), torch.split(targets, training.held), strict=True
            )
        ]
        return tuple(torch.stack(parts).mean(0) for parts in zip(*updates, strict=True))

    def _of_one(self, x: Tensor, y: Tensor, training: LocalTraining) -> Sequence[Tensor]:
        if training.steps == 0:
            return self._gradient(self._start, x, y)
        batches = list(zip(torch.split(x, training.batch), torch.split(y, training.batch), strict=True))
        weights: Sequence[Tensor] = self._start
        for step in range(training.steps):
            gradient = self._gradient(weights, *batches[step % len(batches)])
            weights = [w - training.lr * g for w, g in zip(weights, gradient, strict=True)]
        return [(w - v) / training.lr for w, v in zip(self._start, weights, strict=True)]

    def _gradient(self, weights: Sequence[Tensor], x: Tensor, y: Tensor) -> Sequence[Tensor]:
        """Of the mean cross-entropy, itself differentiable; zeros for a parameter that is not used."""
        for norm in self._norms:
            norm.train(len(x) > 1)
        # Cloned: BatchNorm changes its running statistics in place.
        tensors = {name: tensor.clone() for name, tensor in self._fixed.items()}
        tensors.update(zip(self.names, weights, strict=True))
        loss = functional.cross_entropy(functional_call(self._module, tensors, (x,)), y)
        found = torch.autograd.grad(loss, tuple(weights), create_graph=True, allow_unused=True)
        return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]

    def check(self, inputs: Tensor, targets: Tensor) -> None:
        """Raises ModelError, in one line, if the gradient cannot be differentiated by `inputs`."""
        x = inputs.detach().requires_grad_()
        advice = "attacks need it; take a model of smooth layers, such as cnn-sigmoid"
        try:
            gradient = self._gradient(self._start, x, targets)
            # To all leaves, not to `x` alone: a derivative that is cut off lies on no way to `x`, and a
            # search would take what is left of the slope for all of it.
            torch.stack([(g * g).sum() for g in gradient]).sum().backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"model {self.name} has no second derivative ({reason}); {advice}") from error
        finally:
            for weight in self._start:
                weight.grad = None

    def last_layer(self) -> tuple[int, int | None]:
        """Positions in `names` of the weights and the bias of the last fully connected layer.

        Raises ModelError if there is none: labels are read from it.
        """
        found = [name for name, part in self._module.named_modules() if isinstance(part, nn.Linear)]
        for name in reversed(found):
            weight, bias = f"{name}.weight".lstrip("."), f"{name}.bias".lstrip(".")
            if weight in self.names:
                return self.names.index(weight), self.names.index(bias) if bias in self.names else None
        raise ModelError(
            f"model {self.name} has no fully connected layer to read labels from; take --method dlg"
        )

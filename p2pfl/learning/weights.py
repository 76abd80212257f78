"""A module and one flat float32 vector (P,): the same memory, seen two ways."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from p2pfl.errors import ModelError
from p2pfl.gossip.messages import Layout, TensorSpec, Vector


def _tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """What travels: the parameters, then the float buffers, both in state_dict order.

    Integer buffers (BatchNorm's num_batches_tracked) stay out, since the mean of two counters means
    nothing; so do buffers that the module itself keeps out of its state_dict. A tensor shared by two
    layers counts once. Raises ModelError for what has no place in a float32 vector.
    """
    kept = module.state_dict(keep_vars=True).keys()
    found: list[tuple[str, torch.Tensor]] = list(module.named_parameters())
    found += [
        (name, buffer)
        for name, buffer in module.named_buffers()
        if name in kept and buffer.is_floating_point()
    ]
    for name, tensor in found:
        if is_lazy(tensor):
            raise ModelError(f"{name} has no shape yet; run lazy modules once inside the factory")
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            raise ModelError(
                f"{name} is {tensor.dtype} on {tensor.device.type}; weights must be float32 on the CPU"
            )
    if not found:
        raise ModelError("the model has no weights to learn")
    return found


def layout_of(module: nn.Module, name: str) -> Layout:
    """The layout of `module`'s flat vector. name: the model's. Raises ModelError, see _tensors."""
    specs = [TensorSpec(key, tuple(tensor.shape)) for key, tensor in _tensors(module)]
    return Layout(name, tuple(specs))


class FlatModule:
    """A module whose parameters and float buffers are views of one flat tensor, so loading is one copy.

    flat: (P,) float32, in torch's own (64-byte aligned) memory: where the caller's array happens to lie
    changes no result. trainable: the parameters that training changes, `sizes` their elements.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        tensors = _tensors(module)
        self.module = module
        self.layout = layout_of(module, name)
        self.flat = torch.empty(self.layout.size)
        self.trainable: list[nn.Parameter] = []
        start = 0
        for _, tensor in tensors:
            part = slice(start, start + tensor.numel())
            view = self.flat[part].view(tensor.shape)
            view.copy_(tensor.detach())
            tensor.data = view
            if isinstance(tensor, nn.Parameter) and tensor.requires_grad:
                self.trainable.append(tensor)
            start = part.stop
        self.sizes = [parameter.numel() for parameter in self.trainable]

    def load(self, weights: Vector) -> None:
        """weights: (P,) float32, copied. Raises ValueError for another shape or type."""
        if weights.shape != (self.layout.size,) or weights.dtype != np.float32:
            raise ValueError(
                f"weights are {weights.dtype} {weights.shape}, not float32 ({self.layout.size},)"
            )
        self.flat.numpy()[:] = weights

    def vector(self) -> Vector:
        """(P,) float32, a copy that the caller owns."""
        return self.flat.numpy().copy()

"""How far an update is from the one that was seen, and how restless pictures are: pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def squared_distance(update: Sequence[Tensor], seen: Sequence[Tensor]) -> Tensor:
    """0 for equal ones, 1 for an update of nothing.

    The loss of Zhu, Liu, Han (2019), equation 4, but each tensor's squares divided by the square root of
    its length. Unweighted, the last layer's tensor, the longest, hides the first's, which knows where in
    the picture something is: at equal iterations that costs some 5 dB on CIFAR-10.
    """
    lengths = [torch.linalg.vector_norm(s) for s in seen]
    pairs = [(u, s, length) for u, s, length in zip(update, seen, lengths, strict=True) if length > 0]
    distance = sum((((u - s) ** 2).sum() / length.sqrt() for u, s, length in pairs), start=torch.zeros(()))
    result: Tensor = distance / torch.stack([length**1.5 for _, _, length in pairs]).sum()
    return result


def angle(update: Sequence[Tensor], seen: Sequence[Tensor]) -> Tensor:
    """1 - cosine between the two, all tensors as one vector (Geiping et al., 2020, equation 4)."""
    product = torch.stack([(u * s).sum() for u, s in zip(update, seen, strict=True)]).sum()
    return 1 - product / (_length(update) * _length(seen))


def _length(update: Sequence[Tensor]) -> Tensor:
    return torch.stack([(u * u).sum() for u in update]).sum().sqrt()


def total_variation(pictures: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, across and down (Rudin, Osher, Fatemi, 1992, anisotropic).

    pictures: (n, C, H, W).
    """
    across = (pictures[..., 1:] - pictures[..., :-1]).abs().mean()
    down = (pictures[..., 1:, :] - pictures[..., :-1, :]).abs().mean()
    return across + down

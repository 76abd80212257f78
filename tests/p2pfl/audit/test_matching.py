"""Matching losses against plain loops, and what they are at the ends of their range."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from p2pfl.audit.matching import angle, squared_distance, total_variation


def some(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((3, 2), (4,))]


def test_an_update_that_is_the_same_has_no_distance_and_one_of_nothing_has_1() -> None:
    seen = some(0)
    assert squared_distance(seen, seen).item() == 0
    assert squared_distance([0 * s for s in seen], seen).item() == pytest.approx(1)
    assert angle(seen, seen).item() == pytest.approx(0)
    assert angle([3 * s for s in seen], seen).item() == pytest.approx(0)
    assert angle([-s for s in seen], seen).item() == pytest.approx(2)


def test_losses_are_their_formulas() -> None:
    update, seen = some(1), some(2)
    above = below = product = length_u = length_s = 0.0
    for u, s in zip(update, seen, strict=True):
        pairs = list(zip(u.reshape(-1).tolist(), s.reshape(-1).tolist(), strict=True))
        length = math.sqrt(sum(b * b for _, b in pairs))
        above += sum((a - b) ** 2 for a, b in pairs) / math.sqrt(length)
        below += length**2 / math.sqrt(length)
        product += sum(a * b for a, b in pairs)
        length_u += sum(a * a for a, _ in pairs)
        length_s += sum(b * b for _, b in pairs)
    assert squared_distance(update, seen).item() == pytest.approx(above / below)
    assert angle(update, seen).item() == pytest.approx(1 - product / math.sqrt(length_u * length_s))


def test_a_tensor_of_zeros_does_not_spoil_the_distance() -> None:
    seen = [*some(0), torch.zeros(2, dtype=torch.float64)]
    update = [*some(1), torch.zeros(2, dtype=torch.float64)]
    assert squared_distance(update, seen).item() == pytest.approx(squared_distance(some(1), some(0)).item())


def test_total_variation_is_that_of_neighbours() -> None:
    assert total_variation(torch.full((2, 1, 4, 4), 0.3)).item() == 0
    stripes = torch.tensor([[0.0, 1.0, 0.0, 1.0]]).expand(4, 4)[None, None]
    assert total_variation(stripes).item() == 1
    assert total_variation(stripes.transpose(2, 3)).item() == 1

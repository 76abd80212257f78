"""How far the models of others are from the own one: what is left of disagreement, in one figure a model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from p2pfl.gossip.messages import Vector

# Elements that are subtracted at a time: 256 KiB of float32, in the level-2 cache.
BLOCK = 65_536


def relative_distances(own: Vector, others: Sequence[Vector]) -> list[float]:
    """|x_i - own| / |own| of each of the others, Euclidean. own, others: (P,) float32, not modified.

    0 where nothing differs; infinite where the own model is 0 and the other is not, or beyond float32.
    One pass through each model, and no memory but a block.
    """
    size = own.size
    block = np.empty(min(size, BLOCK), np.float32)
    norm, sums = 0.0, [0.0] * len(others)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, size, BLOCK):
            mine = own[start : start + BLOCK]
            room = block[: mine.size]
            norm += float(np.dot(mine, mine))
            for place, other in enumerate(others):
                np.subtract(other[start : start + BLOCK], mine, out=room)
                sums[place] += float(np.dot(room, room))
    return [_root(apart, norm) for apart in sums]


def _root(apart: float, norm: float) -> float:
    if apart == 0.0:
        return 0.0
    return math.sqrt(apart / norm) if norm else math.inf

"""Weighted means of models: what most merge rules come to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2pfl.gossip.merge.claims import Shares
from p2pfl.gossip.messages import Vector

# Elements merged at a time: 128 Ki float32 are 512 KiB, so that the running sum stays in the level-2 cache.
BLOCK = 131_072

Change = tuple[Vector, Vector]  # (after, before): their difference is what training did meanwhile


def weighted_mean(vectors: Sequence[Vector], weights: Shares, change: Change | None = None) -> Vector:
    """Sum of w_i x_i: (P,) float32, new. vectors: k of (P,) float32, not modified.

    change: two vectors whose difference is added.
    Works block by block, so that each vector is read once from memory and the sum stays in the cache.
    Accumulates in float32: the error is below k x 2^-24 of the largest |w_i x_i|.
    """
    size = vectors[0].size
    merged = np.empty(size, dtype=np.float32)
    scratch = np.empty(min(BLOCK, size), dtype=np.float32)
    equal = bool(np.all(weights == weights[0]))
    factors = [np.float32(weight) for weight in weights]
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks at the result
        _add_up(vectors, factors, equal, change, merged, scratch)
    return merged


def _add_up(
    vectors: Sequence[Vector],
    factors: Sequence[np.float32],
    equal: bool,
    change: Change | None,
    merged: Vector,
    scratch: Vector,
) -> None:
    size, first, second = merged.size, vectors[0], vectors[1] if len(vectors) > 1 else None
    for start in range(0, size, BLOCK):
        block = slice(start, min(start + BLOCK, size))
        total, part = merged[block], scratch[: block.stop - start]
        if equal and second is not None:  # one multiplication at the end instead of one for each vector
            np.add(first[block], second[block], out=total)
            for vector in vectors[2:]:
                np.add(total, vector[block], out=total)
            np.multiply(total, factors[0], out=total)
        else:
            np.multiply(first[block], factors[0], out=total)
            for vector, factor in zip(vectors[1:], factors[1:], strict=True):
                np.multiply(vector[block], factor, out=part)
                np.add(total, part, out=total)
        add_change(total, change, block, part)


def add_change(total: Vector, change: Change | None, block: slice, scratch: Vector) -> None:
    """total += after - before within a block. total, scratch: as long as the block."""
    if change is not None:
        np.subtract(change[0][block], change[1][block], out=scratch)
        np.add(total, scratch, out=total)

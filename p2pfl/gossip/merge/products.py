"""Inner products of models, from which distances and angles between all of them follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from p2pfl.gossip.messages import Vector

# Elements in all blocks that are multiplied at a time: 1.5 MiB of float32, in the level-3 cache. What smaller
# blocks gain in a nearer cache they lose in calls, of which each block takes two for each model.
CACHED = 393_216

Products = npt.NDArray[np.float64]  # (k, k), symmetric


def inner_products(vectors: Sequence[Vector], *, own: bool = False) -> Products:
    """G[i, j] = <x_i - x_0, x_j - x_0>: (k, k) float64; row and column 0, the own model's, are 0.

    own: row and column 0 are of x_0 itself instead.

    The own model is subtracted first: near consensus the distances are the last digits of the weights, and
    |x_i|^2 + |x_j|^2 - 2 <x_i, x_j> would have none of them left in float32. Products are summed in float32
    within a block and in float64 over the blocks; if that overflows, all in float64.
    """
    rows = range(0 if own else 1, len(vectors))
    if len(rows) == 0:
        return np.zeros((len(vectors), len(vectors)))
    with np.errstate(over="ignore", invalid="ignore"):
        found = _summed(vectors, rows, np.dtype(np.float32))
    if not np.isfinite(found).all():
        found = _summed(vectors, rows, np.dtype(np.float64))
    found += np.triu(found, 1).T
    products = np.zeros((len(vectors), len(vectors)))
    products[rows.start :, rows.start :] = found
    return products


def _summed(vectors: Sequence[Vector], rows: range, dtype: np.dtype[np.floating]) -> Products:
    """The upper triangle of the products of `rows`; row 0 is not a difference."""
    size, count = vectors[0].size, len(rows)
    length = min(size, max(64, CACHED // (count + 1)))
    total = np.zeros((count, count))
    blocks = np.empty((count, length), dtype=dtype)
    part = np.zeros((count, count), dtype=dtype)
    for start in range(0, size, length):
        stop = min(start + length, size)
        if start == 0 or stop - start != length:
            # Views are made once: so many small ones take as long as what is done with them.
            outs = [row[: stop - start] for row in blocks]
            below = [blocks[i:, : stop - start] for i in range(count)]
            results = [part[i, i:] for i in range(count)]
        own = vectors[0][start:stop]
        for row, out in zip(rows, outs, strict=True):
            if row == 0:
                np.copyto(out, own)
            else:
                np.subtract(vectors[row][start:stop], own, out=out, dtype=dtype)
        for matrix, out, result in zip(below, outs, results, strict=True):
            np.dot(matrix, out, out=result)
        total += part
    return total


def squared_distances(products: Products) -> Products:
    """(k, k): |x_i - x_j|^2, of what inner_products gave without `own`."""
    squares = np.diag(products)
    return np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0.0)

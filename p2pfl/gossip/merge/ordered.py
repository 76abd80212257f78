"""Rules that look at each coordinate by itself: median and trimmed mean, by sorting networks.

A comparator of a network is one minimum and one maximum of two whole blocks, which numpy computes with vector
instructions; sorting k numbers at each of P places one by one takes twenty times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from p2pfl.gossip.merge.mean import Change, add_change
from p2pfl.gossip.messages import Vector

# Elements in all blocks that are sorted at a time: 512 KiB of float32 at most, the level-2 cache of a core.
CACHED = 131_072
# ... but blocks are not so short that calling numpy takes longer than computing.
SHORTEST = 4096

# (i, j, keep): the smaller of wires i and j goes to i, the larger to j. keep: "both", or "low" or "high" if
# nobody asks for the other one.
Comparator = tuple[int, int, str]


def coordinate_median(vectors: Sequence[Vector], change: Change | None = None) -> Vector:
    """Coordinate-wise median of k >= 1 vectors: (P,) float32, new; of an even k the mean of the middle two.

    Fewer than half liars cannot move it beyond the honest values (Yin et al. 2018, definition 1).
    change: as of weighted_mean.
    """
    return _middle(vectors, (len(vectors) - 1) // 2, change)


def trimmed_mean(vectors: Sequence[Vector], cut: int, change: Change | None = None) -> Vector:
    """Coordinate-wise mean of k vectors without the `cut` smallest and largest values: (P,) float32, new.

    0 <= cut < k / 2. Bears `cut` liars (Yin et al. 2018, definition 2, with cut = beta k). Accumulates in
    float32. change: as of weighted_mean.
    """
    if not 0 <= 2 * cut < len(vectors):
        raise ValueError(f"cannot cut {cut} of {len(vectors)} values at each end")
    return _middle(vectors, cut, change)


def _middle(vectors: Sequence[Vector], cut: int, change: Change | None) -> Vector:
    """Mean of what is left at each place without the `cut` least and greatest."""
    count, size = len(vectors), vectors[0].size
    network, kept = sorting_network(count, cut), range(cut, count - cut)
    block_size = min(size, max(SHORTEST, CACHED // (count + 2)))
    merged = np.empty(size, dtype=np.float32)
    blocks = np.empty((count + 2, block_size), dtype=np.float32)
    share = np.float32(1 / len(kept))
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks at the result
        for start in range(0, size, block_size):
            block = slice(start, min(start + block_size, size))
            free = [row[: block.stop - start] for row in blocks]
            wires = _sorted([vector[block] for vector in vectors], network, free)
            total = merged[block]
            if len(kept) == 1:
                np.copyto(total, wires[cut])
            else:
                np.add(wires[cut], wires[cut + 1], out=total)
                for wire in wires[cut + 2 : count - cut]:
                    np.add(total, wire, out=total)
                np.multiply(total, share, out=total)
            add_change(total, change, block, blocks[-1][: block.stop - start])
    return merged


def _sorted(wires: list[Vector], network: Sequence[Comparator], free: list[Vector]) -> list[Vector]:
    """What the wires carry in the end. wires: not modified in place.  free: two more blocks than wires."""
    ours: set[int] = set()  # wires whose block is one of `free`, to be used again
    for low, high, keep in network:
        first, second = wires[low], wires[high]
        released = [wires[wire] for wire in (low, high) if wire in ours]
        if keep != "high":
            wires[low] = np.minimum(first, second, out=free.pop())
            ours.add(low)
        if keep != "low":
            wires[high] = np.maximum(first, second, out=free.pop())
            ours.add(high)
        if keep == "low":
            ours.discard(high)
        elif keep == "high":
            ours.discard(low)
        free.extend(released)
    return wires


@lru_cache(maxsize=128)
def sorting_network(count: int, cut: int) -> tuple[Comparator, ...]:
    """Comparators after which wires cut..count-cut-1 carry what is between the extremes, in any order.

    Batcher's odd-even merge sort (Batcher 1968; Knuth, The Art of Computer Programming, volume 3, 5.2.2,
    algorithm M), which sorts, without the comparators on which nothing of this depends.
    """
    asked = ["kept" if cut <= wire < count - cut else "none" for wire in range(count)]
    needed: list[Comparator] = []
    for low, high in reversed(_batcher(count)):
        if asked[low] == asked[high] != "one":  # nobody cares which of the two is where
            continue
        keep = "high" if asked[low] == "none" else "low" if asked[high] == "none" else "both"
        needed.append((low, high, keep))
        asked[low] = asked[high] = "one"
    return tuple(reversed(needed))


def _batcher(count: int) -> list[tuple[int, int]]:
    """Comparators (i, j), i < j, that sort `count` values."""
    found = []
    top = 1 << max(0, count - 1).bit_length() >> 1
    span = top
    while span:
        reach, rest, step = top, 0, span
        while True:
            found += [(i, i + step) for i in range(count - step) if i & span == rest]
            if reach == span:
                break
            step, reach, rest = reach - span, reach >> 1, span
        span >>= 1
    return found

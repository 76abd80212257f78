"""Merge rules: pure functions of k vectors (P,) and what their senders claim about them.

Index 0 is always the node's own model. Claims (ages, sample counts) are clipped before they weigh anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np
import numpy.typing as npt

from p2pfl.config import MergeRule
from p2pfl.gossip.messages import Vector

# A claim weighs at most this many times the median claim: a peer that says it has seen a million times more
# samples than anybody else is either wrong or lying, and honest nodes differ by less than this.
CLAIM_LIMIT = 4.0

# Elements merged at a time: 32 Ki float32 are 128 KiB, so that the running sum stays in the level-2 cache.
BLOCK = 32_768

Shares = npt.NDArray[np.float64]  # (k,), not negative, sums to 1


def clip_claims(claims: Sequence[float]) -> npt.NDArray[np.float64]:
    """(k,) claims, own first, each at most CLAIM_LIMIT times their median."""
    limit = CLAIM_LIMIT * median(claims)  # of a handful of floats: numpy's takes ten times as long
    return np.array([min(claim, limit) for claim in claims], dtype=np.float64)


def clipped(*kinds: Sequence[float]) -> int:
    """How many senders have a claim that clip_claims lowers. kinds: (k,) claims each, own first.

    Of a kind of which half are 0, as at the start, none is counted.
    """
    found: set[int] = set()
    for claims in kinds:
        limit = CLAIM_LIMIT * median(claims)
        found |= {place for place, claim in enumerate(claims) if place and 0 < limit < claim}
    return len(found)


def shares(
    rule: MergeRule, ages: Sequence[float], samples: Sequence[float], lags: Sequence[int] | None = None
) -> Shares:
    """How much each of k models counts.

    mean: 1/k each.  samples: by training samples held (McMahan et al. 2017, FedAvg, algorithm 1).
    age: by samples seen by the lineage (after Ormandi et al. 2013, gossip learning, MergeMU's ages).
    ages, samples: (k,) claims, own first; clipped here. If all are 0 every model counts the same.
    lags: (k,) rounds by which each is behind, not negative; what is l rounds behind counts 1 / (1 + l) of
    that (Xie et al. 2019, Asynchronous Federated Optimization, section 5: polynomial staleness, a = 1).
    """
    weights = np.ones(len(ages)) if rule == "mean" else clip_claims(ages if rule == "age" else samples)
    if lags is not None:
        weights = weights / (1.0 + np.asarray(lags, dtype=np.float64))
    total = weights.sum()
    if not total > 0:
        weights, total = np.ones(len(ages)), float(len(ages))
    return np.asarray(weights / total, dtype=np.float64)


def merged_age(weights: Shares, ages: Sequence[float]) -> float:
    """Age of the merged lineage: sum of w_i x age_i, with the claims clipped."""
    return float(weights @ clip_claims(ages))


def weighted_mean(
    vectors: Sequence[Vector], weights: Shares, change: tuple[Vector, Vector] | None = None
) -> Vector:
    """Sum of w_i x_i: (P,) float32, new. vectors: k of (P,) float32, not modified.

    change: (after, before), two vectors whose difference is added: what training did meanwhile.
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
    change: tuple[Vector, Vector] | None,
    merged: Vector,
    scratch: Vector,
) -> None:
    size = merged.size
    for start in range(0, size, BLOCK):
        block = slice(start, min(start + BLOCK, size))
        total, part = merged[block], scratch[: block.stop - start]
        if equal:  # one multiplication at the end instead of one for each vector
            np.copyto(total, vectors[0][block])
            for vector in vectors[1:]:
                np.add(total, vector[block], out=total)
            np.multiply(total, factors[0], out=total)
        else:
            np.multiply(vectors[0][block], factors[0], out=total)
            for vector, factor in zip(vectors[1:], factors[1:], strict=True):
                np.multiply(vector[block], factor, out=part)
                np.add(total, part, out=total)
        if change is not None:
            np.subtract(change[0][block], change[1][block], out=part)
            np.add(total, part, out=total)


def coordinate_median(vectors: Sequence[Vector]) -> Vector:
    """Coordinate-wise median of k >= 1 vectors: (P,) float32, new; of two it is their mean.

    A joiner starts from it, so that fewer than half of the peers it asks cannot choose its start
    (Yin et al. 2018, definition 1).
    """
    size = vectors[0].size
    merged = np.empty(size, dtype=np.float32)
    with np.errstate(over="ignore"):  # the caller looks at the result
        for start in range(0, size, BLOCK):
            block = slice(start, start + BLOCK)
            merged[block] = np.median(np.stack([vector[block] for vector in vectors]), axis=0)
    return merged

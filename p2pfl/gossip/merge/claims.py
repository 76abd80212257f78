"""How much each model counts by what its sender claims: the rules mean, age, samples; a lineage's age."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, median_low

import numpy as np
import numpy.typing as npt

# A claim weighs at most this many times the median claim: a peer that says it has seen a million times more
# samples than anybody else is either wrong or lying, and honest nodes differ by less than this.
CLAIM_LIMIT = 4.0

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
    rule: str, ages: Sequence[float], samples: Sequence[float], lags: Sequence[int] | None = None
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


def robust_age(ages: Sequence[float]) -> float:
    """Age of a lineage that a robust rule merged: the median claim, the lower one of an even number.

    So it lies between two honest ages if fewer than half of the k >= 1 claims lie, whatever the rule made of
    their models; and a single liar beside the own model can only lower it.
    """
    return float(median_low(ages))

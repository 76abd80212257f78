"""Robust rules that weigh whole models by where they are: Krum, geometric median, clipping, trust.

Each is two functions: shares from inner products, which are small, and vectors in, vector out. All but
fltrust are means, weighted by the distances between the models and by nothing that their senders claim.
Index 0 is the own model.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_low

import numpy as np

from p2pfl.gossip.merge.claims import Shares
from p2pfl.gossip.merge.mean import Change, weighted_mean
from p2pfl.gossip.merge.products import Products, inner_products, squared_distances
from p2pfl.gossip.messages import Vector

# Steps of centred clipping. The first brings in who is near, the others go from where that led.
CLIPPING_STEPS = 3
# Weiszfeld's steps end when the shares move less than this, or after so many.
STILL = 1e-9
WEISZFELD_STEPS = 200
# What a distance is taken for at least, as a share of how far apart a majority is: the smoothing.
SMOOTHING = 1e-6


def combined(vectors: Sequence[Vector], shares: Shares, change: Change | None = None) -> Vector:
    """The weighted mean of those models that have a share: (P,) float32.

    If that is one model alone, and nothing is added, it is this very vector and no copy.
    """
    chosen = [index for index, share in enumerate(shares) if share]
    if len(chosen) == 1 and shares[chosen[0]] == 1 and change is None:
        return vectors[chosen[0]]
    return weighted_mean([vectors[index] for index in chosen], shares[chosen], change)


# -- Krum


def krum_scores(products: Products, f: int) -> Shares:
    """(k,): each model's sum of squared distances to its k - f - 2 nearest others.

    Blanchard et al. 2017, Machine Learning with Adversaries, section 4.
    """
    count = len(products)
    if count < 2 * f + 3:
        raise ValueError(f"Krum needs 2f + 3 models, {2 * f + 3}, not {count}")
    others = squared_distances(products)[~np.eye(count, dtype=bool)].reshape(count, count - 1)
    scores: Shares = np.sort(others, axis=1)[:, : count - f - 2].sum(axis=1)
    return scores


def multi_krum_shares(products: Products, f: int, m: int | None = None) -> Shares:
    """Equal shares of the m models with the least scores; of equal scores the first counts.

    Blanchard et al. 2017, section 4 (m = 1) and its variant Multi-Krum. m: at most k - f - 2, up to which
    averaging keeps the guarantee (Damaskinos et al. 2019, AggregaThor); None: that many.
    """
    count = len(products)
    scores = krum_scores(products, f)
    m = count - f - 2 if m is None else m
    if not 1 <= m <= count - f - 2:
        raise ValueError(f"Multi-Krum averages 1 to k - f - 2 models, {count - f - 2}, not {m}")
    shares = np.zeros(count)
    shares[np.argsort(scores, kind="stable")[:m]] = 1 / m
    return shares


def krum(vectors: Sequence[Vector], f: int) -> Vector:
    """The model with the least score, of k >= 2f + 3: (P,) float32, one of `vectors`."""
    return combined(vectors, multi_krum_shares(inner_products(vectors), f, 1))


def multi_krum(vectors: Sequence[Vector], f: int, m: int | None = None) -> Vector:
    """Mean of the m models with the least Krum scores: (P,) float32. f, m: as of multi_krum_shares."""
    return combined(vectors, multi_krum_shares(inner_products(vectors), f, m))


# -- geometric median


def geometric_median_shares(products: Products) -> Shares:
    """Shares whose mean has the least sum of distances to all models.

    Weiszfeld's steps, smoothed: shares in inverse proportion to max(nu, distance) (Pillutla et al. 2022,
    Robust Aggregation for Federated Learning, algorithm 2). They stay in the models' span, so inner products
    are all that a step needs. The start is the mean of the majority that is nearest to a majority, so that
    liars far away cost no steps. nu: SMOOTHING of the least radius around a model that holds a majority.
    """
    count = len(products)
    most = count // 2 + 1
    nearest = np.sort(np.sqrt(squared_distances(products)), axis=1)[:, :most]  # of each, itself included
    smallest = SMOOTHING * float(nearest[:, -1].min())
    shares = np.zeros(count)
    shares[np.argsort(nearest.sum(axis=1), kind="stable")[:most]] = 1 / most
    for _ in range(WEISZFELD_STEPS):
        away = np.maximum(_distances_to(products, shares), smallest)
        if not away.all():  # more than half are one and the same model
            return np.asarray((away == 0) / np.count_nonzero(away == 0), dtype=np.float64)
        moved = (1 / away) / (1 / away).sum()
        still = float(np.abs(moved - shares).max()) < STILL
        shares = moved
        if still:
            break
    return shares


def geometric_median(vectors: Sequence[Vector]) -> Vector:
    """The point with the least sum of distances to k >= 1 models: (P,) float32.

    Fewer than half liars move it by a bounded multiple of the honest models' spread, wherever they are.
    """
    return combined(vectors, geometric_median_shares(inner_products(vectors)))


def _distances_to(products: Products, shares: Shares) -> Shares:
    """(k,): how far each model is from their mean with `shares`."""
    to_mean = products @ shares
    squares = np.diag(products) - 2 * to_mean + shares @ to_mean
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)), dtype=np.float64)


# -- clipping


def centred_clipping_shares(
    products: Products, tau: float | None = None, steps: int = CLIPPING_STEPS
) -> Shares:
    """From v = x_0, steps of v += mean of clip(x_i - v), clip being to norm tau.

    Karimireddy et al. 2021, Learning from History for Byzantine Robust Optimization, section 4, with the own
    model for the last aggregate. Each step moves at most tau. tau: None takes the (lower) median of the
    others' distances to the own model, which half of them cannot make greater than the honest ones'.
    """
    count = len(products)
    if tau is None:
        tau = float(np.sqrt(median_low(np.diag(products)[1:]))) if count > 1 else 0.0
    shares: Shares = np.eye(1, count)[0]
    for _ in range(steps):
        kept = _clipped(_distances_to(products, shares), tau)
        shares = shares * (1 - kept.mean()) + kept / count
    return shares


def centred_clipping(
    vectors: Sequence[Vector], tau: float | None = None, steps: int = CLIPPING_STEPS
) -> Vector:
    """(P,) float32, at most steps x tau from the own model. tau, steps: as of centred_clipping_shares."""
    return combined(vectors, centred_clipping_shares(inner_products(vectors), tau, steps))


def norm_bound_shares(products: Products, tau: float | None = None) -> Shares:
    """x_0 + mean of the differences x_i - x_0, each made as short as tau if it is longer.

    Sun et al. 2019, Can You Really Backdoor Federated Learning?, section 4: norm thresholding, with the own
    model for the server's. The same as one step of centred clipping. tau: as there.
    """
    return centred_clipping_shares(products, tau, steps=1)


def norm_bound(vectors: Sequence[Vector], tau: float | None = None) -> Vector:
    """(P,) float32, at most tau from the own model. tau: as of centred_clipping_shares."""
    return combined(vectors, norm_bound_shares(inner_products(vectors), tau))


def clipped_gossip_shares(products: Products, liars: int, share: float) -> Shares:
    """x_0 + sum of W clip(x_i - x_0), with W = 1/k and the radius chosen from those that are near.

    He, Karimireddy and Jaggi 2022, Byzantine-Robust Decentralized Learning via ClippedGossip, algorithm 1.
    The radius is sqrt(1/share x sum of W |x_i - x_0|^2) over all but the `liars` farthest, after their
    adaptive choice; share: of the weight that liars have at most, above 0.
    """
    count = len(products)
    squares = np.diag(products)
    near = np.sort(squares)[: count - liars]
    tau = float(np.sqrt(near.sum() / count / share))
    kept = _clipped(np.sqrt(squares), tau)
    shares = kept / count
    shares[0] = 1 - shares[1:].sum()
    return shares


def clipped_gossip(vectors: Sequence[Vector], liars: int, share: float) -> Vector:
    """(P,) float32. liars, share: as of clipped_gossip_shares."""
    return combined(vectors, clipped_gossip_shares(inner_products(vectors), liars, share))


def _clipped(distances: Shares, tau: float) -> Shares:
    """min(1, tau / distance): what is left of each difference."""
    return np.minimum(1.0, np.divide(tau, distances, out=np.ones_like(distances), where=distances > tau))


# -- trust in those who look like oneself


def fltrust_shares(products: Products) -> tuple[Shares, Shares]:
    """Trust in each model, summing to 1, and the factors by which the models are added up.

    products: with `own`. The trust is the cosine of the angle between x_i and x_0, none if it is obtuse, and
    each model is made as long as the own one: Cao et al. 2021, FLTrust, section 4.2, equations 2 to 4, with
    the own model for the server's. They compare updates of a common model; nodes have none.
    """
    squares, own = np.diag(products).copy(), float(products[0, 0])
    along = own + products[0]  # <x_i, x_0>
    lengths = np.sqrt(np.maximum(squares + 2 * products[0] + own, 0.0))
    along[0], lengths[0] = own, np.sqrt(own)
    with np.errstate(divide="ignore", invalid="ignore"):
        trust = np.where(lengths > 0, along / (lengths * lengths[0]), 0.0)
        stretch = np.where(lengths > 0, lengths[0] / lengths, 0.0)
    trust = np.clip(np.nan_to_num(trust), 0.0, 1.0)
    trust[0] = stretch[0] = 1.0
    trust /= trust.sum()
    return trust, trust * stretch


def fltrust(vectors: Sequence[Vector]) -> Vector:
    """Mean of the models that look like the own one, each made as long: (P,) float32, not longer than it."""
    return combined(vectors, fltrust_shares(inner_products(vectors, own=True))[1])

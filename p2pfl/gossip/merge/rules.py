"""One merge of models by a rule: by what their senders claim, or robustly, by what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from p2pfl.config import MergeRule
from p2pfl.gossip.merge import weighing
from p2pfl.gossip.merge.claims import Shares, merged_age, robust_age, shares
from p2pfl.gossip.merge.mean import Change, weighted_mean
from p2pfl.gossip.merge.ordered import coordinate_median, trimmed_mean
from p2pfl.gossip.merge.own import merge_by
from p2pfl.gossip.merge.products import inner_products
from p2pfl.gossip.messages import Model, Vector


@dataclass(frozen=True)
class Own:
    """The own model. samples: training samples held."""

    weights: Vector
    age: float
    samples: int


@dataclass(frozen=True)
class Merged:
    """shares: (1 + k,), own first; they sum to 1.  age: of the merged lineage, without the change.

    taken: those of the k models that had a say.
    """

    weights: Vector
    shares: Shares
    age: float
    taken: list[Model]


def merge_models(
    rule: MergeRule, own: Own, models: list[Model], lags: list[int], change: Change | None
) -> Merged:
    """own with k models of others, of which each lags so many rounds behind.

    A weighted rule counts a model that lags less, a robust one leaves it out: it has no weights to lower.
    """
    taken = [model for model, lag in zip(models, lags, strict=True) if not (rule.robust and lag)]
    vectors = [own.weights, *(model.weights for model in taken)]
    ages = [own.age, *(model.head.age for model in taken)]
    if rule.robust:
        merged, found = merge_robustly(rule, vectors, change)
        every = np.zeros(1 + len(models))
        every[[0, *(place for place, lag in enumerate(lags, 1) if not lag)]] = found
        return Merged(merged, every, robust_age(ages), taken)
    samples = [float(own.samples), *(float(model.head.samples) for model in taken)]
    weights = shares(rule.name, ages, samples, [0, *lags])
    return Merged(weighted_mean(vectors, weights, change), weights, merged_age(weights, ages), taken)


def merge_robustly(
    rule: MergeRule, vectors: Sequence[Vector], change: Change | None = None
) -> tuple[Vector, Shares]:
    """The merged model, (P,) float32, and each model's share, (k,), which sum to 1.

    vectors: k >= rule.fewest of (P,) float32, the own first, not modified; the result may be one of them.
    change: added to it. Rules that look at coordinates give each model the same say.
    """
    count = len(vectors)
    if rule.function:
        return merge_by(rule.function, vectors, change), np.full(count, 1 / count)
    assert count >= rule.fewest, "with fewer models a robust rule promises nothing"
    if rule.name in ("median", "trimmed-mean"):
        cut = rule.cut(count)
        median = rule.name == "median"
        merged = coordinate_median(vectors, change) if median else trimmed_mean(vectors, cut, change)
        return merged, np.full(count, 1 / count)
    if rule.name == "fltrust":
        trust, factors = weighing.fltrust_shares(inner_products(vectors, own=True))
        return weighing.combined(vectors, factors, change), trust
    found = _shares(rule, vectors)
    return weighing.combined(vectors, found, change), found


def _shares(rule: MergeRule, vectors: Sequence[Vector]) -> Shares:
    products = inner_products(vectors)
    match rule.name:
        case "krum":
            return weighing.multi_krum_shares(products, rule.f, 1)
        case "multi-krum":
            return weighing.multi_krum_shares(products, rule.f, rule.m)
        case "geometric-median":
            return weighing.geometric_median_shares(products)
        case "centred-clipping":
            return weighing.centred_clipping_shares(products, rule.tau)
        case "norm-bound":
            return weighing.norm_bound_shares(products, rule.tau)
        case "clipped-gossip":
            return weighing.clipped_gossip_shares(products, rule.cut(len(vectors)), rule.share)
    raise ValueError(f"{rule.name} is not a robust rule")

"""Merge rules: pure functions of k vectors (P,), of which index 0 is always the node's own model.

mean, age and samples are weighted means by what senders claim, which is clipped first; the others are robust:
they look at the vectors alone.
"""

from p2pfl.gossip.merge.claims import (
    CLAIM_LIMIT,
    Shares,
    clip_claims,
    clipped,
    merged_age,
    robust_age,
    shares,
)
from p2pfl.gossip.merge.mean import BLOCK, weighted_mean
from p2pfl.gossip.merge.ordered import coordinate_median, trimmed_mean
from p2pfl.gossip.merge.products import inner_products
from p2pfl.gossip.merge.rules import Own, merge_models, merge_robustly
from p2pfl.gossip.merge.weighing import (
    centred_clipping,
    clipped_gossip,
    fltrust,
    geometric_median,
    krum,
    multi_krum,
    norm_bound,
)

__all__ = [
    "BLOCK",
    "CLAIM_LIMIT",
    "Own",
    "Shares",
    "centred_clipping",
    "clip_claims",
    "clipped",
    "clipped_gossip",
    "coordinate_median",
    "fltrust",
    "geometric_median",
    "inner_products",
    "krum",
    "merge_models",
    "merge_robustly",
    "merged_age",
    "multi_krum",
    "norm_bound",
    "robust_age",
    "shares",
    "trimmed_mean",
    "weighted_mean",
]

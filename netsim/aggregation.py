"""How a baseline makes one model of several that it was sent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netsim.attacks.clients import Sent
from p2pfl.gossip.merge import coordinate_median, weighted_mean
from p2pfl.gossip.messages import Vector

SAMPLES = "samples"  # by the samples that the clients say they hold, not clipped: FedAvg as it was published


def aggregate(rule: str, sent: Sequence[Sent], before: Vector) -> Vector:
    """The server's next model: (P,) float32. before: its present one, kept if nobody sent anything usable."""
    models = [(one.weights, one.samples) for one in sent if one.weights is not None]
    if not models:
        return before
    if rule == "median":
        return coordinate_median([weights for weights, _ in models])
    total = sum(samples for _, samples in models) if rule == SAMPLES else len(models)
    mean = np.zeros(before.size, np.float64)
    for weights, samples in models:
        mean += (samples if rule == SAMPLES else 1) / total * weights.astype(np.float64)
    return mean.astype(np.float32)


def mix(
    own: Vector,
    others: Sequence[Vector | None],
    weights: Sequence[float],
    change: tuple[Vector, Vector] | None,
) -> Vector:
    """A node's next model, from its own and its neighbours': (P,) float32, new.

    weights: of the own model, then of the others.  None: it was refused, and the own counts in its place.
    change: (after, before), whose difference is added: what training did meanwhile.
    """
    vectors = [own, *(own if other is None else other for other in others)]
    return weighted_mean(vectors, np.array(weights), change)

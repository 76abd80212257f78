"""How a baseline makes one model of several that it was sent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netsim.attacks.clients import Sent
from netsim.methods import SAMPLES
from p2pfl import merge_rule
from p2pfl.gossip.merge import merge_robustly, weighted_mean
from p2pfl.gossip.messages import Vector

# Rules for which the own model is no vote, but where they measure from.
_FROM_OWN = ("centred-clipping", "clipped-gossip", "norm-bound", "fltrust")


def aggregate(rule: str, sent: Sequence[Sent], before: Vector) -> Vector:
    """The server's next model: (P,) float32. before: its present one, kept if a rule has too few.

    rule: of p2pfl.merge_rule. A robust one looks at the clients' models, and at the server's own only if it
    measures from there.
    """
    models = [(one.weights, one.samples) for one in sent if one.weights is not None]
    if not models:
        return before
    if (robust := merge_rule.parse(rule)).robust:
        vectors = [before] if robust.name in _FROM_OWN else []
        vectors += [weights for weights, _ in models]
        return merge_robustly(robust, vectors)[0] if len(vectors) >= robust.fewest else before
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

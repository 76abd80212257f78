"""How fast pairwise averaging over a graph brings values together: what gossip can be expected to do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def contraction(callees: Sequence[Sequence[int]], success: float, exchanges: int) -> float:
    """The share of their distance that is left when n nodes have averaged pairwise: root mean square, bound.

    callees: of each node, whom it calls, each with the same probability.  success: probability that a call
    does anything.  exchanges: calls that each node makes.  1 for a graph that is not connected.

    With W the expected averaging matrix and l its second largest eigenvalue, E|x(k) - mean|^2 is at most l^k
    times what it was (Boyd, Ghosh, Prabhakar and Shah 2006, "Randomized gossip algorithms", section II).
    """
    n = len(callees)
    if n < 2:
        return 0.0
    expected = np.eye(n)
    for i, called in enumerate(callees):
        for j in called:
            share = success / (2 * n * len(called))
            expected[i, i] -= share
            expected[j, j] -= share
            expected[i, j] += share
            expected[j, i] += share
    second = float(np.linalg.eigvalsh(expected)[-2])
    return float(min(1.0, max(0.0, second)) ** (exchanges * n / 2))

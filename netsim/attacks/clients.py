"""How nodes lie to a baseline: in step, so that each attack sees what all have done in the same round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from netsim.attacks.attack import Truth
from netsim.attacks.company import Company
from netsim.attacks.liar import Liar
from p2pfl.gossip.messages import Vector
from p2pfl.gossip.snapshot import all_finite


@dataclass(frozen=True)
class Trained:
    """What a node would honestly send. weights: (P,) float32.

    learnt: such vectors, before and after its last training.
    samples: that it holds.  seen: that its model has trained on.
    """

    node: int
    weights: Vector
    learnt: tuple[Vector, Vector]
    samples: int
    seen: int


@dataclass(frozen=True)
class Sent:
    """What a node did send. weights: None if it is not finite, and so refused."""

    node: int
    weights: Vector | None
    samples: int


class Clients:
    """The nodes of one method, some of which lie."""

    def __init__(self, company: Company, nodes: int) -> None:
        self.liars = company.liars
        self._speaking: list[Liar | None] = []
        for node in range(nodes):
            make = company.maker(node)
            self._speaking.append(None if make is None else make(0))

    def idles(self, node: int, round: int) -> bool:
        """Whether a node leaves out its training after `round` completed rounds."""
        liar = self._speaking[node] if node < len(self._speaking) else None  # the centre is nobody's
        return liar is not None and liar.idles(round + 1)

    def send(self, trained: Sequence[Trained], round: int) -> list[Sent]:
        """What they send after `round` rounds, in the same order."""
        truths = [
            Truth(one.weights, one.learnt[1] - one.learnt[0], float(one.seen), one.samples, round)
            if self._speaking[one.node] is not None
            else None
            for one in trained
        ]
        for one, truth in zip(trained, truths, strict=True):
            liar = self._speaking[one.node]
            if liar is not None and truth is not None:
                liar.trained(truth)
                liar.show(truth)
        return [self._sent(one, truth) for one, truth in zip(trained, truths, strict=True)]

    def _sent(self, one: Trained, truth: Truth | None) -> Sent:
        liar = self._speaking[one.node]
        if liar is None or truth is None or one.node not in self.liars:
            return Sent(one.node, one.weights, one.samples)
        told = liar.tell(truth)
        weights = np.ascontiguousarray(told.weights, np.float32)
        return Sent(one.node, weights if all_finite(weights) else None, told.samples)

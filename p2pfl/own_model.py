"""What a node does with its own model: trains it, merges others into it, publishes and evaluates it.

Each of these is observed. When each is done, and with which settings, is node.py's.
"""

from __future__ import annotations

import logging

import numpy as np

from p2pfl.clock import Clock
from p2pfl.config import EvaluationConfig
from p2pfl.events import Diverged, Evaluated, KeptOwn, Merged, Observe, Published, Trained
from p2pfl.gossip.messages import Vector
from p2pfl.gossip.protocol import Gossip, Merge
from p2pfl.gossip.quorum import TooFew
from p2pfl.gossip.snapshot import all_finite
from p2pfl.learning.learner import FitPlan, FitResult
from p2pfl.seams import Compute
from p2pfl.service import NodeService, Score

log = logging.getLogger(__name__)


class OwnModel:
    """The weights are gossip's. optimiser: (S,) float32, the learner's state over rounds, or (0,).

    fit_seconds: that the last training took, by the node's clock; 0 before the first.
    """

    def __init__(
        self,
        gossip: Gossip,
        service: NodeService,
        compute: Compute,
        clock: Clock,
        observe: Observe,
        evaluation: EvaluationConfig,
    ) -> None:
        self.optimiser: Vector = np.empty(0, np.float32)
        self.fit_seconds = 0.0
        self._gossip = gossip
        self._service = service
        self._compute = compute
        self._clock = clock
        self._observe = observe
        self._evaluation = evaluation

    async def train(self, plan: FitPlan) -> None:
        """One round's training. If it diverges, the node keeps the model it had."""
        started = self._clock.now()
        result = await self._compute.fit(self._gossip.weights, self.optimiser, plan)
        self.fit_seconds = self._clock.now() - started
        self._learnt(result)

    def _learnt(self, result: FitResult) -> None:
        round = self._gossip.round + 1
        self._observe(Trained(round, result.steps, result.samples, result.loss, self.fit_seconds))
        if np.isfinite(result.loss) and all_finite(result.weights):
            self._gossip.trained(result.weights, result.samples)
            self.optimiser = result.optimiser
        else:
            log.warning("round=%d training diverged, its result is dropped; lower --lr", round)
            self._observe(Diverged(round, result.loss))
            self._gossip.trained(self._gossip.weights, 0)
            self.optimiser = np.empty(0, np.float32)

    def merge(self) -> Merge | None:
        """What has arrived becomes part of it; None if nothing did, or too little for a robust rule."""
        rule, merged = self._gossip.merge_rule, self._gossip.merge()
        if isinstance(merged, TooFew):
            self._observe(KeptOwn(rule, merged.models, merged.needed))
            return None
        if merged is None:
            return None
        told = vars(merged.unmerged) | {"clipped": merged.clipped}
        self._observe(Merged(rule, merged.senders, merged.weights, merged.age_before, merged.age, **told))
        return merged

    def publish(self) -> None:
        """From now on peers get it as it is."""
        self._gossip.publish()
        self._observe(Published(self._gossip.version, self._gossip.round, self._gossip.age))

    async def round_completed(self) -> None:
        """Evaluate it, if it is time; from now on the status shows this round."""
        every = self._evaluation.evaluate_every
        if every and self._gossip.round % every == 0:
            await self.evaluate()
        else:
            self._service.score = Score(self._gossip.round, self._gossip.age)

    async def evaluate(self) -> None:
        """Unless evaluation is switched off."""
        weights, round, age = self._gossip.weights, self._gossip.round, self._gossip.age
        if not self._evaluation.evaluate_every:
            self._service.score = Score(round, age)
            return
        result = await self._compute.evaluate(weights, self._evaluation.evaluate_samples)
        self._service.score = Score(round, age, result.loss, result.accuracy)
        self._observe(
            Evaluated(
                round=round,
                age=age,
                samples=result.samples,
                loss=result.loss,
                accuracy=result.accuracy,
                balanced_accuracy=result.balanced_accuracy,
                confusion=tuple(tuple(row) for row in result.confusion.tolist()),
            )
        )

"""Local training as nodes do it, and what it and the models' travels cost, without simulating any node.

Nothing here waits for anything, so costs are modelled: bytes are those of models as float32, and seconds

- of training are images / the device's speed,
- of an exchange are twice the typical latency, and its models' bytes at the narrowest of the links' default
  rates.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from netsim.adversaries import Adversary
from netsim.attacks.clients import Clients, Trained
from netsim.attacks.company import Company
from netsim.config import EVALUATED_NODES, SimConfig
from netsim.jobs import Jobs
from netsim.population import BASELINE_STREAM, LYING_BASELINE_STREAM, SAMPLE_STREAM, stream
from netsim.units import parse_rate
from p2pfl.config import TrainingConfig
from p2pfl.gossip.messages import Vector
from p2pfl.gossip.snapshot import all_finite
from p2pfl.learning.learner import FitPlan, Indices, Learner
from p2pfl.learning.partition import Shard

log = logging.getLogger(__name__)

Fit = tuple[int, Vector, FitPlan]  # node, (P,) float32 weights, plan

_AFRESH: Vector = np.empty(0, np.float32)  # the optimiser state of a first fit


@dataclass(frozen=True)
class Fitted:
    """What a fit gave: (P,) float32 weights, images trained, modelled seconds."""

    weights: Vector
    images: int
    seconds: float


class LocalTraining:
    """The local training of one method, named in errors. speeds: samples a second of each node.

    A node's batch orders depend on the seed and on how often it trained before, not on the method. A fit that
    does not end in finite numbers is dropped, as a node drops it.
    """

    def __init__(
        self,
        name: str,
        config: SimConfig,
        learner: Learner,
        shards: Sequence[Shard],
        pool: Jobs,
        speeds: Sequence[float],
        training_of: Callable[[int], TrainingConfig],
        adversaries: Sequence[Adversary] = (),
    ) -> None:
        self.name = name
        self.config = config
        self.shards = shards
        self.nodes = len(shards)
        self.initial = learner.initial_weights(config.training.init_seed)
        self.pool = pool
        self.model_bytes = 4 * learner.layout.size
        self._speeds = [*speeds, math.fsum(speeds)]  # the last is the centre's
        own = config.baselines.training
        self.training = own(config.training)
        self._trainings = [*(own(training_of(node)) for node in range(self.nodes)), self.training]
        self._generators: dict[int, np.random.Generator] = {}
        self._optimisers: dict[int, Vector] = {}
        company = Company(config.seed, adversaries, self.nodes, LYING_BASELINE_STREAM)
        self.clients = Clients(company, self.nodes)

    @property
    def centre(self) -> int:
        """Stands for a node's index where one machine trains on all shards."""
        return self.nodes

    def rng(self, index: int) -> np.random.Generator:
        """A node's generator; those from `centre` on belong to the method itself."""
        if index not in self._generators:
            self._generators[index] = stream(self.config.seed, index, BASELINE_STREAM)
        return self._generators[index]

    def plan(self, node: int, round: int) -> FitPlan:
        """A node's local training after `round` completed rounds, as Node makes it."""
        training, indices = self._trainings[node], self.shards[node].indices(round)
        return self._plan(node, round, indices, training.steps(len(indices)))

    def pooled_plan(self, round: int) -> FitPlan:
        """As many images as all nodes' plans, to a batch, from all their samples; by the run's settings."""
        plans = [self.plan(node, round) for node in range(self.nodes)]
        indices = np.unique(np.concatenate([plan.indices for plan in plans]))
        size = self._trainings[self.centre].batch_size
        passes, rest = divmod(sum(plan.samples for plan in plans), len(indices))
        return self._plan(self.centre, round, indices, passes * -(-len(indices) // size) + -(-rest // size))

    def _plan(self, node: int, round: int, indices: Indices, steps: int) -> FitPlan:
        training = self._trainings[node]
        return FitPlan(
            indices=indices,
            steps=steps,
            batch_size=training.batch_size,
            learning_rate=training.learning_rate(round),
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            seed=int(self.rng(node).integers(2**63)),
        )

    def train(self, fits: Sequence[Fit], round: int, *, keep_state: bool) -> Iterator[Fitted]:
        """Do (node, weights, plan) side by side; yields in the same order. The weights are not modified.

        round: completed ones. A free rider gives its weights back as they are.
        keep_state: go on with the node's momentum of its last fit, and keep this one's for the next.
        """
        jobs = [
            None
            if self.clients.idles(node, round)
            else self.pool.submit_fit(
                weights,
                self._optimisers.get(node, _AFRESH) if keep_state else _AFRESH,
                plan,
                label=self._label(node),
            )
            for node, weights, plan in fits
        ]
        for (node, weights, plan), job in zip(fits, jobs, strict=True):
            seconds = plan.samples / self._speeds[node]
            if job is None:
                yield Fitted(weights, 0, seconds)
                continue
            result = self.pool.result(job)
            if math.isfinite(result.loss) and all_finite(result.weights):
                if keep_state:
                    self._optimisers[node] = result.optimiser
                yield Fitted(result.weights, result.samples, seconds)
            else:
                log.warning("%s: training diverged, its result is dropped; lower --lr", self._label(node))
                self._optimisers.pop(node, None)
                yield Fitted(weights, result.samples, seconds)

    def _label(self, node: int) -> str:
        return f"{self.name}, {'all shards' if node == self.centre else f'node {node}'}"

    def exchange_seconds(self, models: int, peers: int = 1) -> float:
        """Of an exchange of so many models, one after another, with `peers` others at once."""
        links = self.config.links
        alone = [parse_rate("bandwidth", links.bandwidth)] if links.bandwidth else []
        shared = [
            parse_rate(key, text)
            for key, text in (("uplink", links.uplink), ("downlink", links.downlink))
            if text
        ]
        rate = min([*alone, *(rate / peers for rate in shared)], default=math.inf)
        return 2 * links.latency_of.typical + models * self.model_bytes / rate

    def sample(self) -> list[int]:
        """All honest nodes, or of many a random EVALUATED_NODES, drawn as those that a run evaluates."""
        drawn = [int(node) for node in stream(self.config.seed, 0, SAMPLE_STREAM).permutation(self.nodes)]
        return sorted([node for node in drawn if node not in self.clients.liars][:EVALUATED_NODES])

    def trained(self, node: int, weights: Vector, learnt: tuple[Vector, Vector], round: int) -> Trained:
        """What a node has to say after `round` completed rounds. learnt: as in Trained."""
        held = self.shards[node].samples
        return Trained(node, weights, learnt, held, held * round)

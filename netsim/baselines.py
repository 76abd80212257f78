"""Other ways to train on the same split, with the same local training: what gossip is compared with.

| name | one round of it |
|---|---|
| centralised | one model trains on all shards together, as many images as all nodes in a round, to a batch |
| isolated | every node trains alone; of more than EVALUATED_NODES only a random sample, to stand for all |
| cyclic | one model visits the nodes in turn and trains at each: a tour |
| fedavg | a server sends its model to a random share of the nodes and takes the mean of what they trained |
| fedavg:RULE | the same, with another rule than the mean by claimed samples |
| d-psgd | every node trains, and averages with its neighbours what they all had before |

Adversaries lie to them as they lie to nodes: to the server, to the next node of a tour, to their neighbours.
Whoever trains centrally or alone is sent no models, but pooled data are poisoned; accuracies are those of the
honest.

They are ideal: no faults, no losses, no --interval, and of a graph that is redrawn the first. Nothing is
simulated, so times are modelled (local_training.py). A round waits for the slowest node that takes part;
centralised training has a machine as fast as all devices together; a server has as wide links as it needs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from netsim import methods, topology
from netsim.adversaries import Adversary
from netsim.aggregation import aggregate, mix
from netsim.config import SimConfig, TopologyConfig
from netsim.jobs import Jobs
from netsim.journal import BaselineEvaluated
from netsim.local_training import Fit, Fitted, LocalTraining
from netsim.units import parse_duration
from p2pfl.config import TrainingConfig
from p2pfl.gossip.messages import Vector
from p2pfl.learning.learner import Learner
from p2pfl.learning.partition import Shard


def run_baselines(
    config: SimConfig,
    learner: Learner,
    shards: Sequence[Shard],
    pool: Jobs,
    record: Callable[[float, BaselineEvaluated], None],
    edges: topology.Edges,
    speeds: Sequence[float],
    training_of: Callable[[int], TrainingConfig] | None = None,
    adversaries: Sequence[Adversary] = (),
) -> None:
    """Train in each way that the configuration names, one after another, and record how good it becomes.

    record: called with modelled seconds since the method's start, after each `evaluate_every`-th round and
    after the last (as often in all, if they have other rounds than the nodes).  edges: of the scenario's
    graph, for d-psgd; none with random peer sampling.
    speeds: samples a second of each device.  training_of: of a node, where it may differ from the run's.
    adversaries: they lie to other nodes and to the server; their poisoned data are in their shards.
    The run's stop conditions hold for each method. Raises SimulationError if the pool breaks.
    """
    named = [(name, methods.parse(name)) for name in config.baselines.baselines]
    opening = Opening() if sum(method.kind == "fedavg" for _, method in named) > 1 else None
    for name, named_method in named:
        training = training_of or (lambda _: config.training)
        local = LocalTraining(name, config, learner, shards, pool, speeds, training, adversaries)
        if named_method.kind == "fedavg":
            method: Method = FedAvg(local, named_method.rule, opening)
        else:
            method = _METHODS[named_method.kind](local, edges)
        _Run(local, method, record).run()


# -- the methods


@dataclass(frozen=True)
class Round:
    """What a round gave and took. models: (P,) float32 each.  bytes: that travelled.  seconds: modelled."""

    models: Sequence[Vector]
    images: int
    bytes: int
    seconds: float


class Method(ABC):
    """A way to train, and what it remembers from round to round beside its models.

    copies: how many models it trains.  judged: positions of those to evaluate, whose mean counts.
    """

    copies: int = 1
    judged: Sequence[int] = (0,)

    def __init__(self, local: LocalTraining) -> None:
        self._local = local

    @abstractmethod
    def round(self, number: int, models: Sequence[Vector]) -> Round:
        """The round after `number` completed ones, from its models, which are not modified."""

    def settle(self, models: Sequence[Vector]) -> Round | None:
        """An exchange without training after the last round; None if there is nothing to exchange."""
        return None


class Centralised(Method):
    """Its momentum is kept, as a node keeps its own."""

    def round(self, number: int, models: Sequence[Vector]) -> Round:
        local = self._local
        fits = [(local.centre, models[0], local.pooled_plan(number))]
        (fitted,) = local.train(fits, number, keep_state=True)
        return Round([fitted.weights], fitted.images, 0, fitted.seconds)


class Isolated(Method):
    """Each node keeps its momentum. Only the sampled nodes train: the others would tell no more."""

    def __init__(self, local: LocalTraining) -> None:
        super().__init__(local)
        self._nodes = local.sample()
        self.copies, self.judged = len(self._nodes), range(len(self._nodes))

    def round(self, number: int, models: Sequence[Vector]) -> Round:
        local = self._local
        fits = [(node, x, local.plan(node, number)) for node, x in zip(self._nodes, models, strict=True)]
        fitted = list(local.train(fits, number, keep_state=True))
        slowest = max(one.seconds for one in fitted)
        return Round([one.weights for one in fitted], sum(one.images for one in fitted), 0, slowest)


class Cyclic(Method):
    """Cyclical weight transfer (Chang et al. 2018, "Distributed deep learning networks among institutions for
    medical imaging"): weights travel and nothing else, so momentum starts anew at each node.
    """

    def __init__(self, local: LocalTraining) -> None:
        super().__init__(local)
        self._order = [int(node) for node in local.config.baselines.cyclic_order] or list(range(local.nodes))
        self._place = self._order[0]  # where the model is

    def round(self, number: int, models: Sequence[Vector]) -> Round:
        local, model = self._local, models[0]
        images, sent, seconds = 0, 0, 0.0
        for node in self._order:
            if node != self._place:
                sent += local.model_bytes
                seconds += local.exchange_seconds(1)
                self._place = node
            (fitted,) = local.train([(node, model, local.plan(node, number))], number, keep_state=False)
            trained = local.trained(node, fitted.weights, (model, fitted.weights), number + 1)
            (handed,) = local.clients.send([trained], number + 1)
            model = model if handed.weights is None else handed.weights  # what the next one refuses is lost
            images += fitted.images
            seconds += fitted.seconds
        return Round([model], images, sent, seconds)


class FedAvg(Method):
    """McMahan et al. 2017, "Communication-efficient learning of deep networks from decentralized data",
    algorithm 1: w <- sum of n_k w_k over the m clients asked / sum of their n_k, m = max(C x n, 1).

    Its clients keep nothing from round to round, so momentum starts anew.
    rule: another way to merge, as in methods.NamedMethod.  opening: shared with the run's other servers.
    """

    def __init__(self, local: LocalTraining, rule: str, opening: Opening | None = None) -> None:
        super().__init__(local)
        self._rule = rule
        self._opening = opening
        self._asked = max(1, math.floor(local.config.baselines.server_share * local.nodes + 0.5))

    def round(self, number: int, models: Sequence[Vector]) -> Round:
        local = self._local
        drawn = local.rng(local.centre + 1).permutation(local.nodes)[: self._asked]
        clients = sorted(int(node) for node in drawn)
        images, slowest = 0, 0.0
        trained = []
        fits = [(node, models[0], local.plan(node, number)) for node in clients]
        for node, fitted in zip(clients, self._train(fits, number), strict=True):
            learnt = models[0], fitted.weights
            trained.append(local.trained(node, fitted.weights, learnt, number + 1))
            images += fitted.images
            slowest = max(slowest, fitted.seconds)
        sent = local.clients.send(trained, number + 1)
        return Round(
            [aggregate(self._rule, sent, models[0])],
            images,
            2 * len(clients) * local.model_bytes,
            slowest + local.exchange_seconds(2),
        )

    def _train(self, fits: Sequence[Fit], number: int) -> Iterable[Fitted]:
        if self._opening is not None and number == 0:
            return self._opening.train(self._local, fits)
        return self._local.train(fits, number, keep_state=False)


class Opening:
    """The first round of a run's servers that merge differently: the same clients train from the same weights
    with the same seeds. The first has them trained; what came of it, (P,) a client, stays for the others.
    """

    def __init__(self) -> None:
        self._seeds: list[tuple[int, int]] = []  # (node, seed) of each fit
        self._fitted: list[Fitted] = []

    def train(self, local: LocalTraining, fits: Sequence[Fit]) -> Sequence[Fitted]:
        seeds = [(node, plan.seed) for node, _, plan in fits]
        if seeds != self._seeds:
            self._seeds, self._fitted = seeds, list(local.train(fits, 0, keep_state=False))
        return self._fitted


class DecentralisedSGD(Method):
    """D-PSGD: Lian et al. 2017, "Can decentralized algorithms outperform centralized algorithms?", algorithm
    1, with Metropolis-Hastings weights W, and a round of local training instead of one gradient step:
    x_i(t+1) = sum of W_ij x_j(t) + (trained_i - x_i(t)). Each node keeps its momentum. After the last round
    they settle, as nodes of ours do: they average --settle times without training.

    With random peer sampling its graph is a random regular one of 2 x fanout neighbours, as many as a node
    exchanges with in a round on average, called ones and callers; the complete graph where that is all.
    """

    def __init__(self, local: LocalTraining, graph: topology.Edges) -> None:
        super().__init__(local)
        if local.config.topology.topology == "sampling":
            graph = _well_mixed(local)
        self._rows = topology.metropolis_hastings(graph, local.nodes)
        self._bytes = 2 * len(graph) * local.model_bytes
        peers = max(len(row.nodes) - 1 for row in self._rows)
        self._exchange = local.exchange_seconds(2, peers) if peers else 0.0
        self.copies, self.judged = local.nodes, local.sample()
        self._learnt: dict[int, tuple[Vector, Vector]] = {}  # around each node's last training

    def round(self, number: int, models: Sequence[Vector]) -> Round:
        local, mixed = self._local, []
        images, slowest = 0, 0.0
        sent = self._sent(models, number)
        fits = [(node, x, local.plan(node, number)) for node, x in enumerate(models)]
        for row, fitted in zip(self._rows, local.train(fits, number, keep_state=True), strict=True):
            own = models[row.nodes[0]]
            mixed.append(self._mix(row, own, sent, (fitted.weights, own)))
            if local.clients.liars:
                self._learnt[row.nodes[0]] = (own, fitted.weights)
            images += fitted.images
            slowest = max(slowest, fitted.seconds)
        return Round(mixed, images, self._bytes, slowest + self._exchange)

    def settle(self, models: Sequence[Vector]) -> Round | None:
        sent = self._sent(models, self._local.training.rounds)
        mixed = [self._mix(row, models[row.nodes[0]], sent, None) for row in self._rows]
        return Round(mixed, 0, self._bytes, self._exchange)

    def _sent(self, models: Sequence[Vector], round: int) -> list[Vector | None]:
        """What each node lets its neighbours have: honestly, its model."""
        local = self._local
        if not local.clients.liars:
            return list(models)
        trained = [
            local.trained(node, model, self._learnt.get(node, (model, model)), round)
            for node, model in enumerate(models)
        ]
        return [one.weights for one in local.clients.send(trained, round)]

    def _mix(
        self, row: topology.MixingRow, own: Vector, sent: Sequence[Vector | None],
        change: tuple[Vector, Vector] | None,
    ) -> Vector:  # fmt: skip
        others = [sent[node] for node in row.nodes[1:]]
        return mix(own, others, row.weights, change)


def _well_mixed(local: LocalTraining) -> topology.Edges:
    degree = 2 * local.config.gossip.fanout
    graph = TopologyConfig(topology="complete")
    if degree < local.nodes - 1:
        graph = TopologyConfig(topology="random-regular", degree=degree)
    return topology.edges(graph, local.nodes, local.rng(local.centre + 2))


_METHODS: dict[str, Callable[[LocalTraining, topology.Edges], Method]] = {
    "centralised": lambda local, _: Centralised(local),
    "isolated": lambda local, _: Isolated(local),
    "cyclic": lambda local, _: Cyclic(local),
    "d-psgd": DecentralisedSGD,
}


# -- a run of one method


class _Run:
    """One method's models, and what they have taken so far."""

    def __init__(
        self, local: LocalTraining, method: Method, record: Callable[[float, BaselineEvaluated], None]
    ) -> None:
        self._local = local
        self._method = method
        self._record = record
        limit = local.config.stop.virtual_time
        self._limit = math.inf if limit is None else parse_duration("virtual-time", limit)
        self._models: Sequence[Vector] = [local.initial] * method.copies
        self._done = 0  # rounds
        self._images = 0
        self._bytes = 0
        self._seconds = 0.0
        self._judged = False  # as they are now

    def run(self) -> None:
        """Round after round, as many as the nodes have, within --virtual-time and up to --target-accuracy."""
        config = self._local.config
        every = 0 if config.evaluate_mode == "end" else config.evaluation.evaluate_every
        rounds, target = self._local.training.rounds, config.stop.target_accuracy
        if every and config.training.rounds:  # as often in all as nodes
            every = max(1, round(every * rounds / config.training.rounds))
        while rounds == 0 or self._done < rounds:
            if not self._take(self._method.round(self._done, self._models)):
                break
            self._done += 1
            if every and self._done % every == 0 and self._done != rounds:
                accuracy = self._evaluate()
                if target is not None and accuracy >= target:
                    return
        else:
            for _ in range(config.gossip.settle):
                if not self._take(self._method.settle(self._models)):
                    break
        if not self._judged:
            self._evaluate()

    def _take(self, taken: Round | None) -> bool:
        """False if there was nothing to take, or it ended too late, and so does not count."""
        if taken is None or self._seconds + taken.seconds > self._limit:
            return False
        self._judged = False
        self._models = taken.models
        self._images += taken.images
        self._bytes += taken.bytes
        self._seconds += taken.seconds
        return True

    def _evaluate(self) -> float:
        """Record means over the models, and the sum of their confusion matrices; returns the accuracy."""
        local = self._local
        limit = local.config.evaluation.evaluate_samples
        jobs = [
            local.pool.submit_evaluate(self._models[place], limit, label=local.name)
            for place in self._method.judged
        ]
        results = [local.pool.result(job) for job in jobs]
        accuracies = [result.accuracy for result in results]
        count = len(results)
        event = BaselineEvaluated(
            baseline=local.name,
            round=self._done,
            nodes=count,
            images=self._images,
            bytes=self._bytes,
            loss=sum(result.loss for result in results) / count,
            accuracy=sum(accuracies) / count,
            accuracy_min=min(accuracies),
            accuracy_max=max(accuracies),
            balanced_accuracy=sum(result.balanced_accuracy for result in results) / count,
            confusion=tuple(
                tuple(row) for row in np.sum([result.confusion for result in results], axis=0).tolist()
            ),
        )
        self._record(self._seconds, event)
        self._judged = True
        return event.accuracy

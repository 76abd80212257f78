"""The virtual engine: the very same nodes over a simulated network, in virtual time, in one process.

Training runs on a pool of worker processes; everything else is one deterministic single-threaded program
(docs/adr/0002-blocking-broker.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import trio
import trio.testing

from netsim.compute import SimulatedCompute
from netsim.config import SimConfig
from netsim.determinism import run_deterministically
from netsim.evaluation import evaluated, mean_model
from netsim.journal import SIMULATOR, Journal, RunEnded
from netsim.network import SimulatedNetwork, UniformLinks
from netsim.population import (
    DEVICE_STREAM,
    IDENTITY_STREAM,
    NODE_STREAM,
    Device,
    Outcome,
    bootstrap,
    evaluated_nodes,
    node_config,
    stream,
)
from netsim.workers import WorkerPool
from p2pfl.clock import Clock
from p2pfl.errors import plain
from p2pfl.events import Event, Published, RoundCompleted
from p2pfl.learning.learner import Learner
from p2pfl.learning.partition import Shard
from p2pfl.node import Node


class VirtualEngine:
    """One run. learner: shared by all nodes, since training is a pure function of its plan."""

    def __init__(
        self,
        config: SimConfig,
        learner: Learner,
        shards: Sequence[Shard],
        pool: WorkerPool,
        journal: Journal,
        watch: Callable[[float, Event], None],
        devices: Sequence[Device] | None = None,
    ) -> None:
        self._config = config
        self._learner = learner
        self._shards = shards
        self._pool = pool
        self._journal = journal
        self._watch = watch
        self._devices = devices or [Device(config.speed)] * config.nodes
        self._initial = learner.initial_weights(config.training.init_seed)
        self._evaluated = set(evaluated_nodes(config))
        self._rounds = 0
        self._nodes: list[Node] = []
        self._recording = True
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Simulate until every node is done."""
        clock = trio.testing.MockClock(autojump_threshold=0)
        with plain():
            run_deterministically(self._main, clock=clock)
        self.outcome.first_job = self._pool.statistics.first_submit or 0.0
        self.outcome.weights = [node.gossip.weights for node in self._nodes]
        return self.outcome

    async def _main(self) -> None:
        config = self._config
        network = SimulatedNetwork(UniformLinks(config.latency_seconds))
        self._nodes = [self._node(index, network) for index in range(config.nodes)]
        async with trio.open_nursery() as nursery:
            await nursery.start(network.run)
            for node, device in zip(self._nodes, self._devices, strict=True):
                if device.start:
                    nursery.start_soon(self._join_late, node, device.start)
                else:
                    await nursery.start(node.run)
            for node in self._nodes:
                await node.done.wait()
            self.outcome.virtual_seconds = trio.current_time()
            self._record(SIMULATOR, RunEnded(config.nodes))
            self._recording = False
            nursery.cancel_scope.cancel()

    async def _join_late(self, node: Node, start: float) -> None:
        await trio.sleep(start)
        await node.run()

    def _node(self, index: int, network: SimulatedNetwork) -> Node:
        config, device = self._config, self._devices[index]
        clock = Clock()
        peers = tuple(network.host(i).url for i in bootstrap(config, index))
        evaluation = config.evaluation
        if index not in self._evaluated:
            evaluation = replace(evaluation, evaluate_every=0)
        return Node(
            node_config(config, f"n{index}", peers, evaluation),
            id=stream(config.seed, index, IDENTITY_STREAM).bytes(16).hex(),
            task=self._learner.task,
            layout=self._learner.layout,
            initial=self._initial,
            shard=self._shards[index],
            compute=SimulatedCompute(
                self._pool,
                clock,
                stream(config.seed, index, DEVICE_STREAM),
                speed=device.speed,
                jitter=device.jitter,
                label=f"node {index}",
            ),
            network=network.host(index),
            clock=clock,
            rng=stream(config.seed, index, NODE_STREAM),
            observe=lambda event: self._observe(index, event),
        )

    def _observe(self, index: int, event: Event) -> None:
        self._record(index, event)
        if not self._recording:
            return
        if isinstance(event, Published) and not self._nodes[index].done.is_set():
            self.outcome.last_merge = time.perf_counter()
        if isinstance(event, RoundCompleted):
            self._rounds += 1
            every = self._config.evaluation.evaluate_every * self._config.nodes
            if self._config.evaluate_mode != "end" and every and self._rounds % every == 0:
                self._evaluate_mean()

    def _evaluate_mean(self) -> None:
        """The mean model at this instant; the simulation stands still meanwhile."""
        weights = [node.gossip.weights for node in self._nodes]
        job = self._pool.submit_evaluate(mean_model(weights), self._config.evaluation.evaluate_samples)
        result = self._pool.result(job)
        round = self._rounds / self._config.nodes
        self._record(SIMULATOR, evaluated(result, of="mean", round=round, final=False))

    def _record(self, node: int | str, event: Event) -> None:
        if self._recording:
            self._journal.write(trio.current_time(), node, event)
            self._watch(trio.current_time(), event)

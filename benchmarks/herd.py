"""Many nodes that only keep each other company: real nodes on the simulated network, with nothing to learn.

What they think of each other is asked of the nodes themselves; what it costs is counted by the network.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import trio

from netsim.config import LinksConfig
from netsim.determinism import run_deterministically
from netsim.jumping import JumpingClock
from netsim.links import ScenarioLinks
from netsim.network import SimulatedNetwork
from p2pfl.clock import Clock
from p2pfl.config import NodeConfig, build
from p2pfl.events import Event, StandingChanged
from p2pfl.gossip.messages import Layout, Task, TensorSpec, Vector
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult
from p2pfl.learning.partition import Shard
from p2pfl.node import Node

T = TypeVar("T")

TASK = Task("nothing", ("a", "b"), (1, 1, 2), (0.5,), (0.5,))
LAYOUT = Layout("nothing", (TensorSpec("w", (4,)),))
_SHARD = Shard(1, (1, 0), "0" * 32, np.arange(1))


class Idle:
    """A learner that learns nothing, at once."""

    async def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan) -> FitResult:
        await trio.lowlevel.checkpoint()
        return FitResult(weights, optimiser, plan.steps, plan.samples, 0.0)

    async def evaluate(self, weights: Vector, limit: int) -> Evaluation:
        await trio.lowlevel.checkpoint()
        return Evaluation(0.0, np.array([[1, 0], [0, 0]]))


@dataclass(frozen=True)
class Sighting:
    """At `at` seconds node `by` changed its mind about the node with the id `of`."""

    at: float
    by: int
    of: str
    standing: str


@dataclass(eq=False)
class Herd:
    """Nodes by their number. Each new one is told of `acquainted` that are there already."""

    network: SimulatedNetwork
    nursery: trio.Nursery
    rng: np.random.Generator
    view_size: int
    nodes: dict[int, Node] = field(default_factory=dict)
    sightings: list[Sighting] = field(default_factory=list)
    _scopes: dict[int, trio.CancelScope] = field(default_factory=dict)
    _started: int = 0

    async def add(self, count: int, acquainted: int = 5) -> None:
        for _ in range(count):
            there = list(self.nodes)
            known = [there[i] for i in self.rng.permutation(len(there))[:acquainted]]
            await self._start(self._started, [self.network.host(index).url for index in known])
            self._started += 1

    async def _start(self, index: int, peers: Iterable[str]) -> None:
        flat = {"rounds": 1, "settle": 0, "interval": 0.0, "view_size": self.view_size, "evaluate_every": 0}
        clock = Clock()

        def observe(event: Event) -> None:
            if isinstance(event, StandingChanged):
                self.sightings.append(Sighting(trio.current_time(), index, event.peer, event.standing))

        self.nodes[index] = node = Node(
            replace(build(NodeConfig, flat), peers=tuple(peers)),
            id=f"{index:032x}",
            task=TASK,
            layout=LAYOUT,
            initial=np.zeros(LAYOUT.size, np.float32),
            shard=_SHARD,
            compute=Idle(),
            network=self.network.host(index),
            clock=clock,
            rng=np.random.default_rng((1, index)),
            observe=observe,
            incarnation=1,
        )
        await self.nursery.start(self._live, index, node)

    async def _live(self, index: int, node: Node, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.CancelScope() as scope:
            self._scopes[index] = scope
            async with trio.open_nursery() as nursery:
                await nursery.start(node.run)
                task_status.started()

    def crash(self, index: int) -> str:
        """Gone without a word; returns its id."""
        self._scopes.pop(index).cancel()
        return self.nodes.pop(index).gossip.id

    def knows(self, index: int) -> set[str]:
        """Ids of the members that this node holds for alive, if perhaps with a suspicion."""
        return set(self.nodes[index].gossip.membership.members)

    def everybody_knows_everybody(self) -> bool:
        ids = {node.gossip.id for node in self.nodes.values()}
        return all(self.knows(index) == ids - {node.gossip.id} for index, node in self.nodes.items())

    async def until(self, holds: Callable[[], bool], most: float) -> float:
        """Virtual seconds until `holds()`, asked ten times a second; inf after `most`."""
        began = trio.current_time()
        while not holds():
            if trio.current_time() > began + most:
                return float("inf")
            await trio.sleep(0.1)
        return trio.current_time() - began

    def bytes_sent(self) -> int:
        """Of all nodes so far, bodies of requests and answers."""
        hosts = (self.network.host(index) for index in range(self._started))
        return sum(traffic.bytes for host in hosts for traffic in host.sent.values())

    def parts(self) -> int:
        """Of the overlay of whom the nodes know to be alive, either way: 1 if it is connected."""
        numbers = {node.gossip.id: index for index, node in self.nodes.items()}
        near: dict[int, set[int]] = {index: set() for index in self.nodes}
        for index in self.nodes:
            for id in self.knows(index) & numbers.keys():
                near[index].add(numbers[id])
                near[numbers[id]].add(index)
        left, parts = set(near), 0
        while left:
            parts, queue = parts + 1, [left.pop()]
            while queue:
                found = near[queue.pop()] & left
                left -= found
                queue.extend(found)
        return parts


def herded(act: Callable[[Herd], Awaitable[T]], *, seed: int, view_size: int, loss: float = 0.0) -> T:
    """What `act` finds with a herd in virtual time, at latencies of 20 to 60 ms; loss: share of messages."""

    @asynccontextmanager
    async def herd() -> AsyncIterator[Herd]:
        links = ScenarioLinks(
            LinksConfig(latency="uniform:20ms,60ms", loss=loss),
            (),
            {},
            {},
            lambda sender: np.random.default_rng((seed, 2, sender)),
        )
        network = SimulatedNetwork(links, lambda event: None)
        async with trio.open_nursery() as nursery:
            await nursery.start(network.run)
            yield Herd(network, nursery, np.random.default_rng((seed, 3)), view_size)
            nursery.cancel_scope.cancel()

    async def main() -> T:
        async with herd() as nodes:
            return await act(nodes)

    return run_deterministically(main, clock=JumpingClock())

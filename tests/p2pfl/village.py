"""A few real Nodes on the simulated network in virtual time, with a learner that only counts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import trio

from netsim.network import SimulatedNetwork, UniformLinks
from p2pfl.clock import Clock
from p2pfl.config import NodeConfig, build
from p2pfl.events import Event, Observe
from p2pfl.gossip.admission import Admission
from p2pfl.gossip.identity import Identity
from p2pfl.gossip.messages import Layout, Task, TensorSpec, Vector
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult
from p2pfl.learning.partition import Shard
from p2pfl.node import Node
from p2pfl.storage.checkpoint import Checkpoint
from p2pfl.storage.health import StorageHealth

TASK = Task("counting", ("a", "b"), (1, 1, 2), (0.5,), (0.5,))
LAYOUT = Layout("counter", (TensorSpec("w", (4,)),))
LATENCY = 0.02
SAMPLES = 64

E = TypeVar("E", bound=Event)


@dataclass
class CountingCompute:
    """A fit takes `seconds` and adds 1 to every weight; `result` may replace what it gives."""

    clock: Clock
    seconds: float = 1.0
    result: Callable[[FitResult], FitResult] = lambda result: result
    plans: list[FitPlan] = field(default_factory=list)

    async def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan) -> FitResult:
        self.plans.append(plan)
        await self.clock.sleep(self.seconds)
        return self.result(
            FitResult(weights + np.float32(1), np.empty(0, np.float32), plan.steps, plan.samples, 0.5)
        )

    async def evaluate(self, weights: Vector, limit: int) -> Evaluation:
        return Evaluation(1.0 / (1.0 + float(weights[0])), np.array([[3, 1], [0, 4]]))


@dataclass
class Villager:
    """A node, what it saw (time, event), and what it runs on."""

    node: Node
    compute: CountingCompute
    saved: list[Checkpoint]
    seen: list[tuple[float, Event]]
    listeners: list[Observe]  # told of every event, too

    def events(self, kind: type[E]) -> list[E]:
        return [event for _, event in self.seen if isinstance(event, kind)]

    def times(self, kind: type[Event]) -> list[float]:
        return [time for time, event in self.seen if isinstance(event, kind)]

    def status(self) -> dict[str, object]:
        return self.node.service.status()


class Village:
    """Use inside `async with village.open() as nursery`."""

    def __init__(self, latency: float = LATENCY) -> None:
        self.network = SimulatedNetwork(UniformLinks(latency))

    def url(self, index: int) -> str:
        return self.network.host(index).url

    def villager(
        self,
        index: int,
        peers: tuple[int, ...] = (),
        *,
        seconds: float = 1.0,
        task: Task = TASK,
        layout: Layout = LAYOUT,
        resume: Checkpoint | None = None,
        full: Callable[[Checkpoint], str | None] = lambda checkpoint: None,
        identity: Identity | None = None,
        allowed: tuple[str, ...] | None = None,
        **config: object,
    ) -> Villager:
        """Node `index`; knows `peers` by their index. config: flat keys; 3 rounds, no interval by default.

        full: asked before each save; raises what the save raises, or says what the save says.
        identity: it signs with.  allowed: ids that may take part; None: anybody.
        """
        clock = Clock()
        compute = CountingCompute(clock, seconds)
        seen: list[tuple[float, Event]] = []
        saved: list[Checkpoint] = []
        listeners: list[Observe] = []

        def observe(event: Event) -> None:
            seen.append((trio.current_time(), event))
            for listener in listeners:
                listener(event)

        async def save(checkpoint: Checkpoint) -> str | None:
            left_out = full(checkpoint)
            saved.append(checkpoint)
            return left_out

        flat = {"rounds": 3, "interval": 0.0, "settle": 2, "name": f"n{index}"} | config
        built = replace(build(NodeConfig, flat), peers=tuple(self.url(peer) for peer in peers))
        id = f"id{index}" if identity is None else identity.id
        node = Node(
            built,
            id=id,
            task=task,
            layout=layout,
            initial=np.zeros(layout.size, np.float32),
            shard=Shard(SAMPLES, (SAMPLES // 2, SAMPLES // 2), f"{index:032x}", np.arange(SAMPLES)),
            compute=compute,
            network=self.network.host(index),
            clock=clock,
            rng=np.random.default_rng(index),
            observe=observe,
            save=save,
            resume=resume,
            storage=StorageHealth(),
            identity=identity,
            admission=Admission(id, require_signed=built.require_signed, allowed=allowed),
        )
        return Villager(node, compute, saved, seen, listeners)


@asynccontextmanager
async def living(village: Village, *villagers: Villager) -> AsyncIterator[trio.Nursery]:
    """The villagers live in this nursery, started in this order; at the end they are gone."""
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        for villager in villagers:
            await nursery.start(villager.node.run)
        yield nursery
        nursery.cancel_scope.cancel()


async def live_until_done(village: Village, *villagers: Villager) -> None:
    """Until all of them are."""
    async with living(village, *villagers):
        await until_done(*villagers)


async def until_done(*villagers: Villager) -> None:
    for villager in villagers:
        await villager.node.done.wait()


def live_ids(villager: Villager) -> Iterator[str]:
    return iter(sorted(contact.id for contact in villager.node.gossip.view.live()))

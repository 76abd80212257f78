"""One simulated node over its lives: it starts, crashes, comes back with or without its state, leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import trio

from netsim.attacks.idle import IdleJobs
from netsim.attacks.liar import Liar, LyingGossip
from netsim.compute import SimulatedCompute
from netsim.faults import Status
from netsim.jobs import Asked
from netsim.network import SimulatedHost
from netsim.population import DEVICE_STREAM, NODE_STREAM, Device, node_identity, stream
from p2pfl.clock import Clock
from p2pfl.config import NodeConfig
from p2pfl.events import Event, Observe
from p2pfl.gossip.admission import Admission
from p2pfl.gossip.messages import Vector
from p2pfl.gossip.protocol import Gossip
from p2pfl.learning.learner import Learner
from p2pfl.learning.partition import Shard
from p2pfl.node import Node
from p2pfl.storage.checkpoint import Checkpoint


class Member:
    """observe: gets what the node observes, as long as it lives.  keeps: its state outlives a crash.

    seed: of the scenario.  liar: makes what lies for it in each life; None: it is honest.
    """

    def __init__(
        self,
        index: int,
        config: NodeConfig,
        *,
        seed: int,
        host: SimulatedHost,
        device: Device,
        learner: Learner,
        initial: Vector,
        shard: Shard,
        pool: Asked,
        observe: Observe,
        keeps: bool,
        liar: Callable[[int], Liar] | None = None,
    ) -> None:
        self.index = index
        self.status: Status = "absent"
        self.hung = False
        self.done = False
        self.round = 0
        self.node: Node | None = None
        self._config = config
        self._seed = seed
        self._host = host
        self._device = device
        self._learner = learner
        self._initial = initial
        self._shard = shard
        self._pool = pool
        self._observe = observe
        self._keeps = keeps
        self._liar = liar
        self._life = 0
        self._born = 0  # the life in which its present identity was made
        self._saved: Checkpoint | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._ended.set()
        self._heard: Observe = observe

    async def live(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """One life, until it is cut short; started() once the node listens."""
        await self._ended.wait()  # the former life's handlers, if any
        self._ended = trio.Event()
        self._scope = trio.CancelScope()
        if not self._keeps:
            self._saved = None
        if self._saved is None:
            self._born = self._life
        self.node = self._make(self._saved)
        self.status, self.hung, self.done = "up", False, False
        self.round = self.node.gossip.round
        self._life += 1
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self.node.run)
                    task_status.started()
        finally:
            self._ended.set()

    def crash(self) -> None:
        """Gone at once, without a word: nothing that it does while it ends is seen."""
        self._heard = _nothing
        self.status = "down"
        self.hung = False  # a hung process dies as it is: its host answers nothing of what it holds
        self._scope.cancel()

    def leave(self) -> None:
        """Stopped in good order, for which a hung process has to go on."""
        if self.hung:
            self.resume()
        self.status = "left"
        if self.node is not None:
            self.node.leave()

    def hang(self) -> None:
        self.hung = True
        self._host.hang()

    def resume(self) -> None:
        self.hung = False
        self._host.resume()

    def set_peers(self, peers: tuple[str, ...]) -> None:
        """From now on, also in later lives."""
        self._config = replace(self._config, peers=peers)
        if self.node is not None and self.status == "up":
            self.node.set_peers(peers)

    async def _save(self, checkpoint: Checkpoint) -> None:
        self._saved = checkpoint

    def _make(self, resume: Checkpoint | None) -> Node:
        clock = Clock(self._device.rate, self._device.offset)
        pool: Asked = self._pool
        gossip: Callable[..., Gossip] = Gossip
        if self._liar is not None:
            liar = self._liar(self._life)
            gossip = partial(LyingGossip, liar=liar)
            pool = IdleJobs(pool, lambda: self.node is not None and liar.idles(self.node.gossip.round + 1))
        compute = SimulatedCompute(
            pool,
            clock,
            stream(self._seed, self.index, DEVICE_STREAM, self._life),
            # A fast clock makes the same work take more of its seconds.
            speed=self._device.speed / self._device.rate,
            jitter=self._device.jitter,
            label=f"node {self.index}",
            running=self._host.running,
        )
        heard = self._heard = self._alive(self._life)
        signed = self._config.require_signed
        id, identity = node_identity(self._seed, self.index, self._born, self._life, signed=signed)
        return Node(
            self._config,
            id=id,
            task=self._learner.task,
            layout=self._learner.layout,
            initial=self._initial,
            shard=self._shard,
            compute=compute,
            network=self._host,
            clock=clock,
            rng=stream(self._seed, self.index, NODE_STREAM, self._life),
            observe=heard,
            save=self._save if self._keeps else None,
            resume=resume,
            incarnation=self._life + 1,
            identity=identity,
            admission=Admission(id, require_signed=signed),
            gossip=gossip,
        )

    def _alive(self, life: int) -> Observe:
        """What this life observes is passed on until it crashes."""

        def observe(event: Event) -> None:
            if self._heard is observe:
                self._observe(event)

        return observe


def _nothing(event: Event) -> None:
    """What a crashed node observes is not seen."""

"""One node: the only composer of learning, gossip, network and storage.

    learn:   train on own data -> merge with the inbox -> publish -> start exchanges -> evaluate -> checkpoint
    settle:  a few push-pull exchanges with merging and no training
    done:    go on merging what arrives and answering
    paused:  the same, until an operator resumes it (controls.py)

Requests are served meanwhile (service.py). The node never waits for a peer longer than its own deadline, and
training never waits for an exchange. It differs from a simulated node in six injected things: network, clock,
compute, randomness, storage, observe.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import trio

from p2pfl import arrival
from p2pfl.checkpointing import Checkpointer
from p2pfl.clock import Clock
from p2pfl.config import NodeConfig, check_url
from p2pfl.controls import Controls
from p2pfl.courier import Courier
from p2pfl.errors import ConfigError, DataError, FrameError
from p2pfl.events import Observe, PeerDropped, RoundCompleted, Started, StateChanged, Stopped
from p2pfl.gossip.addresses import presented
from p2pfl.gossip.admission import Admission
from p2pfl.gossip.codec import decode_hello
from p2pfl.gossip.identity import Identity
from p2pfl.gossip.messages import Layout, NodeState, Task, Vector
from p2pfl.gossip.protocol import Gossip
from p2pfl.gossip.quorum import check_attainable
from p2pfl.learning.learner import FitPlan
from p2pfl.learning.partition import Shard
from p2pfl.network.app import make_app
from p2pfl.network.client import PeerClient
from p2pfl.news import News
from p2pfl.own_model import OwnModel
from p2pfl.prober import Prober
from p2pfl.seams import Compute, Network, Save
from p2pfl.service import NodeService, Score
from p2pfl.storage.checkpoint import Checkpoint
from p2pfl.storage.health import StorageHealth
from p2pfl.thrift import Thrift

# Longest time to say farewell to some peers, in seconds, by the node's clock.
FAREWELL = 1.0
# Longest time to close connections when the node stops, in seconds.
CLOSING = 0.5


class Node:
    """initial: (P,) float32, the weights to start from.  resume: the last checkpoint, if there is one.

    save: None if the node keeps nothing over a restart.  storage: shown in its status.
    incarnation: higher with each start of this id.  identity, admission: as Gossip takes them.
    gossip: makes what speaks for it; simulated adversaries have another one.
    thrift: when it may train and send; None: whenever it can.
    share: of what a process may hold of models under way, where it has several nodes.
    """

    def __init__(
        self,
        config: NodeConfig,
        *,
        id: str,
        task: Task,
        layout: Layout,
        initial: Vector,
        shard: Shard,
        compute: Compute,
        network: Network,
        clock: Clock,
        rng: np.random.Generator,
        observe: Observe,
        save: Save | None = None,
        resume: Checkpoint | None = None,
        incarnation: int = 0,
        storage: StorageHealth | None = None,
        identity: Identity | None = None,
        admission: Admission | None = None,
        gossip: Callable[..., Gossip] = Gossip,
        thrift: Thrift | None = None,
        share: float = 1.0,
    ) -> None:
        self.done = trio.Event()
        self.gossip = gossip(
            config.gossip,
            id=id,
            name=config.name,
            task=task,
            layout=layout,
            weights=initial,
            samples=shard.samples,
            peers=config.peers,
            rng=rng,
            incarnation=incarnation,
            identity=identity,
            admission=admission,
        )
        self._shard = shard
        self._network = network
        self._share = share
        self._clock = clock
        self._rng = rng
        self._probing = rng.spawn(1)[0]  # or probes would change what is trained with
        self._checkpointer = Checkpointer(self.gossip, save, observe, storage, config.checkpoint_every)
        self._observe = observe
        self._resumed = resume is not None
        if resume is not None:
            self.gossip.resume(resume.weights, resume.age, resume.round, resume.version)
            self.gossip.remember(resume.peers)
        self._courier: Courier | None = None  # while it runs
        self._news = News(clock)
        self.leaving = trio.Event()
        self._last_tell = -np.inf
        self.controls = Controls(
            config,
            adopt=self.gossip.configure,
            attainable=lambda gossip: check_attainable(gossip, layout.size),
            round=lambda: self.gossip.round,
            observe=observe,
            on_change=self._news.came,
        )
        self.service = NodeService(
            self.gossip,
            data_fingerprint=shard.fingerprint,
            now=clock.now,
            observe=observe,
            on_news=self._news.came,
        )
        self.service.score = Score(self.gossip.round, self.gossip.age)
        self.service.storage = storage
        self._thrift = thrift or Thrift(config.thrift, clock.now, observe=observe)
        self.service.thrift = thrift
        self.service.may_be_alone = not (config.peers or config.min_peers or config.discover != "none")
        self.service.controls = self.controls
        self._model = OwnModel(self.gossip, self.service, compute, clock, observe, config.evaluation)
        if resume is not None:
            self._model.optimiser = resume.optimiser

    @property
    def config(self) -> NodeConfig:
        """With what was changed since the start."""
        return self.controls.config

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled, or with exit_when_done until everybody is done.

        Raises SetupErrors, never PeerErrors.
        """
        app = make_app(self.service, self._clock, share=self._share)
        try:
            async with trio.open_nursery() as nursery:
                url = await nursery.start(self._network.serve, app)
                self.gossip.url = presented(self.config.advertise, url)
                self._check_presentable()
                self.gossip.view.listens_at(url)
                client = PeerClient(self._network.transport(), self.gossip.task, self.gossip.layout)
                courier = Courier(self.gossip, self.service, client, self._clock, self._observe, nursery)
                try:
                    self._courier = courier
                    self._started()
                    if not self._resumed:
                        # Its id is its own from now on; and what cannot be written now is an error.
                        await self._checkpointer.save(self._model.optimiser)
                    prober = self._prober(courier, nursery)
                    nursery.start_soon(prober.run)
                    nursery.start_soon(self._say_farewell, prober, nursery.cancel_scope)
                    task_status.started(url)
                    await self._live(courier)
                    await self._part(prober)
                finally:
                    self._courier = None
                    with trio.move_on_after(CLOSING, shield=True):
                        await client.aclose()
                nursery.cancel_scope.cancel()
        finally:
            self._observe(Stopped(self.gossip.round, self.gossip.state))

    def leave(self) -> None:
        """Stop in good order: peers are told, so that they need not find out. run() returns soon after."""
        self.leaving.set()

    def _prober(self, courier: Courier, nursery: trio.Nursery) -> Prober:
        period = self.config.gossip.probe_interval
        return Prober(self.gossip, self.service, courier, self._clock, self._probing, nursery, period)

    async def _say_farewell(self, prober: Prober, scope: trio.CancelScope) -> None:
        await self.leaving.wait()
        await self._part(prober)
        await self._checkpointer.finish(self._model.optimiser)
        scope.cancel()

    async def _part(self, prober: Prober) -> None:
        self.service.close()
        with self._clock.deadline(FAREWELL):
            await prober.leave()

    def set_peers(self, urls: Sequence[str]) -> None:
        """From now on these are the configured peers; those not met yet are called at once.

        With fixed_peers there are no others: who is not named leaves the view. Raises ConfigError.
        """
        for url in urls:
            check_url("peers", url)
        for contact in self.gossip.set_peers(urls):
            self._observe(PeerDropped(contact.id, contact.url, "not configured any more"))
        if self._courier is not None:
            self._courier.call_strangers()

    def found(self, id: str, url: str) -> None:
        """This node is said to be on the local network: called once, as any address that others name."""
        welcome = self.gossip.admission.allows(id)
        if welcome and self.gossip.view.announced(id, url, "localhost") and self._courier is not None:
            self._courier.call_strangers()

    async def _live(self, courier: Courier) -> None:
        await arrival.meet(self.config, self.gossip, courier, self._clock, self._rng, self._news)
        if not self._resumed:
            await arrival.join(self.gossip, courier, self._clock, self._rng, self._observe)
        self._enter("training")
        await self._train(courier)
        self._enter("settling")
        for _ in range(self.config.gossip.settle):
            await self._turn(self._until_settling)
            if self.gossip.view.contacts():
                await self._settle_once(courier)
        await self._model.evaluate()
        await self._checkpointer.try_to_save(self._model.optimiser)
        self._enter("done")
        self.done.set()
        courier.announce_done(to_all=self.config.exit_when_done)
        await self._stay(courier)

    # -- the loop

    async def _hold(self) -> None:
        """Until training may go on: merge what arrives, and answer."""
        for until in self._thrift.held():
            while self._clock.now() < until:
                news = self._news.next()
                if self._model.merge() is not None:
                    self._model.publish()
                await self._news.until(news, until)

    async def _train(self, courier: Courier) -> None:
        """Rounds, until there are enough."""
        while not (rounds := self.config.training.rounds) or self.gossip.round < rounds:
            await self._turn(self._until_training)
            with self.controls.round_under_way():
                await self._round(courier)

    async def _turn(self, wait: Callable[[], Awaitable[None]]) -> None:
        """Wait, as long as the node is paused too: a pause ends the wait, which begins anew after it."""
        while True:
            with self.controls.unless_paused():
                await wait()
            if not self.controls.paused:
                return
            await self._rest()

    async def _until_training(self) -> None:
        await self._thrift.look_at_link()
        await self._hold()
        # Train as late as the interval allows, so that what arrives meanwhile is merged before, not after.
        await self._pace(self._model.fit_seconds)

    async def _until_settling(self) -> None:
        if self.gossip.view.contacts():  # else there is nobody to wait for
            await self._clock.sleep(self._due(self._thrift.wait()) - self._clock.now())

    async def _round(self, courier: Courier) -> None:
        training = self.config.training
        self._model.merge()
        indices = self._shard.indices(self.gossip.round)
        plan = FitPlan(
            indices=indices,
            steps=training.steps(len(indices)),
            batch_size=training.batch_size,
            learning_rate=training.learning_rate(self.gossip.round),
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            seed=int(self._rng.integers(2**63)),
        )
        await self._model.train(plan)
        self._model.merge()
        await self._pace(0.0)
        self._model.publish()
        self._last_tell = self._clock.now()
        courier.tell(self._thrift.fanout(self.config.gossip.fanout), self.config.gossip.gossip)
        await self._model.round_completed()
        self._observe(RoundCompleted(self.gossip.round, self.gossip.age))
        await self._checkpointer.round_completed(self._model.optimiser)

    async def _rest(self) -> None:
        """Until it is resumed: merge what arrives, and evaluate and save that, at most once an interval."""
        interval = self.config.gossip.interval
        stale, evaluated = False, -np.inf
        with self.controls.at_rest():
            while self.controls.paused:
                news = self._news.next()
                if self._model.merge() is not None:
                    self._model.publish()
                    stale = True
                if not stale:
                    await news.wait()
                elif self._clock.now() < evaluated + interval:
                    await self._news.until(news, evaluated + interval)
                else:
                    evaluated, stale = self._clock.now(), False
                    await self._model.evaluate()
                    await self._checkpointer.try_to_save(self._model.optimiser)

    async def _settle_once(self, courier: Courier) -> None:
        if self._model.merge():  # what came since is not held back from the next peer
            self._model.publish()
        self._last_tell = self._clock.now()
        await courier.settle()
        self._model.merge()
        self._model.publish()

    async def _stay(self, courier: Courier) -> None:
        """Done is not gone: merge what arrives. Returns with exit_when_done, once the others are done too.

        What a node that still trains sends is a model of mostly its own last round; whoever merged one
        settles again, or the done nodes would end apart, each with the round it happened to be told of.
        """
        owed, stale = 0, False  # push-pulls still to do; merged since the last evaluation
        with self._clock.deadline(self.config.linger if self.config.exit_when_done else np.inf):
            while not (self.config.exit_when_done and self._all_done()):
                news = self._news.next()
                if (merged := self._model.merge()) is not None:
                    self._model.publish()
                    stale = True
                    if merged.fresh:
                        owed = self.config.gossip.settle
                # However many peers still train: one exchange or evaluation an interval.
                if not (stale or owed):
                    await news.wait()
                elif self._clock.now() < (due := self._due(self._thrift.wait() if owed else 0.0)):
                    await self._news.until(news, due)
                else:
                    self._last_tell = self._clock.now()
                    if owed:
                        owed -= 1
                        await courier.settle()
                    else:  # settled: what an exchange is about to change is not worth an evaluation
                        stale = False
                        await self._model.evaluate()
                        await self._checkpointer.try_to_save(self._model.optimiser)
        await courier.finish()  # somebody may still be told by us, or wait for an answer under way
        if stale:
            await self._model.evaluate()
            await self._checkpointer.try_to_save(self._model.optimiser)

    def _all_done(self) -> bool:
        callers = (member.state for member in self.gossip.membership.uncallable())
        return all(state == "done" for state in (*(c.node_state for c in self.gossip.view.live()), *callers))

    # -- small steps

    def _check_presentable(self) -> None:
        """ConfigError if peers would refuse how this node presents itself."""
        try:
            decode_hello(self.gossip.hello_frame(self.gossip.hello()), self.gossip.task, self.gossip.layout)
            self.gossip.check_head_fits()
        except (FrameError, DataError) as error:
            raise ConfigError(
                f"peers would refuse this node's name, advertised URL or task: {error}"
            ) from error

    def _started(self) -> None:
        gossip = self.gossip
        self._observe(
            Started(
                id=gossip.id,
                name=gossip.name,
                url=gossip.url,
                task=gossip.task.name,
                model=gossip.layout.model,
                fingerprint=gossip.layout.fingerprint,
                parameters=gossip.layout.size,
                samples=gossip.samples,
                labels=self._shard.label_counts,
                resumed_round=gossip.round,
            )
        )

    def _enter(self, state: NodeState) -> None:
        self.gossip.state = state
        self._observe(StateChanged(state))

    async def _pace(self, ahead: float) -> None:
        """Sleep until `ahead` seconds before the interval since the last exchange is over."""
        await self._clock.sleep(self._due() - ahead - self._clock.now())

    def _due(self, wait: float = 0.0) -> float:
        """When the interval since the last exchange is over, and not before `wait` seconds from now."""
        interval = self._thrift.interval(self.config.gossip.interval)
        return max(self._last_tell + interval, self._clock.now() + wait)

"""A real node put together from its configuration: data, learner, state, identity, journal, metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trio

from p2pfl.clock import Clock
from p2pfl.computing import ForkedCompute, ThreadCompute
from p2pfl.config import NodeConfig, parse_shard
from p2pfl.credentials import admission_of, read_allowed, take_identity
from p2pfl.errors import ConfigError, StorageError
from p2pfl.exposition import Exposition
from p2pfl.gossip import quorum
from p2pfl.gossip.frame import PROTOCOL_VERSION
from p2pfl.gossip.protocol import Gossip
from p2pfl.learning import slots
from p2pfl.learning.data import load
from p2pfl.learning.learner import Learner
from p2pfl.learning.partition import Shard, shard
from p2pfl.learning.spawner import Spawner
from p2pfl.learning.torch_learner import TorchLearner
from p2pfl.network import discovery
from p2pfl.network.hourly import HourlyBudget
from p2pfl.network.metered import is_metered
from p2pfl.network.security import Security
from p2pfl.network.tokens import Token
from p2pfl.node import Node
from p2pfl.observing import Observer
from p2pfl.operating import operate
from p2pfl.persistence import Persistence
from p2pfl.predicting import predictor
from p2pfl.seams import Compute, Network
from p2pfl.storage.checkpoint import Checkpoint
from p2pfl.storage.health import StorageHealth
from p2pfl.storage.journal import JournalFile
from p2pfl.thrift import Surroundings, Thrift, exchange_size

log = logging.getLogger(__name__)


def check(config: NodeConfig, *, own_learner: bool = False) -> bool:
    """Whether training has a process of its own. Raises, before anything slow, what can be known by now.

    own_learner: it is not made from the configuration.
    """
    if config.discover == "mdns":
        discovery.check_installed()
    if config.allow is not None:
        read_allowed(config.allow)
    if config.train_in == "auto":
        return not own_learner and slots.available()
    if config.train_in == "process" and not slots.available():
        raise ConfigError("train-in process needs Linux; give thread or auto")
    return config.train_in == "process"


@dataclass(frozen=True)
class Training:
    """What a node trains with, and on."""

    learner: Learner
    own: Shard

    @classmethod
    def load(cls, config: NodeConfig, learner: Learner | None = None, own: Shard | None = None) -> Training:
        """Those that are not given are made as configured, which takes seconds. Raises SetupErrors."""
        if learner is None or own is None:
            index, parts = parse_shard(config.shard)
            dataset = load(config.data)
            own = own or shard(dataset, config.data, index, parts)
            learner = learner or TorchLearner(dataset, config.training.model, config.threads)
        return cls(learner, own)

    def compute(
        self, *, forks: bool, spawner: tuple[Spawner, int] | None = None
    ) -> AbstractContextManager[Compute]:
        return ForkedCompute(self.learner, spawner) if forks else nullcontext(ThreadCompute(self.learner))


@contextmanager
def assembled(
    config: NodeConfig,
    training: Training,
    compute: Compute,
    connect: Callable[[], tuple[Network, Token]],
    budget: HourlyBudget,
    gossip: Callable[..., Gossip] = Gossip,
    *,
    share: float = 1.0,
) -> Iterator[Node]:
    """A node that goes on from its state directory, which is its own inside.

    connect: called when the state directory is ours; gives the network, and the token of who operates it.
    budget: the process's, of bytes.  gossip, share: as Node takes them. Raises StorageError, ConfigError.
    """
    learner = training.learner
    clock, health = Clock(), StorageHealth()
    with ExitStack() as open_files:
        journal = JournalFile(Path(config.journal)) if config.journal else None
        if journal is not None:
            open_files.callback(journal.close)
        observe = Observer(clock, journal, health)
        kept = Persistence(config.state_dir, health, observe) if config.state_dir else None
        if kept is not None:
            open_files.callback(kept.close)
            observe.listeners.append(kept.note)
        resume = kept.resume if kept else None
        # A resumed node goes on with other numbers than those of its first rounds.
        done = resume.round if resume else 0
        rng = np.random.default_rng(None if config.seed is None else (config.seed, done))
        if resume is not None:
            _check_same(resume, learner, config)
        identity = take_identity(config.state_dir, resume)
        network, token = connect()
        size = exchange_size(config.gossip, learner.layout.size)
        around = Surroundings(is_metered=is_metered)
        thrift = Thrift(config.thrift, clock.now, size, budget, around, observe)
        node = Node(
            config,
            id=identity.id,
            task=learner.task,
            layout=learner.layout,
            initial=learner.initial_weights(config.training.init_seed),
            shard=training.own,
            compute=compute,
            network=network,
            clock=clock,
            rng=rng,
            observe=observe,
            save=kept.save if kept else None,
            resume=resume,
            incarnation=identity.incarnation,
            identity=identity,
            admission=admission_of(config, identity.id),
            storage=health if kept or journal else None,
            gossip=gossip,
            thrift=thrift,
            share=share,
        )
        exposition = Exposition(node.gossip, node.service)
        observe.listeners.append(exposition.note)
        node.service.exposition = exposition.metrics
        observe.listeners.append(node.service.keep_history())
        node.service.predictor = predictor(learner)
        operate(node, token, config.state_dir)
        if (doubt := quorum.doubt(node.config.gossip)) is not None:
            log.warning(doubt)
        yield node


async def run(node: Node, security: Security, began: Callable[[str], None]) -> None:
    """Run a node to its end, and find others on the local network meanwhile. began: called with its URL."""
    async with trio.open_nursery() as beside:
        async with trio.open_nursery() as running:
            url = await running.start(node.run)
            began(url)
            if node.config.discover == "mdns":
                beside.start_soon(_discover, node, url, security)
        beside.cancel_scope.cancel()


async def _discover(node: Node, url: str, security: Security) -> None:
    """Find others on the local network, and be found, until cancelled."""
    gossip = node.gossip
    own = discovery.presence(
        url, gossip.url, id=gossip.id, version=PROTOCOL_VERSION, task=gossip.task.digest,
        layout=gossip.layout.fingerprint, interfaces=discovery.own_addresses(), token=security.token,
    )  # fmt: skip
    await discovery.join(own, node.found, discovery.ZeroconfLan)


def _check_same(resume: Checkpoint, learner: Learner, config: NodeConfig) -> None:
    if (resume.task.digest, resume.layout.fingerprint) == (learner.task.digest, learner.layout.fingerprint):
        return
    ours, theirs = learner.layout.model, resume.layout.model
    difference = learner.task.difference(resume.task) or f"model is {ours!r} here, {theirs!r} there"
    raise StorageError(
        f"{config.state_dir} holds the state of another task or model ({difference}); give the flags it was "
        "made with, or another --state-dir"
    )

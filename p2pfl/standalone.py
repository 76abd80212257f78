"""A real node: the seams of a process on a network, from a configuration to an exit code."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import trio

from p2pfl.clock import Clock
from p2pfl.computing import ForkedCompute, ThreadCompute
from p2pfl.config import NodeConfig, flatten, parse_shard
from p2pfl.credentials import (
    admission_of,
    read_allowed,
    reload_allowed,
    take_identity,
    take_operator_token,
)
from p2pfl.errors import ConfigError, P2pflError, StorageError, plain
from p2pfl.exposition import Exposition
from p2pfl.gossip import quorum
from p2pfl.gossip.frame import PROTOCOL_VERSION
from p2pfl.gossip.protocol import Gossip
from p2pfl.learning import slots, work
from p2pfl.learning.data import load
from p2pfl.learning.learner import Learner
from p2pfl.learning.partition import Shard, shard
from p2pfl.learning.torch_learner import TorchLearner
from p2pfl.network import discovery
from p2pfl.network.hourly import HourlyBudget
from p2pfl.network.metered import is_metered
from p2pfl.network.security import Security, on_this_machine
from p2pfl.network.server import HttpNetwork
from p2pfl.node import Node
from p2pfl.observing import Observer
from p2pfl.operating import operate
from p2pfl.persistence import Persistence
from p2pfl.predicting import predictor
from p2pfl.seams import Compute
from p2pfl.storage.checkpoint import Checkpoint
from p2pfl.storage.health import StorageHealth
from p2pfl.storage.journal import JournalFile
from p2pfl.thrift import Surroundings, Thrift, exchange_size

log = logging.getLogger(__name__)


def start(
    config: NodeConfig,
    learner: Learner | None = None,
    reload: Callable[[], NodeConfig] | None = None,
    own: Shard | None = None,
    gossip: Callable[..., Gossip] = Gossip,
) -> int:
    """Run a node until SIGINT or SIGTERM stops it, or exit_when_done; returns the exit code.

    learner: your own; by default PyTorch on the configured data set and model.
    own: its training data; by default the configured shard.  gossip: as Node takes it.
    reload: gives the configuration as it is now, or P2pflError; SIGHUP applies its peers. None: no effect.
    Raises the errors of errors.UsageError and errors.SetupError.
    """
    security = Security.load(config.security)  # first: nothing else is worth doing without it
    security.check_advertised(config.advertise or f"{security.scheme}://{config.listen}")
    if config.discover == "mdns":
        discovery.check_installed()
    if config.allow is not None:
        read_allowed(config.allow)  # before anything slow
    forks = config.train_in == "process" or (
        config.train_in == "auto" and learner is None and slots.available()
    )
    if forks:
        if not slots.available():
            raise ConfigError("train-in process needs Linux; give thread or auto")
        work.use_one_thread()  # of a second one, a forked process would wait for ever
    if learner is None or own is None:
        index, parts = parse_shard(config.shard)
        dataset = load(config.data)
        own = own or shard(dataset, config.data, index, parts)
        learner = learner or TorchLearner(dataset, config.training.model, config.threads)
    computing: AbstractContextManager[Compute] = (
        ForkedCompute(learner) if forks else nullcontext(ThreadCompute(learner))
    )
    with computing as compute, plain():
        return trio.run(_main, config, security, learner, compute, own, reload, gossip)


async def _main(
    config: NodeConfig,
    security: Security,
    learner: Learner,
    compute: Compute,
    own: Shard,
    reload: Callable[[], NodeConfig] | None,
    gossip: Callable[..., Gossip],
) -> int:
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
        budget = HourlyBudget(config.thrift.bytes_per_hour, clock.now)
        size = exchange_size(config.gossip, learner.layout.size)
        around = Surroundings(is_metered=is_metered)
        thrift = Thrift(config.thrift, clock.now, size, budget, around, observe)
        token, given = take_operator_token(config)
        security = replace(security, operator=token)
        security.check_operator()
        node = Node(
            config,
            id=identity.id,
            task=learner.task,
            layout=learner.layout,
            initial=learner.initial_weights(config.training.init_seed),
            shard=own,
            compute=compute,
            network=HttpNetwork(config.listen, config.call_from, security, budget),
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
        )
        exposition = Exposition(node.gossip, node.service)
        observe.listeners.append(exposition.note)
        node.service.exposition = exposition.metrics
        observe.listeners.append(node.service.keep_history())
        node.service.predictor = predictor(learner)
        operate(node, token, config.state_dir)
        if (doubt := quorum.doubt(node.config.gossip)) is not None:
            log.warning(doubt)
        await _run(node, reload, security, "" if given else f"#control={token.text}")
    return 0


async def _run(
    node: Node, reload: Callable[[], NodeConfig] | None, security: Security, fragment: str
) -> None:
    """fragment: of the page's address as it is printed; browsers keep it to themselves."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, node, nursery.cancel_scope)
        await nursery.start(_reload_on_signal, node, reload)
        async with trio.open_nursery() as running:
            url = await running.start(node.run)
            # The first line on stdout, at once: people and programs wait for it.
            print(f"listening on {url}\npage: {on_this_machine(url)}/{fragment}", flush=True)
            if node.config.discover == "mdns":
                nursery.start_soon(_discover, node, url, security)
        nursery.cancel_scope.cancel()


async def _discover(node: Node, url: str, security: Security) -> None:
    """Find others on the local network, and be found, until cancelled."""
    gossip = node.gossip
    own = discovery.presence(
        url, gossip.url, id=gossip.id, version=PROTOCOL_VERSION, task=gossip.task.digest,
        layout=gossip.layout.fingerprint, interfaces=discovery.own_addresses(), token=security.token,
    )  # fmt: skip
    await discovery.join(own, node.found, discovery.ZeroconfLan)


async def _stop_on_signal(node: Node, scope: trio.CancelScope) -> None:
    """The first signal lets the node say farewell, the second stops it at once."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            log.info("signal=%s stopping", signal.Signals(number).name)
            node.leave()
            break
        async for number in signals:
            log.info("signal=%s stopping at once", signal.Signals(number).name)
            scope.cancel()


async def _reload_on_signal(
    node: Node, reload: Callable[[], NodeConfig] | None, *, task_status: trio.TaskStatus[None]
) -> None:
    """SIGHUP gives the node the peers that its configuration has now; one that is wrong changes nothing."""
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            if node.config.allow is not None:
                reload_allowed(node.config.allow, node.gossip.admission)
            if reload is None:
                if node.config.allow is None:
                    log.warning("signal=SIGHUP ignored: there is no configuration file to read again")
                continue
            try:
                config = reload()
            except P2pflError as error:
                log.warning("signal=SIGHUP the peers stay as they are: %s", error)
                continue
            node.set_peers(config.peers)
            log.info("signal=SIGHUP peers=%d", len(config.peers))
            before, now = flatten(node.controls.configured), flatten(config)
            changed = [key for key in sorted(before | now) if before.get(key) != now.get(key)]
            if rest := [key for key in changed if key != "peers"]:
                log.warning("signal=SIGHUP only peers change in a running node, not %s", ", ".join(rest))


def _check_same(resume: Checkpoint, learner: Learner, config: NodeConfig) -> None:
    if (resume.task.digest, resume.layout.fingerprint) == (learner.task.digest, learner.layout.fingerprint):
        return
    ours, theirs = learner.layout.model, resume.layout.model
    difference = learner.task.difference(resume.task) or f"model is {ours!r} here, {theirs!r} there"
    raise StorageError(
        f"{config.state_dir} holds the state of another task or model ({difference}); give the flags it was "
        "made with, or another --state-dir"
    )

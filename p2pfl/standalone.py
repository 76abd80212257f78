"""A process of one real node or of several: from a configuration to an exit code."""

from __future__ import annotations

import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import trio

from p2pfl import assembly
from p2pfl.assembly import Training, assembled
from p2pfl.clock import Clock
from p2pfl.config import NodeConfig, flatten
from p2pfl.credentials import make_folder, reload_allowed, take_operator_token
from p2pfl.errors import P2pflError, plain
from p2pfl.gossip.protocol import Gossip
from p2pfl.learning import work
from p2pfl.learning.learner import Learner
from p2pfl.learning.partition import Shard
from p2pfl.learning.spawner import Spawner
from p2pfl.network.hourly import HourlyBudget
from p2pfl.network.security import Security, on_this_machine
from p2pfl.network.server import HttpNetwork
from p2pfl.network.tokens import Token
from p2pfl.node import Node
from p2pfl.seams import Compute
from p2pfl.task_file import TasksConfig
from p2pfl.tasks import Task, Tasks, learners, prepare

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
    security = _security(config)  # first: nothing else is worth doing without it
    forks = assembly.check(config, own_learner=learner is not None)
    if forks:
        work.use_one_thread()  # of a second one, a forked process would wait for ever
    training = Training.load(config, learner, own)
    with training.compute(forks=forks) as compute, plain():
        trio.run(_one, config, security, training, compute, reload, gossip)
    return 0


def start_several(config: TasksConfig, reload: Callable[[], TasksConfig] | None = None) -> int:
    """Run a node for each task until SIGINT or SIGTERM stops them, or all have ended of themselves.

    reload: as in start(); of each task the peers. Raises as start() does, and TasksFailed: at once if no task
    can begin, else at the end if some had failed then.
    """
    security = _security(config.shared)
    work.use_one_thread()
    tasks = prepare(config.tasks)
    spawner = Spawner(learners(tasks)) if any(task.forks for task in tasks) else nullcontext(None)
    with spawner as forks, plain():
        trio.run(_several, tasks, config, security, forks, reload)
    return 0


def _security(config: NodeConfig) -> Security:
    security = Security.load(config.security)
    security.check_advertised(config.advertise or f"{security.scheme}://{config.listen}")
    return security


async def _one(
    config: NodeConfig,
    security: Security,
    training: Training,
    compute: Compute,
    reload: Callable[[], NodeConfig] | None,
    gossip: Callable[..., Gossip],
) -> None:
    budget = HourlyBudget(config.thrift.bytes_per_hour, Clock().now)
    fragment = ""

    def connect() -> tuple[HttpNetwork, Token]:
        nonlocal fragment
        operated, fragment = _operated(config, security)
        assert operated.operator is not None
        return HttpNetwork(config.listen, config.call_from, operated, budget), operated.operator

    with assembled(config, training, compute, connect, budget, gossip) as node:
        run = partial(assembly.run, node, security, lambda url: _announce(url, fragment))
        await _until_told(run, node.leave, partial(_reload_one, node, reload))


async def _several(
    tasks: list[Task],
    config: TasksConfig,
    security: Security,
    spawner: Spawner | None,
    reload: Callable[[], TasksConfig] | None,
) -> None:
    shared = config.shared
    budget = HourlyBudget(shared.thrift.bytes_per_hour, Clock().now)
    if shared.state_dir is not None:
        make_folder(shared.state_dir)
    security, fragment = _operated(shared, security)
    network = HttpNetwork(shared.listen, shared.call_from, security, budget, several=True)
    process = Tasks(tasks, network, security, budget, spawner)
    run = partial(process.run, lambda url: _announce(url, fragment))
    await _until_told(run, process.leave, partial(_reload_several, process, config, reload))


def _operated(config: NodeConfig, security: Security) -> tuple[Security, str]:
    """With the operator's token, and the fragment that shows one that was made here to the page."""
    token, given = take_operator_token(config)
    security = replace(security, operator=token)
    security.check_operator()
    return security, "" if given else f"#control={token.text}"


def _announce(url: str, fragment: str) -> None:
    """The first line on stdout, at once: people and programs wait for it.

    fragment: of the page's address as it is printed; browsers keep it to themselves.
    """
    print(f"listening on {url}\npage: {on_this_machine(url)}/{fragment}", flush=True)


async def _until_told(
    run: Callable[[], Awaitable[None]], leave: Callable[[], None], reload: Callable[[], None]
) -> None:
    """Run it to its end, which signals may bring about."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, leave, nursery.cancel_scope)
        await nursery.start(_reload_on_signal, reload)
        await run()
        nursery.cancel_scope.cancel()


async def _stop_on_signal(leave: Callable[[], None], scope: trio.CancelScope) -> None:
    """The first signal lets nodes say farewell, the second stops them at once."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            log.info("signal=%s stopping", signal.Signals(number).name)
            leave()
            break
        async for number in signals:
            log.info("signal=%s stopping at once", signal.Signals(number).name)
            scope.cancel()


async def _reload_on_signal(reload: Callable[[], None], *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            reload()


def _reload_one(node: Node, reload: Callable[[], NodeConfig] | None) -> None:
    """SIGHUP gives the node the peers that its configuration has now; one that is wrong changes nothing."""
    if node.config.allow is not None:
        reload_allowed(node.config.allow, node.gossip.admission)
    if reload is None:
        if node.config.allow is None:
            log.warning("signal=SIGHUP ignored: there is no configuration file to read again")
        return
    try:
        config = reload()
    except P2pflError as error:
        log.warning("signal=SIGHUP the peers stay as they are: %s", error)
        return
    _take_peers(node, config)


def _reload_several(process: Tasks, started: TasksConfig, reload: Callable[[], TasksConfig] | None) -> None:
    """The same for each task that runs. Tasks come and go with the process."""
    for node in process.running().values():
        if node.config.allow is not None:
            reload_allowed(node.config.allow, node.gossip.admission)
    if reload is None:
        return
    try:
        config = reload()
    except P2pflError as error:
        log.warning("signal=SIGHUP the peers stay as they are: %s", error)
        return
    for name in sorted(started.tasks.keys() ^ config.tasks.keys()):
        log.warning("signal=SIGHUP tasks are taken up and given up at a start only, not %s", name)
    process.configure(config.tasks)
    for name, node in process.running().items():
        if name in config.tasks:
            _take_peers(node, config.tasks[name])


def _take_peers(node: Node, config: NodeConfig) -> None:
    node.set_peers(config.peers)
    log.info("signal=SIGHUP peers=%d", len(config.peers))
    before, now = flatten(node.controls.configured), flatten(config)
    changed = [key for key in sorted(before | now) if before.get(key) != now.get(key)]
    if rest := [key for key in changed if key != "peers"]:
        log.warning("signal=SIGHUP only peers change in a running node, not %s", ", ".join(rest))

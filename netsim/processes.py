"""The process engine: real `p2pfl node start` processes on loopback, faults and all, watched from outside.

Each node has an address of 127.0.0.0/8 of its own, so that all know their peers' URLs before any is started;
in front of each stands a proxy, through which its peers come. Time counts from the moment at which the last
of the first nodes begins to train. From then on the engine reads the journals that the nodes write and lets
faults strike; in the end it fetches the survivors' models, ends them and merges the journals.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import trio

from netsim import faults, launch, scenario_file
from netsim.adversaries import liars
from netsim.children import Children, free_addresses
from netsim.collect import fetch_models
from netsim.evaluation import Accuracies
from netsim.faults import Fault
from netsim.journal import SIMULATOR, FaultStruck, Journal, RunEnded, TopologyDrawn
from netsim.node_process import NodeProcess
from netsim.paths import Paths, Prelude
from netsim.population import Outcome, devices, draw_graph, fault_schedule, scenario_links
from netsim.proxy import Proxy
from netsim.scenario import Scenario
from netsim.units import parse_duration
from p2pfl.errors import SimulationError, plain
from p2pfl.events import Evaluated, Event, Published, StateChanged
from p2pfl.gossip.messages import Vector

INTERVAL = 0.5
"""Seconds between looks at the journals."""
CLOSE_INTERVAL = 0.1
"""The same while something waits for what they say."""
# Seconds until all nodes listen: importing torch takes some of a core, for one node after the other.
START_DEADLINE, START_DEADLINE_PER_NODE = 120.0, 15.0

# -P: the folder in which the user happens to be holds none of our modules.
NODE_COMMAND = (sys.executable, "-P", "-m", "cli.main", "node", "start")

LYING_COMMAND = (sys.executable, "-P", "-m", "netsim.lying_node")

_OURS = -1  # the simulator's place among the nodes


class ProcessEngine:
    """One run.

    watch: called with each event and its time, some time after it happened.  folder: gets a sub-folder
    `nodes` with each node's configuration, journals and logs.  command: starts a node, with `--config FILE`.
    """

    def __init__(
        self,
        scenario: Scenario,
        journal: Journal,
        watch: Callable[[float, Event], None],
        folder: Path,
        command: Sequence[str] = NODE_COMMAND,
    ) -> None:
        self._scenario = scenario
        self._config = config = scenario.config
        self._journal = journal
        self._watch = watch
        self._folder = folder / "nodes"
        self._command = command
        self._schedule = fault_schedule(scenario)
        self._edges = draw_graph(config)
        self._addresses: list[str] = []
        self._devices = devices(scenario)
        self._links = Prelude(scenario_links(scenario, self._devices))
        self._paths = Paths(self._links)
        self._nodes: list[NodeProcess] = []
        self._accuracies = Accuracies(config)
        self._liars = liars(scenario.adversaries)
        self._lies = self._folder / "lies.toml"
        self._progress = 0.0  # never falls
        self._zero = math.inf  # of the run's clock, by time.perf_counter(), as all times below
        self._seen: list[tuple[float, int, Event]] = []
        self._first_training = math.inf
        self._last_merge = 0.0
        self._latest = 0.0  # node that got done, or fault

    def run(self) -> Outcome:
        """Run until every node is done that runs, and nothing is to come, or a stop condition holds.

        None is left afterwards. Call from a thread that goes on to live. Raises SimulationError if a node
        does not start, or ends by itself.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with Children() as children, plain():
                return trio.run(self._main, children)
        except OSError as error:
            raise _unwatchable(error) from error
        except BaseExceptionGroup as group:
            if group.subgroup(KeyboardInterrupt) is not None:
                raise KeyboardInterrupt from None
            trouble, others = group.split(OSError)
            if trouble is not None and others is None:
                raise _unwatchable(trouble) from group
            raise

    def _now(self) -> float:
        """Seconds of the run's clock."""
        return time.perf_counter() - self._zero

    # -- the run

    async def _main(self, children: Children) -> Outcome:
        config = self._config
        _allow_many_connections()
        async with trio.open_nursery() as nursery:
            self._make_nodes(children, nursery)
            first = [node for node in self._nodes if node.index not in self._schedule.absent]
            for node in first:
                node.begin(nursery)
            for node in first:
                await node.listens.wait()
            await self._until_all_train(first)
            self._links.begin()
            self._zero = self._latest = time.perf_counter()
            self._draw()
            if config.topology.redraw is not None:
                nursery.start_soon(self._redraw, parse_duration("redraw", config.topology.redraw))
            reason = await self._until_ended(nursery)
            end = self._latest if reason == "done" else time.perf_counter()
            survivors = [node for node in self._running() if node.listens.is_set()]
            progress = _mean_round(survivors)
            honest = [node for node in survivors if node.index not in self._liars]
            urls = {node.index: node.url for node in honest}  # what liars would give is no result
            weights = await fetch_models(urls, signed=config.signed)
            nursery.cancel_scope.cancel()
        return self._conclude(end, reason, progress, weights, len(survivors) - len(honest))

    async def _until_all_train(self, first: Sequence[NodeProcess]) -> None:
        """No fault finds a node that still waits for company, as it may have to for one that is gone."""
        while not all(node.trains for node in first):
            self._look()
            await trio.sleep(CLOSE_INTERVAL)

    async def _until_ended(self, nursery: trio.Nursery) -> str:
        """Let faults strike at their times; returns why the run is over."""
        stop = self._config.stop
        end = math.inf if stop.virtual_time is None else parse_duration("virtual-time", stop.virtual_time)
        while True:
            self._look()
            now = self._now()
            for fault in self._schedule.due(now, self._progress):
                self._strike(nursery, fault)
            if now >= end:
                return "time"
            if self._accuracies.reached():
                return "accuracy"
            if all(node.done for node in self._running()):
                if self._progress < 1.0:
                    self._progress = 1.0  # nobody trains any more: what waits for progress strikes now
                    continue
                if not self._schedule.pending:
                    return "done"
            closely = not self._schedule.empty or stop.target_accuracy is not None
            due = self._schedule.next_time()
            pause = min(CLOSE_INTERVAL if closely else INTERVAL, end - now)
            await trio.sleep(max(0.0, pause if due is None else min(pause, due - now)))

    def _strike(self, nursery: trio.Nursery, fault: Fault) -> None:
        nodes = tuple(
            index
            for index in fault.nodes
            if faults.applies(fault.kind, self._nodes[index].status, hung=self._nodes[index].hung)
        )
        if fault.nodes and not nodes:
            return  # too late, or twice
        running = self._running()
        training = sum(node.round < self._config.training.rounds for node in running)
        event = FaultStruck(fault.kind, nodes, fault.parts, fault.number, len(running), training)
        self._record(event)
        self._latest = time.perf_counter()
        if fault.kind == "cut":
            self._paths.cuts.cut(fault.number, fault.parts)
        elif fault.kind == "heal":
            self._paths.cuts.heal(fault.number)
        for index in nodes:
            node = self._nodes[index]
            match fault.kind:
                case "crash":
                    node.crash()
                case "leave":
                    node.leave()
                case "hang":
                    node.hang()
                case "resume":
                    node.resume()
                case _:
                    node.begin(nursery)

    async def _redraw(self, period: float) -> None:
        """A new graph after each period; the nodes get their new peers as from their operators."""
        config = self._config
        drawn = 0
        while True:
            await trio.sleep(period)
            drawn += 1
            self._edges = draw_graph(config, drawn)
            self._draw()
            for node, known in zip(self._nodes, launch.known_nodes(self._scenario, self._edges), strict=True):
                node.set_peers(tuple(launch.url(self._addresses[peer]) for peer in known))

    # -- making

    def _make_nodes(self, children: Children, connections: trio.Nursery) -> None:
        config, absent = self._config, self._schedule.absent
        deadline = START_DEADLINE + START_DEADLINE_PER_NODE * config.nodes
        self._addresses = free_addresses(config.nodes, (launch.FRONT, launch.BACK))
        if self._liars:
            self._lies.write_text(scenario_file.to_toml(self._scenario), encoding="utf-8")
        callers = {address: index for index, address in enumerate(self._addresses)}
        nodes = launch.node_configs(self._scenario, self._addresses, self._edges, absent, deadline)
        for index, address in enumerate(self._addresses):
            proxy = Proxy(index, address, launch.FRONT, launch.BACK, callers, self._paths, self._record)
            node = NodeProcess(
                index,
                nodes[index],
                folder=self._folder,
                command=self._command_of(index),
                children=children,
                deadline=deadline,
                keeps=self._schedule.restarts and config.devices.state == "kept",
                reseed=partial(launch.node_seed, config.seed, index),
                slowdown=self._devices[index].slowdown,
                proxy=None if self._devices[index].nat else proxy,
                connections=connections,
            )
            self._nodes.append(node)

    def _command_of(self, index: int) -> Sequence[str]:
        """A node that lies is started by us, and told how by a copy of the scenario."""
        if index not in self._liars:
            return self._command
        return (*LYING_COMMAND, str(self._lies.absolute()), str(index))

    # -- watching

    def _running(self) -> list[NodeProcess]:
        return [node for node in self._nodes if node.status == "up" and not node.hung]

    def _look(self) -> None:
        """Read what the nodes have written, and note how far they are."""
        new: list[tuple[float, int, Event]] = []
        for node in self._nodes:
            for at, event in node.look():
                new.append((at, node.index, event))
                self._note(at, node, event)
        new.sort(key=_place)
        for at, index, event in new:
            if index in self._liars and isinstance(event, Evaluated):
                continue  # what is shown are honest nodes' accuracies
            self._watch(max(0.0, at - self._zero), event)
        self._seen += new
        running = self._running()
        self._accuracies.running = {node.index for node in running if node.index not in self._liars}
        rounds, limit = self._config.training.rounds, self._config.stop.virtual_time
        if rounds:
            done = _mean_round(running) / rounds
        else:
            done = self._now() / parse_duration("virtual-time", limit or "1s")
        self._progress = max(self._progress, min(1.0, done))

    def _note(self, at: float, node: NodeProcess, event: Event) -> None:
        if isinstance(event, StateChanged):
            if event.state == "training":
                self._first_training = min(self._first_training, at)
            elif event.state == "done":
                self._latest = max(self._latest, at)
        elif isinstance(event, Published):
            if not node.done:
                self._last_merge = max(self._last_merge, at)
        elif isinstance(event, Evaluated):
            self._accuracies.of_node(node.index, event.accuracy)

    def _draw(self) -> None:
        if self._edges:
            self._record(TopologyDrawn(self._edges))

    def _record(self, event: Event) -> None:
        """What the simulator does itself, now."""
        self._seen.append((time.perf_counter(), _OURS, event))
        self._watch(max(0.0, self._now()), event)

    # -- ending

    def _conclude(
        self, end: float, reason: str, progress: float, weights: dict[int, Vector], lying: int
    ) -> Outcome:
        """Write the nodes' journals as one, up to the end; what came before the start, at the start.

        weights: of the honest survivors.  lying: how many others there are.
        """
        self._seen.sort(key=_place)
        for at, index, event in self._seen:
            if at <= end:
                node = SIMULATOR if index == _OURS else index
                self._journal.write(max(0.0, at - self._zero), node, event)
        ended_at = max(0.0, end - self._zero)
        self._journal.write(ended_at, SIMULATOR, RunEnded(len(weights) + lying, reason))
        return Outcome(
            first_job=min(self._first_training, end),
            last_merge=min(self._last_merge, end),
            ended_at=ended_at,
            progress=progress,
            weights=weights,
        )


def _unwatchable(error: BaseException) -> SimulationError:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return SimulationError(f"the node processes cannot be watched: {error}")


def _place(item: tuple[float, int, Event]) -> tuple[float, int]:
    return item[:2]


def _mean_round(nodes: Sequence[NodeProcess]) -> float:
    return sum(node.round for node in nodes) / len(nodes) if nodes else 0.0


def _allow_many_connections() -> None:
    """Two files for each connection, up to what the system lets us have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

"""The virtual engine: the very same nodes over a simulated network, in virtual time, in one process.

Training runs on a pool of worker processes; everything else is one deterministic single-threaded program
(docs/adr/0002-blocking-broker.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial

import trio

from netsim import faults, topology
from netsim.attacks.back_door import BackDoors
from netsim.attacks.company import Company
from netsim.determinism import run_deterministically
from netsim.evaluation import Accuracies, consensus, evaluated, mean_model
from netsim.faults import Fault
from netsim.jobs import Jobs
from netsim.journal import SIMULATOR, FaultStruck, Journal, RunEnded, TopologyDrawn
from netsim.jumping import JumpingClock
from netsim.member import Member
from netsim.network import SimulatedNetwork
from netsim.population import (
    ADVERSARY_STREAM,
    Device,
    Outcome,
    bootstrap,
    devices,
    draw_graph,
    evaluated_nodes,
    fault_schedule,
    node_config,
    scenario_links,
)
from netsim.scenario import Scenario
from netsim.units import parse_duration
from p2pfl.errors import plain
from p2pfl.events import Evaluated, Event, Published, RoundCompleted, StateChanged
from p2pfl.gossip.messages import Vector
from p2pfl.learning.learner import Learner
from p2pfl.learning.partition import Shard

# Faults after which the distance between the models is measured: what was apart comes together again.
_HEALING = ("restart", "join", "resume", "heal")


class VirtualEngine:
    """One run. learner: shared by all nodes, since training is a pure function of its plan.

    doors: back doors to be measured of the mean model.
    """

    def __init__(
        self,
        scenario: Scenario,
        learner: Learner,
        shards: Sequence[Shard],
        pool: Jobs,
        journal: Journal,
        watch: Callable[[float, Event], None],
        doors: BackDoors | None = None,
    ) -> None:
        self._doors = doors
        self._scenario = scenario
        self._config = config = scenario.config
        self._learner = learner
        self._shards = shards
        self._pool = pool
        self._journal = journal
        self._watch = watch
        self._schedule = fault_schedule(scenario)
        self._devices = devices(scenario)
        self._company = Company(config.seed, scenario.adversaries, config.nodes, ADVERSARY_STREAM)
        self._edges = draw_graph(config)
        self._initial = learner.initial_weights(config.training.init_seed)
        self._members: list[Member] = []
        self._running: list[Member] = []  # up and not hung, in order of their index
        self._rounds = 0  # completed by those
        self._unfinished = 0  # of those, not done
        self._progress = 0.0  # never falls
        self._measured = 0  # evaluations of the mean model so far
        self._accuracies = Accuracies(config)
        self._wake = trio.Event()
        self._recording = True
        self.outcome = Outcome()
        self.network: SimulatedNetwork | None = None

    def run(self) -> Outcome:
        """Simulate until every node is done that runs, and nothing is to come, or a stop condition holds."""
        with plain():
            run_deterministically(self._main, clock=JumpingClock())
        self.outcome.first_job = self._pool.statistics.first_submit or 0.0
        self.outcome.weights = dict(self._weights())
        return self.outcome

    # -- the run

    async def _main(self) -> None:
        config = self._config
        self.network = network = SimulatedNetwork(
            scenario_links(self._scenario, self._devices), partial(self._record, SIMULATOR)
        )
        self._draw(self._edges)
        neighbours = topology.neighbours(self._edges, config.nodes) if self._edges else None
        evaluating = set(evaluated_nodes(config))
        for index in range(config.nodes):
            known = neighbours[index] if neighbours else bootstrap(self._scenario, index)
            self._members.append(
                self._member(index, network, self._urls(known), evaluates=index in evaluating)
            )
        async with trio.open_nursery() as nursery:
            await nursery.start(network.run)
            for member in self._members:
                if member.index not in self._schedule.absent:
                    await nursery.start(member.live)
            self._count_running()
            if config.topology.redraw is not None:
                nursery.start_soon(self._redraw, parse_duration("redraw", config.topology.redraw))
            reason = await self._until_ended(nursery)
            self.outcome.ended_at = trio.current_time()
            self.outcome.progress = self._mean_round()
            self._record(SIMULATOR, RunEnded(len(self._running), reason))
            self._recording = False
            nursery.cancel_scope.cancel()

    async def _until_ended(self, nursery: trio.Nursery) -> str:
        """Let faults strike at their times; returns why the run is over."""
        limit = self._config.stop.virtual_time
        end = math.inf if limit is None else parse_duration("virtual-time", limit)
        while True:
            self._wake = trio.Event()
            struck = self._schedule.due(trio.current_time(), self._progress)
            for fault in struck:
                await self._strike(nursery, fault)
            if trio.current_time() >= end:
                return "time"
            if self._accuracies.reached():
                return "accuracy"
            if not self._unfinished:
                if self._progress < 1.0:
                    self._progress = 1.0  # nobody trains any more: what waits for progress strikes now
                    continue
                if not self._schedule.pending:
                    return "done"
            if not struck:
                due = self._schedule.next_time()
                with trio.move_on_at(min(end, math.inf if due is None else due)):
                    await self._wake.wait()

    async def _strike(self, nursery: trio.Nursery, fault: Fault) -> None:
        nodes = tuple(
            index
            for index in fault.nodes
            if faults.applies(fault.kind, self._members[index].status, hung=self._members[index].hung)
        )
        if fault.nodes and not nodes:
            return  # too late, or twice
        training = sum(member.round < self._config.training.rounds for member in self._running)
        event = FaultStruck(fault.kind, nodes, fault.parts, fault.number, len(self._running), training)
        self._record(SIMULATOR, event)
        assert self.network is not None
        if fault.kind == "cut":
            self.network.cut(fault.number, fault.parts)
        elif fault.kind == "heal":
            self.network.heal(fault.number)
        for index in nodes:
            member = self._members[index]
            match fault.kind:
                case "crash":
                    member.crash()
                case "leave":
                    member.leave()
                case "hang":
                    member.hang()
                case "resume":
                    member.resume()
                case _:
                    await nursery.start(member.live)
        self._count_running()
        if fault.kind in _HEALING and self._config.evaluate_mode != "end":
            self._measure_consensus()

    async def _redraw(self, period: float) -> None:
        """A new graph after each period; the nodes get their new peers as from their operators."""
        config = self._config
        drawn = 0
        while True:
            await trio.sleep(period)
            drawn += 1
            self._edges = draw_graph(config, drawn)
            self._draw(self._edges)
            for member, known in zip(
                self._members, topology.neighbours(self._edges, config.nodes), strict=True
            ):
                member.set_peers(self._urls(known))

    # -- making

    def _member(
        self, index: int, network: SimulatedNetwork, peers: tuple[str, ...], *, evaluates: bool
    ) -> Member:
        device: Device = self._devices[index]
        host = network.host(index)
        host.callable = not device.nat
        return Member(
            index,
            node_config(self._scenario, index, peers, evaluates=evaluates),
            seed=self._config.seed,
            host=host,
            device=device,
            learner=self._learner,
            initial=self._initial,
            shard=self._shards[index],
            pool=self._pool,
            observe=partial(self._observe, index),
            keeps=self._schedule.restarts and self._config.devices.state == "kept",
            liar=self._company.maker(index),
        )

    def _urls(self, indices: Sequence[int]) -> tuple[str, ...]:
        assert self.network is not None
        return tuple(self.network.host(index).url for index in indices)

    # -- watching

    def _observe(self, index: int, event: Event) -> None:
        self._record(index, event)
        if not self._recording:
            return
        member = self._members[index]
        if isinstance(event, Published) and not member.done:
            self.outcome.last_merge = time.perf_counter()
        elif isinstance(event, StateChanged) and event.state == "done":
            member.done = True
            self._unfinished -= not member.hung
            if not self._unfinished:
                self._wake.set()
        elif isinstance(event, Evaluated):
            self._accuracies.of_node(index, event.accuracy)
            if self._accuracies.reached():
                self._wake.set()
        elif isinstance(event, RoundCompleted):
            member.round = event.round
            if not member.hung:
                self._rounds += 1
            self._advance()

    def _count_running(self) -> None:
        self._running = [member for member in self._members if member.status == "up" and not member.hung]
        self._rounds = sum(member.round for member in self._running)
        self._unfinished = sum(not member.done for member in self._running)
        lying = self._company.liars
        self._accuracies.running = {member.index for member in self._running if member.index not in lying}
        self._advance()

    def _mean_round(self) -> float:
        return self._rounds / len(self._running) if self._running else 0.0

    def _advance(self) -> None:
        """Note how far the nodes are: faults may be due, the mean model may have to be evaluated."""
        rounds = self._config.training.rounds
        done = self._mean_round()
        if rounds:
            self._progress = max(self._progress, min(1.0, done / rounds))
        elif self._config.stop.virtual_time:
            end = parse_duration("virtual-time", self._config.stop.virtual_time)
            self._progress = max(self._progress, min(1.0, trio.current_time() / end))
        due = self._schedule.next_progress()
        if due is not None and due <= self._progress:
            self._wake.set()
        every = self._config.evaluation.evaluate_every
        if self._config.evaluate_mode != "end" and every and done >= (self._measured + 1) * every:
            self._measured = int(done // every)
            self._evaluate_mean()

    def _weights(self) -> list[tuple[int, Vector]]:
        """Of the running honest nodes."""
        return [
            (member.index, member.node.gossip.weights)
            for member in self._running
            if member.node is not None and member.index not in self._company.liars
        ]

    def _evaluate_mean(self) -> None:
        """The mean model at this instant; the simulation stands still meanwhile."""
        weights = [vector for _, vector in self._weights()]
        if not weights:
            return
        mean = mean_model(weights)
        job = self._pool.submit_evaluate(mean, self._config.evaluation.evaluate_samples)
        result = self._pool.result(job)
        round = self._mean_round()
        self._record(SIMULATOR, evaluated(result, of="mean", round=round, final=False))
        self._record(SIMULATOR, consensus(weights, mean, round=round, final=False))
        for event in self._doors.measure(mean, of="mean", round=round, final=False) if self._doors else ():
            self._record(SIMULATOR, event)
        self._accuracies.of_mean(result.accuracy)

    def _measure_consensus(self) -> None:
        weights = [vector for _, vector in self._weights()]
        if weights:
            event = consensus(weights, mean_model(weights), round=self._mean_round(), final=False)
            self._record(SIMULATOR, event)

    def _draw(self, edges: tuple[tuple[int, int], ...]) -> None:
        if edges:
            self._record(SIMULATOR, TopologyDrawn(edges))

    def _record(self, node: int | str, event: Event) -> None:
        if self._recording:
            self._journal.write(trio.current_time(), node, event)
            if not (node in self._company.liars and isinstance(event, Evaluated)):
                self._watch(trio.current_time(), event)

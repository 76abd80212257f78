"""Who takes part in a run: each node's seeds, device, first acquaintances and configuration.

Both engines take them from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from netsim import faults, topology
from netsim.config import EVALUATED_NODES, SimConfig
from netsim.links import ScenarioLinks
from netsim.scenario import Scenario
from netsim.units import parse_amount, parse_duration, parse_rate
from p2pfl.config import NOWHERE, NodeConfig
from p2pfl.gossip import quorum
from p2pfl.gossip.identity import SECRET_SIZE, Identity
from p2pfl.gossip.messages import Vector

# What a node's child generators are for: the third word of their seed.
NODE_STREAM, DEVICE_STREAM, IDENTITY_STREAM, BOOTSTRAP_STREAM, SAMPLE_STREAM = range(5)
HARDWARE_STREAM, STRAGGLER_STREAM, FAULT_STREAM, CHURN_STREAM = range(5, 9)
TOPOLOGY_STREAM, LINK_STREAM, BASELINE_STREAM, ADVERSARY_STREAM = range(9, 13)
POISON_STREAM, LYING_BASELINE_STREAM = range(13, 15)


@dataclass(frozen=True)
class Device:
    """speed: samples trained a second, by a true clock.  jitter: of its speed.  slowdown: of a straggler.

    rate, offset: of its clock (seconds a second, seconds).  nat: it cannot be called.
    uplink, downlink: bytes a second; None: no limit of its own.
    """

    speed: float
    jitter: float
    slowdown: float = 1.0
    rate: float = 1.0
    offset: float = 0.0
    nat: bool = False
    uplink: float | None = None
    downlink: float | None = None


@dataclass
class Outcome:
    """What a run leaves beside its journal. Times are of time.perf_counter(), in seconds.

    weights: (P,) float32 of each node that survived, by its index.  ended_at: by the run's clock, in
    seconds.  progress: rounds completed by the survivors, averaged.
    """

    first_job: float = 0.0
    last_merge: float = 0.0
    ended_at: float = 0.0
    progress: float = 0.0
    weights: dict[int, Vector] = field(default_factory=dict)


def stream(seed: int, index: int, purpose: int, life: int = 0) -> np.random.Generator:
    """The generator of one node for one purpose in one life; no two share any numbers."""
    words = (seed, index, purpose, life) if life else (seed, index, purpose)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def evaluated_nodes(config: SimConfig) -> list[int]:
    """The nodes that evaluate themselves after each round."""
    if config.evaluate_mode == "nodes":
        return list(range(config.nodes))
    if config.evaluate_mode == "sample":
        chosen = stream(config.seed, 0, SAMPLE_STREAM).permutation(config.nodes)[:EVALUATED_NODES]
        return sorted(int(index) for index in chosen)
    return []


def bootstrap(scenario: Scenario, index: int) -> list[int]:
    """The other nodes that node `index` knows at the start: random ones that can be called."""
    config = scenario.config
    if scenario.nat:
        known: Sequence[int] = [i for i in range(config.nodes) if i not in scenario.nat]
    else:
        known = range(config.nodes)
    wanted = config.bootstrap_peers
    rng = stream(config.seed, index, BOOTSTRAP_STREAM)
    drawn = rng.choice(len(known), min(len(known), wanted + 1), replace=False)
    return [known[i] for i in drawn.tolist() if known[i] != index][:wanted]


def draw_graph(config: SimConfig, drawn: int = 0) -> topology.Edges:
    """Who talks to whom, after the graph has been drawn anew `drawn` times; empty without a fixed graph.

    Raises ConfigError as topology.edges does.
    """
    return topology.edges(config.topology, config.nodes, stream(config.seed, drawn, TOPOLOGY_STREAM))


def doubts_of_merging(scenario: Scenario, parameters: int) -> list[str]:
    """What the user may not have meant with a merge rule. ConfigError if a node's could never merge."""
    found: dict[str, None] = {}
    for index in range(scenario.config.nodes):
        gossip = scenario.gossip_of(index)
        quorum.check_attainable(gossip, parameters)
        if (doubt := quorum.doubt(gossip)) is not None:
            found[doubt] = None
    return list(found)


def scenario_links(scenario: Scenario, hardware: Sequence[Device]) -> ScenarioLinks:
    """What lies between the nodes, with the limits of each node's own device."""
    return ScenarioLinks(
        scenario.config.links,
        scenario.rules,
        {index: device.uplink for index, device in enumerate(hardware) if device.uplink is not None},
        {index: device.downlink for index, device in enumerate(hardware) if device.downlink is not None},
        lambda sender: stream(scenario.config.seed, sender, LINK_STREAM),
    )


def fault_schedule(scenario: Scenario) -> faults.Schedule:
    """What strikes when, from the scenario's seed."""
    seed = scenario.config.seed
    return faults.plan(scenario, stream(seed, 0, FAULT_STREAM), lambda node: stream(seed, node, CHURN_STREAM))


def devices(scenario: Scenario) -> list[Device]:
    """What each node runs on."""
    config = scenario.config
    section = config.devices
    slow = parse_amount("stragglers", section.stragglers, config.nodes)
    stragglers = {int(i) for i in stream(config.seed, 0, STRAGGLER_STREAM).permutation(config.nodes)[:slow]}
    skew = parse_duration("skew", section.skew)
    up = parse_rate("uplink", config.links.uplink) if config.links.uplink else None
    down = parse_rate("downlink", config.links.downlink) if config.links.downlink else None
    found = []
    for index in range(config.nodes):
        rng = stream(config.seed, index, HARDWARE_STREAM)
        speed, uplink, downlink, nat = section.speed_of, up, down, False
        for group in scenario.groups:
            if index in group.nodes:
                speed = group.speed or speed
                uplink, downlink = group.uplink or uplink, group.downlink or downlink
                nat = nat or group.nat
        slowdown = section.slowdown if index in stragglers else 1.0
        found.append(
            Device(
                speed=speed.draw(rng) / slowdown,
                jitter=section.speed_jitter,
                slowdown=slowdown,
                rate=1 + section.drift * float(rng.uniform(-1, 1)) if section.drift else 1.0,
                offset=skew * float(rng.uniform(-1, 1)) if skew else 0.0,
                nat=nat,
                uplink=uplink,
                downlink=downlink,
            )
        )
    return found


def node_identity(
    seed: int, index: int, born: int, life: int, *, signed: bool
) -> tuple[str, Identity | None]:
    """A node's id, and what it signs with in its present life if it does.

    born: the life in which the identity was made; in each later one that keeps it the incarnation is one
    higher.
    """
    rng = stream(seed, index, IDENTITY_STREAM, born)
    if not signed:
        return rng.bytes(16).hex(), None
    identity = Identity(rng.bytes(SECRET_SIZE), 1 + life - born)
    return identity.id, identity


def node_config(scenario: Scenario, index: int, peers: tuple[str, ...], *, evaluates: bool) -> NodeConfig:
    """The configuration of one simulated node: what a real one would be started with.

    Peers are fixed if the scenario has a graph.
    """
    config = scenario.config
    evaluation = config.evaluation if evaluates else replace(config.evaluation, evaluate_every=0)
    gossip = scenario.gossip_of(index)
    if config.topology.topology != "sampling":
        gossip = replace(gossip, fixed_peers=True, view_size=max(gossip.view_size, len(peers)))
    return NodeConfig(
        name=f"n{index}",
        advertise=NOWHERE if index in scenario.nat else None,
        peers=peers,
        seed=config.seed,
        data=config.data,
        training=scenario.training_of(index),
        gossip=gossip,
        evaluation=evaluation,
        require_signed=config.signed,
    )

"""Who takes part in a run: each node's seeds, first acquaintances and configuration.

Both engines take them from here."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from netsim.config import EVALUATED_NODES, SimConfig
from p2pfl.config import EvaluationConfig, NodeConfig
from p2pfl.gossip.messages import Vector

# What a node's child generators are for: the third word of their seed.
NODE_STREAM, DEVICE_STREAM, IDENTITY_STREAM, BOOTSTRAP_STREAM, SAMPLE_STREAM = range(5)


# Training time of a device varies by a few per cent, also so that ends do not tie.
COST_JITTER = 0.05


@dataclass(frozen=True)
class Device:
    """speed: samples trained a second.  start: virtual seconds at which it joins.  jitter: of its speed."""

    speed: float
    start: float = 0.0
    jitter: float = COST_JITTER


@dataclass
class Outcome:
    """What a run leaves beside its journal. Times are of time.perf_counter(), in seconds.

    weights: (P,) float32 of each node.  virtual_seconds: when the last node was done, by the run's clock.
    """

    first_job: float = 0.0
    last_merge: float = 0.0
    virtual_seconds: float = 0.0
    weights: list[Vector] = field(default_factory=list)


def stream(seed: int, index: int, purpose: int) -> np.random.Generator:
    """The generator of one node for one purpose; no two share any numbers."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, index, purpose))))


def evaluated_nodes(config: SimConfig) -> list[int]:
    """The nodes that evaluate themselves after each round."""
    if config.evaluate_mode == "nodes":
        return list(range(config.nodes))
    if config.evaluate_mode == "sample":
        chosen = stream(config.seed, 0, SAMPLE_STREAM).permutation(config.nodes)[:EVALUATED_NODES]
        return sorted(int(index) for index in chosen)
    return []


def bootstrap(config: SimConfig, index: int) -> list[int]:
    """The other nodes that node `index` knows at the start."""
    others = [i for i in range(config.nodes) if i != index]
    known = stream(config.seed, index, BOOTSTRAP_STREAM).permutation(len(others))
    return [others[i] for i in known[: config.bootstrap_peers]]


def node_config(
    config: SimConfig, name: str, peers: tuple[str, ...], evaluation: EvaluationConfig
) -> NodeConfig:
    """The configuration of one simulated node: what a real one would be started with."""
    return NodeConfig(
        name=name,
        peers=peers,
        seed=config.seed,
        data=config.data,
        training=config.training,
        gossip=config.gossip,
        evaluation=evaluation,
    )

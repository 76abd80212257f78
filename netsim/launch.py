"""What real nodes of a simulation are started with: configuration, its file, environment."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import netsim
from netsim import topology
from netsim.population import NODE_STREAM, bootstrap, evaluated_nodes, node_config, stream
from netsim.scenario import Scenario
from p2pfl.config import NodeConfig, flatten, keys

FRONT, BACK = 8470, 8471
"""Ports of a node's address: of its proxy, for its peers, and its own."""


def url(address: str) -> str:
    """Where peers reach the node with this address."""
    return f"http://{address}:{FRONT}"


def known_nodes(scenario: Scenario, edges: topology.Edges) -> list[list[int]]:
    """The others that each node is told of: its neighbours in the graph, if there is one."""
    if edges:
        return [list(others) for others in topology.neighbours(edges, scenario.config.nodes)]
    return [bootstrap(scenario, index) for index in range(scenario.config.nodes)]


def node_configs(
    scenario: Scenario, addresses: Sequence[str], edges: topology.Edges, absent: frozenset[int], wait: float
) -> list[NodeConfig]:
    """Of each node: the virtual engine's, and what only a process needs.

    A node trains when those that it knows are there, of those that can be, as simulated ones do; with fewer
    than 10 nodes that is when all are.  absent: nodes that come later.  wait: for the others, in seconds.
    """
    config = scenario.config
    evaluating = set(evaluated_nodes(config))
    nodes = []
    for index, known in enumerate(known_nodes(scenario, edges)):
        urls = tuple(url(addresses[peer]) for peer in known)
        present = sum(peer not in absent and peer not in scenario.nat for peer in known)
        node = node_config(scenario, index, urls, evaluates=index in evaluating)
        node = replace(
            node,
            listen=f"{addresses[index]}:{BACK}",
            advertise=node.advertise or url(addresses[index]),
            call_from=addresses[index],
            shard=f"{index}/{config.nodes}",
            seed=node_seed(config.seed, index),
            min_peers=0 if index in absent else min(present, node.gossip.view_size),
            wait=wait,
            log_level="warning",
        )
        nodes.append(node)
    return nodes


def node_seed(seed: int, index: int, life: int = 0) -> int:
    """What `--seed` a node gets."""
    return int(stream(seed, index, NODE_STREAM, life).integers(2**63))


def environment(node: NodeConfig) -> dict[str, str]:
    """Our own, on one thread, with these very packages, and without what would win over the node's file."""
    variables = dict(os.environ)
    for key in keys(NodeConfig):
        if key.env is not None and key.name.replace("_", "-") in flatten(node):
            variables.pop(key.env, None)
    packages = str(Path(netsim.__file__).parents[1])
    paths = [packages, *filter(None, [variables.get("PYTHONPATH")])]
    return variables | {"OMP_NUM_THREADS": str(node.threads), "PYTHONPATH": os.pathsep.join(paths)}


def to_toml(flat: dict[str, object]) -> str:
    """Flat keys with strings, numbers, booleans and lists of strings as TOML."""
    # JSON's literals are TOML's too, as long as characters beyond the first plane are not escaped.
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in flat.items())

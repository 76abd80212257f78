"""Who may talk to whom: fixed graphs, and the weights with which synchronous methods average over them.

A graph is a sorted tuple of undirected edges (i, j), i < j, over the nodes 0 to n - 1. networkx and numpy are
imported only where a graph is drawn.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netsim.config import TopologyConfig
from p2pfl.config import check
from p2pfl.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

Edge = tuple[int, int]
Edges = tuple[Edge, ...]

# Draws of a random graph until one is connected. At the usual threshold, p = ln(n) / n, each third one is.
DRAWS = 100


def edges(config: TopologyConfig, nodes: int, rng: np.random.Generator) -> Edges:
    """The graph of a topology, connected, except one from a file, which is taken as it is.

    sampling: has none, no edges.
    torus: rows x columns, as square as possible. Two rows have one edge up, not two; a prime number of nodes
    has no other grid than 1 x n, a ring.  star: node 0 is the hub.
    rng: drawn from by random graphs only; equal states give equal graphs. Raises ConfigError for what cannot
    be, and for a random graph that was not connected in DRAWS draws.
    """
    kind = config.topology
    if kind == "sampling":
        return ()
    if kind == "edges":
        return _read(Path(config.edge_list or ""), nodes)
    if kind in _FIXED:
        return _sorted(_FIXED[kind](nodes))
    return _connected(config, nodes, rng)


def _sorted(pairs: Iterator[Edge] | Sequence[Edge]) -> Edges:
    """Each edge once, in order, whatever order its ends were given in."""
    return tuple(sorted({(min(i, j), max(i, j)) for i, j in pairs}))


# -- graphs without chance


def _complete(nodes: int) -> Iterator[Edge]:
    yield from combinations(range(nodes), 2)


def _ring(nodes: int) -> Iterator[Edge]:
    yield from ((i, (i + 1) % nodes) for i in range(nodes) if nodes > 1)


def _torus(nodes: int) -> Iterator[Edge]:
    rows = max(side for side in range(1, math.isqrt(nodes) + 1) if nodes % side == 0)
    columns = nodes // rows
    for node in range(nodes):
        row, column = divmod(node, columns)
        for right, down in ((1, 0), (0, 1)):
            other = (row + down) % rows * columns + (column + right) % columns
            if other != node:
                yield node, other


def _star(nodes: int) -> Iterator[Edge]:
    yield from ((0, i) for i in range(1, nodes))


_FIXED: dict[str, Callable[[int], Iterator[Edge]]] = {
    "complete": _complete,
    "ring": _ring,
    "torus": _torus,
    "star": _star,
}


# -- random graphs


def _connected(config: TopologyConfig, nodes: int, rng: np.random.Generator) -> Edges:
    """The first of DRAWS random graphs that is connected."""
    draw, advice = _random(config, nodes)
    for _ in range(DRAWS):
        found = draw(int(rng.integers(2**32)))
        if is_connected(found, nodes):
            return found
    raise ConfigError(
        f"topology {config.topology}: none of {DRAWS} random graphs of {nodes} nodes was connected; {advice}"
    )


def _random(config: TopologyConfig, nodes: int) -> tuple[Callable[[int], Edges], str]:
    """A function from a seed to a graph, and what to do if such graphs are not connected."""
    import networkx

    kind, degree = config.topology, config.degree
    if kind == "erdos-renyi":
        probability = config.edge_probability
        # Below ln(n) / n large graphs have isolated nodes (Erdos and Renyi 1960).
        enough = _rounded_up(math.log(max(2, nodes)) / max(2, nodes))
        return (
            lambda seed: _taken(networkx.fast_gnp_random_graph(nodes, probability, seed=seed)),
            f"raise edge-probability from {probability:g} to {enough:g} or more, which is ln(n) / n",
        )
    check(
        degree < nodes,
        f"degree {degree} must be below nodes: in topology {kind} a node can have {nodes - 1} neighbours",
    )
    if kind == "scale-free":
        return lambda seed: _taken(networkx.barabasi_albert_graph(nodes, degree, seed=seed)), ""
    if kind == "small-world":
        check(
            degree % 2 == 0,
            f"degree {degree} must be even: topology small-world takes half of the neighbours on each side",
        )
        return (
            lambda seed: _taken(networkx.watts_strogatz_graph(nodes, degree, config.rewiring, seed=seed)),
            f"raise degree above {degree}, or lower rewiring from {config.rewiring:g}",
        )
    check(
        degree * nodes % 2 == 0,
        f"degree {degree} and nodes {nodes} are both odd: no random-regular graph has them; change one by 1",
    )
    check(degree > 1 or nodes == 2, "degree 1 makes pairs that nobody else hears of; take degree 2 or more")
    if degree == 2:
        return lambda seed: _cycle(nodes, seed), ""
    return (
        lambda seed: _taken(networkx.random_regular_graph(degree, nodes, seed=seed)),
        f"raise degree above {degree}",
    )


def _cycle(nodes: int, seed: int) -> Edges:
    """A random 2-regular graph, given that it is connected: all of them are cycles through all nodes.

    Of many nodes hardly any 2-regular graph is, so drawing again until one is would take long.
    """
    import numpy as np

    order = [int(node) for node in np.random.default_rng(seed).permutation(nodes)]
    return _sorted([(order[i - 1], node) for i, node in enumerate(order)])


def _taken(graph: Any) -> Edges:
    return _sorted(graph.edges())


def _rounded_up(value: float) -> float:
    """To two digits, up: 0.00691 -> 0.007."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.1e}")


# -- a graph from a file


def _read(path: Path, nodes: int) -> Edges:
    """Two node numbers on each line, apart by spaces or a comma; `#` begins a comment."""
    found = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"edge-list: cannot read {path}: {reason}") from error
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        where = f"edge-list {path}, line {number}"
        match = re.fullmatch(r"(\d+)(?:\s*,\s*|\s+)(\d+)", text)
        if match is None:
            raise ConfigError(f"{where}: {text[:40]!r} is not two node numbers; for example 0 1")
        i, j = int(match[1]), int(match[2])
        check(max(i, j) < nodes, f"{where}: there is no node {max(i, j)}; the last of {nodes} is {nodes - 1}")
        check(i != j, f"{where}: node {i} cannot be its own neighbour")
        found.append((i, j))
    check(bool(found) or nodes == 1, f"edge-list {path} has no edges")
    return _sorted(found)


# -- what is asked of a graph


def doubt(config: TopologyConfig, nodes: int, graph: Edges) -> str | None:
    """Of a graph that can be, what the user may not have meant."""
    kind = config.topology
    if kind == "torus" and nodes > 3 and graph == _sorted(_ring(nodes)):
        return f"topology torus: {nodes} nodes, a prime number, fill no grid but a ring"
    if kind == "edges" and not is_connected(graph, nodes):
        return f"edge-list {config.edge_list} is not connected: its parts will not learn from each other"
    return None


def neighbours(edges: Sequence[Edge], nodes: int) -> list[tuple[int, ...]]:
    """Of each node, in ascending order."""
    found: list[list[int]] = [[] for _ in range(nodes)]
    for i, j in edges:
        found[i].append(j)
        found[j].append(i)
    return [tuple(sorted(own)) for own in found]


def is_connected(edges: Sequence[Edge], nodes: int) -> bool:
    """Whether every node can be reached from node 0."""
    near = neighbours(edges, nodes)
    reached, waiting = {0}, [0]
    while waiting:
        new = [node for node in near[waiting.pop()] if node not in reached]
        reached.update(new)
        waiting += new
    return len(reached) == nodes


@dataclass(frozen=True)
class MixingRow:
    """One node's row of a mixing matrix, without its zeros. nodes: itself first, then its neighbours.

    weights: as many, not negative, their sum is 1.
    """

    nodes: tuple[int, ...]
    weights: tuple[float, ...]


def metropolis_hastings(edges: Sequence[Edge], nodes: int) -> list[MixingRow]:
    """The mixing matrix W of a graph: W_ij = 1 / (1 + max(d_i, d_j)) on its edges, W_ii = 1 - sum of W_ij.

    Symmetric, so doubly stochastic: averaging with it keeps the mean, and each node needs only the degrees
    d of its neighbours. L. Xiao, S. Boyd, S.-J. Kim, "Distributed average consensus with least-mean-square
    deviation", Journal of Parallel and Distributed Computing 67(1), 2007, pages 33-46: Metropolis-Hastings
    weights.
    """
    near = neighbours(edges, nodes)
    rows = []
    for node, others in enumerate(near):
        shares = [1 / (1 + max(len(others), len(near[other]))) for other in others]
        rows.append(MixingRow((node, *others), (1 - math.fsum(shares), *shares)))
    return rows

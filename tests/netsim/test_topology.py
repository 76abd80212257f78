"""Graphs: their shape, their determinism, what cannot be; mixing weights by property."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsim import topology
from netsim.config import TopologyConfig
from netsim.topology import Edges, doubt, edges, is_connected, metropolis_hastings, neighbours
from p2pfl.errors import ConfigError


def drawn(kind: str, nodes: int, seed: int = 0, **keys: object) -> Edges:
    config = TopologyConfig(topology=kind, **keys)  # type: ignore[arg-type]
    return edges(config, nodes, np.random.default_rng(seed))


def degrees(graph: Edges, nodes: int) -> list[int]:
    return [len(own) for own in neighbours(graph, nodes)]


RANDOM = {
    "random-regular": {"degree": 4},
    "erdos-renyi": {"edge_probability": 0.2},
    "small-world": {"degree": 4, "rewiring": 0.3},
    "scale-free": {"degree": 2},
}


@pytest.mark.parametrize(
    ("kind", "nodes", "expected"),
    [
        ("complete", 4, ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))),
        ("ring", 4, ((0, 1), (0, 3), (1, 2), (2, 3))),
        ("ring", 3, ((0, 1), (0, 2), (1, 2))),
        ("ring", 2, ((0, 1),)),
        ("star", 4, ((0, 1), (0, 2), (0, 3))),
        ("torus", 2, ((0, 1),)),
        ("torus", 3, ((0, 1), (0, 2), (1, 2))),
        ("torus", 4, ((0, 1), (0, 2), (1, 3), (2, 3))),
        ("torus", 6, ((0, 1), (0, 2), (0, 3), (1, 2), (1, 4), (2, 5), (3, 4), (3, 5), (4, 5))),
        *((kind, 1, ()) for kind in ("complete", "ring", "star", "torus")),
        ("erdos-renyi", 1, ()),
    ],
)
def test_graph_of_a_few_nodes(kind: str, nodes: int, expected: Edges) -> None:
    assert drawn(kind, nodes) == expected


@pytest.mark.parametrize(("nodes", "rows"), [(9, 3), (12, 3), (20, 4), (100, 10), (1000, 25)])
def test_torus_is_the_squarest_grid_around(nodes: int, rows: int) -> None:
    grid = networkx.grid_2d_graph(rows, nodes // rows, periodic=True)
    expected = {frozenset(r * (nodes // rows) + c for r, c in edge) for edge in grid.edges}
    assert {frozenset(edge) for edge in drawn("torus", nodes)} == expected
    assert set(degrees(drawn("torus", nodes), nodes)) == {4}


def test_torus_of_a_prime_number_is_a_ring_and_doubted() -> None:
    graph = drawn("torus", 13)
    assert graph == drawn("ring", 13)
    assert "13 nodes" in str(doubt(TopologyConfig(topology="torus"), 13, graph))


@pytest.mark.parametrize("nodes", [2, 3, 4, 6, 12])
def test_other_tori_are_not_doubted(nodes: int) -> None:
    assert doubt(TopologyConfig(topology="torus"), nodes, drawn("torus", nodes)) is None


@pytest.mark.parametrize("kind", RANDOM)
@pytest.mark.parametrize("nodes", [6, 50])
def test_random_graph_is_connected_simple_and_sorted(kind: str, nodes: int) -> None:
    keys = RANDOM[kind] | ({"edge_probability": 0.4} if kind == "erdos-renyi" else {})
    for seed in range(20):
        graph = drawn(kind, nodes, seed, **keys)
        assert list(graph) == sorted(set(graph))
        assert all(0 <= i < j < nodes for i, j in graph)
        assert is_connected(graph, nodes)
        assert networkx.is_connected(networkx.Graph(graph))


@pytest.mark.parametrize("kind", RANDOM)
def test_random_graph_depends_on_the_seed_alone(kind: str) -> None:
    assert drawn(kind, 40, 3, **RANDOM[kind]) == drawn(kind, 40, 3, **RANDOM[kind])
    assert drawn(kind, 40, 3, **RANDOM[kind]) != drawn(kind, 40, 4, **RANDOM[kind])


def test_graphs_do_not_depend_on_the_hash_seed() -> None:
    script = (
        "from tests.netsim.test_topology import RANDOM, drawn\n"
        "for kind in RANDOM: print(drawn(kind, 60, 5, **RANDOM[kind]))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path.cwd())},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(printed) == 1
    assert len(printed.pop().splitlines()) == len(RANDOM)


@pytest.mark.parametrize(("degree", "nodes"), [(1, 2), (2, 3), (2, 500), (3, 50), (4, 51), (9, 10)])
def test_every_node_of_a_random_regular_graph_has_the_degree(degree: int, nodes: int) -> None:
    assert set(degrees(drawn("random-regular", nodes, degree=degree), nodes)) == {degree}


def test_sparse_random_graph_is_drawn_again_until_it_is_connected() -> None:
    nodes, first = 30, 0
    for seed in range(30):
        graph = networkx.fast_gnp_random_graph(
            nodes, 0.11, seed=int(np.random.default_rng(seed).integers(2**32))
        )
        first += networkx.is_connected(graph)
        assert is_connected(drawn("erdos-renyi", nodes, seed, edge_probability=0.11), nodes)
    assert 0 < first < 30  # of the first draws


def test_small_world_without_rewiring_is_a_ring_of_near_neighbours() -> None:
    graph = drawn("small-world", 10, degree=4, rewiring=0.0)
    assert set(graph) == {tuple(sorted((i, (i + d) % 10))) for i in range(10) for d in (1, 2)}


def test_scale_free_graph_has_hubs_and_as_many_edges_as_it_must() -> None:
    graph = drawn("scale-free", 200, degree=3)
    assert len(graph) == 3 * (200 - 3)
    assert min(degrees(graph, 200)) == 3 or min(degrees(graph, 200)) == 1  # the first star's leaves
    assert max(degrees(graph, 200)) > 20


@pytest.mark.parametrize(
    ("kind", "nodes", "keys", "message"),
    [
        ("random-regular", 5, {"degree": 3}, "degree 3 and nodes 5 are both odd"),
        ("random-regular", 4, {"degree": 4}, "degree 4 must be below nodes"),
        ("random-regular", 1, {"degree": 4}, "degree 4 must be below nodes"),
        ("random-regular", 6, {"degree": 1}, "take degree 2 or more"),
        ("small-world", 10, {"degree": 3}, "degree 3 must be even"),
        ("small-world", 4, {"degree": 4}, "degree 4 must be below nodes"),
        ("scale-free", 3, {"degree": 3}, "degree 3 must be below nodes"),
        (
            "erdos-renyi",
            1000,
            {"edge_probability": 0.001},
            r"raise edge-probability from 0\.001 to 0\.007 or more, which is ln\(n\) / n",
        ),
        ("erdos-renyi", 2, {"edge_probability": 0.0}, r"to 0\.35 or more"),
    ],
)
def test_graph_that_cannot_be_is_one_line_that_names_the_key(
    kind: str, nodes: int, keys: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        drawn(kind, nodes, **keys)
    assert "\n" not in str(caught.value)


def test_small_world_that_falls_apart_says_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "DRAWS", 2)  # of a hundred, one or two are connected
    with pytest.raises(ConfigError, match=r"raise degree above 2, or lower rewiring from 1$"):
        drawn("small-world", 3000, degree=2, rewiring=1.0)


def test_the_probability_that_an_error_names_would_do() -> None:
    assert is_connected(drawn("erdos-renyi", 1000, edge_probability=0.007), 1000)


def test_sampling_has_no_graph() -> None:
    assert drawn("sampling", 4) == ()


# -- a graph from a file


@pytest.fixture
def listed(tmp_path: Path) -> Callable[[str, int], Edges]:
    def read(text: str, nodes: int = 4) -> Edges:
        path = tmp_path / "graph.txt"
        path.write_text(text)
        return drawn("edges", nodes, edge_list=str(path))

    return read


def test_edge_list_is_read(listed: Callable[..., Edges]) -> None:
    assert listed("# a path\n3 2\n\n0, 1  # first\n1\t2\n1,0\n2 3\n") == ((0, 1), (1, 2), (2, 3))


def test_edge_list_that_is_not_connected_is_taken_and_doubted(listed: Callable[..., Edges]) -> None:
    config = TopologyConfig(topology="edges", edge_list="graph.txt")
    assert listed("0 1\n2 3") == ((0, 1), (2, 3))
    assert "not connected" in str(doubt(config, 4, ((0, 1), (2, 3))))
    assert doubt(config, 4, ((0, 1), (1, 2), (2, 3))) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1\n1 two\n", r"graph\.txt, line 2: '1 two' is not two node numbers"),
        ("0 1 2", "line 1: '0 1 2' is not two node numbers"),
        ("0", "line 1"),
        ("-1 2", "line 1"),
        ("# nodes\n\n0 4", "line 3: there is no node 4; the last of 4 is 3"),
        ("2 2", "line 1: node 2 cannot be its own neighbour"),
        ("# nothing\n", "has no edges"),
    ],
)
def test_bad_edge_list_names_the_line(listed: Callable[..., Edges], text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        listed(text)


def test_edge_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"edge-list: cannot read .*nowhere\.txt: No such file"):
        drawn("edges", 4, edge_list=str(tmp_path / "nowhere.txt"))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not text"):
        drawn("edges", 4, edge_list=str(tmp_path / "bytes"))


# -- what is asked of a graph


def test_neighbours_are_those_of_both_ends() -> None:
    assert neighbours(((0, 1), (0, 2)), 4) == [(1, 2), (0,), (0,), ()]


@pytest.mark.parametrize(
    ("graph", "nodes", "connected"),
    [((), 1, True), ((), 2, False), (((0, 1),), 2, True), (((0, 1), (2, 3)), 4, False)],
)
def test_connectedness(graph: Edges, nodes: int, connected: bool) -> None:
    assert is_connected(graph, nodes) is connected


def dense(graph: Edges, nodes: int) -> np.ndarray:
    matrix = np.zeros((nodes, nodes))
    for i, row in enumerate(metropolis_hastings(graph, nodes)):
        matrix[i, list(row.nodes)] = row.weights
    return matrix


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Edges, int]:
    nodes = draw(st.integers(1, 12))
    pairs = [(i, j) for i in range(nodes) for j in range(i + 1, nodes)]
    chosen = draw(st.sets(st.sampled_from(pairs)) if pairs else st.just(set()))
    return tuple(sorted(chosen)), nodes


@given(graphs())
def test_mixing_weights_are_symmetric_and_doubly_stochastic(graph: tuple[Edges, int]) -> None:
    matrix = dense(*graph)
    assert (matrix == matrix.T).all()
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=0), 1, rtol=0, atol=1e-15)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=0, atol=1e-15)
    off = matrix - np.diag(np.diag(matrix))
    assert {(int(i), int(j)) for i, j in zip(*np.nonzero(off), strict=True) if i < j} == set(graph[0])


@given(graphs())
def test_mixing_weights_are_those_of_the_formula(graph: tuple[Edges, int]) -> None:
    found, nodes = graph
    matrix, degree = dense(found, nodes), degrees(found, nodes)
    for i, j in found:
        assert matrix[i, j] == 1 / (1 + max(degree[i], degree[j]))
    assert all(row.nodes[0] == i for i, row in enumerate(metropolis_hastings(found, nodes)))


@pytest.mark.parametrize("kind", ["ring", "star", "torus", "complete"])
def test_mixing_over_and_over_brings_all_nodes_to_the_mean(kind: str) -> None:
    values = np.random.default_rng(0).normal(size=12)
    mixed = np.linalg.matrix_power(dense(drawn(kind, 12), 12), 300) @ values
    np.testing.assert_allclose(mixed, values.mean(), atol=1e-9)


def test_importing_it_is_cheap() -> None:
    script = (
        f"import sys, {topology.__name__}\n"
        "print([name for name in ('networkx', 'numpy', 'torch', 'trio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

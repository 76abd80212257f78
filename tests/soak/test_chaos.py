"""Faults on real nodes: what counts as borne, and three nodes that bear a few."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from soak.chaos import Life, Record, Result, figures, measure
from soak.options import Options

OPTIONS = Options(Path("nowhere"))


def life(grown: float = 0.0, leaked: int = 0, sockets: int = 6) -> Life:
    memory = [(float(age), int(200e6 + grown * age / 200)) for age in range(0, 261, 10)]
    files = [{"file": 5 + look % 2 + leaked * look // 9, "socket": sockets} for look in range(10)]
    return Life(0.0, files, memory)


def result(own: Life | None = None, **changed: Any) -> Result:
    lives = {10: own or life(), 11: life(), 12: Life(5.0, [{"file": 5}], [(1.0, 9)])}
    record = Record(Counter(killed=1), lives, {0: ["a"], 1: ["b", "b"]}, [7])
    statuses = [{"accuracy": 0.96}, {"accuracy": 0.97}]
    return replace(Result(2, record, statuses, [lives[10], lives[11]], [], "all well\n"), **changed)


def missed(made: Result) -> list[str]:
    return [figure.name.removeprefix("chaos: ") for figure in figures(OPTIONS, made) if figure.holds is False]


def test_nodes_that_bear_it() -> None:
    assert missed(result()) == []


@pytest.mark.parametrize(
    ("made", "misses"),
    [
        (result(statuses=[{"accuracy": 0.96}]), "nodes that answer at the end"),
        (result(statuses=[{"accuracy": 0.96}, {"accuracy": None}]), "accuracy of the worst node"),
        (result(life(leaked=9)), "files opened and not closed"),
        (result(life(sockets=17)), "sockets of a node at the end"),
        (result(life(grown=60e6)), "growth of a node's memory over its life"),
        (result(left=[99]), "processes left behind"),
        (result(logs="level=error\n"), "errors in the nodes' logs"),
        (result(record=replace(result().record, ids={0: ["a", "c"]})), "nodes that came back as another"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nodes_that_do_not(made: Result, misses: str) -> None:
    assert missed(made) == [misses]


@pytest.mark.xdist_group("soak")
@pytest.mark.skipif(sys.platform != "linux", reason="real node processes need Linux")
def test_three_real_nodes_bear_a_few_faults(tmp_path: Path) -> None:
    found = {
        figure.name.removeprefix("chaos: "): figure for figure in measure(Options(tmp_path, 25.0, True, 3))
    }
    assert [figure for figure in found.values() if figure.holds is False] == []
    assert found["nodes that answer at the end"].measured == "3"

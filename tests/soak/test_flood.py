"""The flood: how its figures are reckoned, and a small one against a real node."""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from soak.flood import Result, Span, Watch, errors_in, figures, growth, images_per_second, measure, miscounted
from soak.options import Options

OPTIONS = Options(Path("nowhere"), seconds=100.0)
ACCOUNT: dict[str, Any] = {
    "exchanges": 7500, "hostile": 2500, "late": 0, "bytes_sent": 1, "bytes_received": 2,
    "answers": {"200": 7500}, "rejected": {"malformed": 2500}, "silent": {},
}  # fmt: skip


def watched(slower: float = 1.0, grown: float = 0.0, wait: float = 0.01) -> Watch:
    """Twenty seconds of quiet, sixty of flood, twenty of quiet; a round each second."""
    watch = Watch()
    spent = 0.0
    for second in range(101):
        watch.training.append((second, spent))
        spent += 0.8 * (slower if 20 <= second < 80 else 1.0)
        watch.images.append((second + 0.5, 6400))
        watch.memory.append((second, 300e6 + grown * max(0, second - 20) / 60))
        watch.waits.append((second, wait))
    return watch


def result(watch: Watch, **changed: Any) -> Result:
    made = Result(
        watch,
        Span(0, 20),
        Span(20, 80),
        Span(80, 101),
        ACCOUNT,
        {"rejected": {"malformed": 2500}},
        "all well\n",
    )
    return replace(made, **changed)


def missed(made: Result) -> list[str]:
    return [figure.name.removeprefix("flood: ") for figure in figures(OPTIONS, made) if figure.holds is False]


def test_a_node_that_bears_it() -> None:
    assert missed(result(watched())) == []


@pytest.mark.parametrize(
    ("made", "misses"),
    [
        (result(watched(slower=1.3)), "images per CPU second of training"),
        (result(watched(grown=90e6)), "growth of memory"),
        (result(watched(wait=0.3)), "p99 of hello and status"),
        (result(watched(), log="x level=error logger=y\n"), "errors in the node's log"),
        (result(watched(), status={"rejected": {}}), "refusals counted otherwise than made"),
        (result(watched(), account={**ACCOUNT, "exchanges": 1000}), "exchanges made, of 200 a second"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_node_that_does_not(made: Result, misses: str) -> None:
    assert missed(made) == [misses]


def test_images_count_by_the_time_that_the_training_thread_had() -> None:
    assert images_per_second(watched(), Span(0, 20)) == pytest.approx(6400 / 0.8, rel=0.06)
    assert math.isnan(images_per_second(Watch(), Span(0, 20)))


def test_growth_is_from_the_first_tenth_to_the_last() -> None:
    assert growth([1.0] * 10 + [50.0] + [3.0] * 10) == 2.0
    assert growth([1.0]) == 0.0


def test_what_is_counted_otherwise_is_named() -> None:
    assert miscounted(Counter(a=1, b=2), Counter(a=1, b=3, c=1)) == ["b: 2 of 3", "c: 0 of 1"]


def test_only_errors_of_a_log_count() -> None:
    assert errors_in("level=warning x\nTraceback (most recent call last):\n  level=error y\n") == [
        "Traceback (most recent call last):",
        "  level=error y",
    ]


@pytest.mark.xdist_group("soak")
@pytest.mark.skipif(sys.platform != "linux", reason="real node processes need Linux")
def test_a_small_flood_of_a_real_node(tmp_path: Path) -> None:
    found = {
        figure.name.removeprefix("flood: "): figure for figure in measure(Options(tmp_path, 12.0, True, 1))
    }
    assert [figure for figure in found.values() if figure.holds is False] == []
    hostile, refused = found["hostile blows, refusals counted"].measured.split(", ")
    assert 0 < int(hostile) <= int(refused)  # and a slow body besides
    exchanges, answers = found["honest exchanges"].measured.split(": ")
    assert answers == f"{exchanges} x 200"

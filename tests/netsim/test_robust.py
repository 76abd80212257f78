"""Robust merging in whole runs: what is refused, warned of, counted, and always the same."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from p2pfl.errors import ConfigError
from tests.netsim.whole import simulate


def test_too_few_models_are_counted_and_nobody_merges(tmp_path: Path) -> None:
    run = simulate(tmp_path, nodes=2, merge="median")
    kept = run.of("kept-own")
    assert {(line["rule"], line["models"], line["needed"]) for line in kept} == {("median", 2, 3)}
    assert run.summary["kept_own"] == len(kept) > 0
    assert not run.of("merged")
    assert simulate(tmp_path, nodes=2).summary["kept_own"] == 0


@pytest.mark.parametrize("rule", ["trimmed-mean:0.3", "multi-krum:f=1", "geometric-median"])
def test_a_run_is_the_same_to_the_byte_whatever_computes_it(rule: str, tmp_path: Path) -> None:
    one, two = (
        simulate(tmp_path / str(workers), nodes=6, merge=rule, fanout=3, rounds=3, workers=workers)
        for workers in (1, 2)
    )
    assert one.journal == two.journal
    merged = one.of("merged")
    assert {line["rule"] for line in merged} == {rule}
    assert all(sum(line["weights"]) == pytest.approx(1) for line in merged)
    assert one.summary["accuracy_mean"] > 0.3


def test_a_group_may_merge_otherwise(tmp_path: Path) -> None:
    groups = [{"name": "wary", "nodes": "0-1", "merge": "median"}]
    run = simulate(tmp_path, {"groups": groups}, nodes=6, fanout=3)
    rules = {line["node"]: line["rule"] for line in run.of("merged")}
    assert {rules[node] for node in (2, 3, 4, 5)} == {"mean"}
    assert {rules.get(node, "median") for node in (0, 1)} == {"median"}


def test_what_can_never_merge_is_refused_before_there_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^merge krum:f=40 needs 83 models"):
        simulate(tmp_path / "run", merge="krum:f=40")
    with pytest.raises(ConfigError, match=r"^merge krum:f=40 needs 83 models"):
        simulate(tmp_path / "run", {"groups": [{"name": "a", "nodes": "3", "merge": "krum:f=40"}]})
    assert not (tmp_path / "run").exists()


def test_a_fanout_that_seldom_brings_enough_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        simulate(tmp_path, nodes=5, merge="krum:f=2")
    (said,) = [record.getMessage() for record in caplog.records if "merge" in record.getMessage()]
    assert said.startswith("merge krum:f=2 needs 7 models (2f + 3) at a time, and with fanout 2 about 5 meet")
    assert said.endswith("raise fanout to 3, or give a smaller f")

"""The benchmark of many nodes, with few of them and on the data that come with scikit-learn."""

from __future__ import annotations

import pytest

from benchmarks import floor, literature, membership, merging, scale
from netsim import scenario_file
from p2pfl.merge_rule import FORMS


def test_scale_measures_what_it_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor, "images_per_second", lambda images: 1e5)
    monkeypatch.setattr(scale, "WORKLOAD", ["--dataset", "digits", "--batch-size", "16"])
    for name, nodes in (("NODES", 60), ("FEW", 30), ("MANY", 80)):  # a tenth of them when quick
        monkeypatch.setattr(scale, name, nodes)
    figures = {figure.name.removeprefix("scale: "): figure for figure in scale.measure(quick=True)}
    assert list(figures) == [
        "6 nodes, mlp, 1 rounds: images",
        "6 nodes, mlp: memory",
        "CPU of an exchange, many to few nodes",
        "8 nodes, softmax: memory",
        "8 nodes, softmax: the whole run",
    ]
    assert all(figure.value > 0 for figure in figures.values())
    targets = [figure.target for figure in figures.values()]
    assert targets == [0.4, 6.0, 1.3, 6.0, 15.0]
    speed = figures["6 nodes, mlp, 1 rounds: images"]
    assert speed.details is not None
    assert speed.value == speed.details["ours"] / 1e5
    assert speed.details["exchanges"] == 6 * (2 + 4)


def test_literature_measures_gossip_beside_plain_training(monkeypatch: pytest.MonkeyPatch) -> None:
    summaries = iter([{"images_trained": 6000, "train_seconds": s, "accuracy_mean": 0.5} for s in (3.0, 2.0)])
    given: list[tuple[str, ...]] = []

    def simulate(*flags: str) -> dict[str, float]:
        given.append(flags)
        return next(summaries)

    monkeypatch.setattr(literature, "simulate", simulate)
    monkeypatch.setattr(floor, "images_per_second", lambda images, loop: 3000.0)
    figures = list(literature.measure(quick=True))
    assert [(figure.value, figure.holds) for figure in figures] == [(1.5, False), (1.0, True)]
    for row, flags in zip(literature.ROWS, given, strict=True):
        training = scenario_file.load(f"literature/{row}", {}).config.training
        plain = literature.PLAIN
        assert flags[0] == f"literature/{row}"
        assert (training.model, training.lr) == (plain.model, plain.learning_rate)
        assert (training.momentum, training.batch_size) == (plain.momentum, floor.BATCH)


def test_membership_measures_what_it_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NODES", "FEW", "MANY"):
        monkeypatch.setattr(membership, f"QUICK_{name}", 8)
    monkeypatch.setattr(membership, "QUICK_VIEW", 6)
    monkeypatch.setattr(membership, "QUICK_SPAN", 20.0)
    monkeypatch.setattr(membership, "EVENLY", 10.0)
    figures = list(membership.measure(quick=True))
    assert [figure.target for figure in figures] == [10, 10, 0, 20, 1.2, 1]
    assert all(figure.holds for figure in figures), figures
    assert min(figures[0].value, figures[3].value) > 1  # nobody knows at once


def test_merging_measures_every_rule_on_one_thread() -> None:
    figures = {figure.name.partition(": ")[2]: figure for figure in merging.measure(quick=True)}
    assert list(figures) == [*merging.TARGETS, merging.NEW_MEMORY]
    assert {name.partition(":")[0] for name in merging.TARGETS} == FORMS.keys() - {"age", "samples"}
    assert [figure.target for figure in figures.values()][:4] == [1.5, 12, 12, 4]
    assert all(figure.value > 0 for figure in figures.values())

"""What the pictures show, and that they can be drawn for small and large runs."""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from netsim import report
from netsim.journal import SIMULATOR, Journal, ModelEvaluated, RunStarted
from p2pfl.errors import SetupError, StorageError
from p2pfl.events import Evaluated, Started, StateChanged

CONFIG = {"nodes": 3, "dataset": "digits", "model": "mlp", "partition": "iid"}


def started(labels: Sequence[int]) -> Started:
    return Started("id", "n", "url", "digits", "mlp", "f" * 32, 7, sum(labels), tuple(labels), 0)


def evaluated(round: int, accuracy: float) -> Evaluated:
    return Evaluated(round, 1.0, 10, 0.5, accuracy, accuracy, ())


def model_evaluated(of: str, round: float, accuracy: float, *, final: bool) -> ModelEvaluated:
    return ModelEvaluated(of, round, final, 10, 0.5, accuracy, accuracy, ())


def write_run(path: Path, nodes: int, rounds: int, classes: int, evaluate: str = "nodes") -> Path:
    """Node i's accuracy after round r is 0.5 + r / 100 + i / 10000, and 0.9 + i / 10000 at the end."""
    with Journal(path) as journal:
        journal.write(
            0, SIMULATOR, RunStarted({**CONFIG, "nodes": nodes}, tuple(f"class {i}" for i in range(classes)))
        )
        for node in range(nodes):
            journal.write(0, node, started([node % 7 + i for i in range(classes)]))
            journal.write(0, node, StateChanged("training"))
        for round in range(1, rounds + 1):
            if evaluate == "nodes":
                for node in range(nodes):
                    journal.write(round, node, evaluated(round, 0.5 + round / 100 + node / 10000))
            if evaluate != "end":
                journal.write(
                    round, SIMULATOR, model_evaluated("mean", round, 0.6 + round / 100, final=False)
                )
        for node in range(nodes):
            journal.write(rounds, node, StateChanged("settling"))
            if evaluate == "nodes":
                journal.write(rounds + 1, node, evaluated(rounds, 0.8))
        for node in range(nodes):
            if evaluate != "mean":
                final = model_evaluated("node", rounds, 0.9 + node / 10000, final=True)
                journal.write(rounds + 1, node, final)
        journal.write(rounds + 1, SIMULATOR, model_evaluated("mean", rounds, 0.95, final=True))
    return path


def size(png: Path) -> tuple[int, int]:
    head = png.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", head[16:24])
    return width, height


@pytest.mark.parametrize(
    ("nodes", "classes", "evaluate"),
    [(2, 2, "nodes"), (20, 10, "mean"), (20, 10, "end"), (300, 100, "nodes")],
)
def test_draws_two_pictures(tmp_path: Path, nodes: int, classes: int, evaluate: str) -> None:
    journal = write_run(tmp_path / "journal.jsonl", nodes, 3, classes, evaluate)
    paths = report.draw(journal, tmp_path)
    assert paths == [tmp_path / "curves.png", tmp_path / "labels.png"]
    for path in paths:
        width, height = size(path)
        assert 600 < width < 2600
        assert 300 < height < 2600


def test_reads_curves_by_round_and_keeps_the_end_apart(tmp_path: Path) -> None:
    story = report.read(write_run(tmp_path / "journal.jsonl", 3, 2, 4))
    assert story.curves == {i: {1: 0.51 + i / 10000, 2: 0.52 + i / 10000} for i in range(3)}
    assert story.final == {i: 0.9 + i / 10000 for i in range(3)}
    assert story.mean == [(1, 0.61), (2, 0.62)]
    assert story.mean_final == 0.95
    np.testing.assert_allclose(story.mean_of_nodes, [(1, 0.5101), (2, 0.5201)])


def test_without_the_simulators_final_evaluations_the_nodes_own_last_ones_count(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.write(0, 0, StateChanged("training"))
        journal.write(1, 0, evaluated(1, 0.5))
        journal.write(2, 0, StateChanged("settling"))
        journal.write(3, 0, evaluated(1, 0.6))
        journal.write(3, 0, StateChanged("done"))
        journal.write(4, 0, evaluated(1, 0.7))
    story = report.read(tmp_path / "journal.jsonl")
    assert story.curves == {0: {1: 0.5}}
    assert story.final == {0: 0.7}


def test_the_legend_gives_the_final_values(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = report.curves(report.read(write_run(tmp_path / "journal.jsonl", 11, 2, 4)))
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "11 nodes  0.900 to 0.901",
        "mean of nodes  0.900",
        "mean model  0.950",
    ]


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ([0.1, 0.97], (0.05, 1.01)),
        ([0.962, 0.964], (0.9, 1.01)),
        ([0.5], (0.45, 0.55)),
        ([0.0, 1.0], (0.0, 1.01)),
    ],
)
def test_accuracy_range(values: list[float], limits: tuple[float, float]) -> None:
    assert report.accuracy_range(values) == pytest.approx(limits)


def test_label_counts_pads_what_is_missing_and_shortens_names() -> None:
    counts, names = report.label_counts({0: [1, 2], 2: [3, 4, 5]}, ["a", "a name that is far too long"])
    np.testing.assert_array_equal(counts, [[1, 0, 3], [2, 0, 4], [0, 0, 5]])
    assert names == ["a", "a name that is far …", "2"]


def test_an_empty_run_still_gives_pictures(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.write(0, SIMULATOR, RunStarted(CONFIG, ()))
    assert len(report.draw(tmp_path / "journal.jsonl", tmp_path)) == 2


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = write_run(tmp_path / "journal.jsonl", 2, 1, 2)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SetupError, match=r"install p2pfl-gossip\[sim\]"):
        report.draw(journal, tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    journal = write_run(tmp_path / "journal.jsonl", 2, 1, 2)
    with pytest.raises(StorageError, match="missing"):
        report.draw(journal, tmp_path / "missing")

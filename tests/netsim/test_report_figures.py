"""What the report says of a run of three nodes whose journal is written by hand: lines, pictures, tables."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from netsim.journal import (
    SIMULATOR,
    BaselineEvaluated,
    ConsensusMeasured,
    FaultStruck,
    Journal,
    MessageLost,
    ModelEvaluated,
    RunEnded,
    RunStarted,
    TopologyDrawn,
)
from netsim.report import curves, labels, reading, sections, series, tables, timeline, topology, traffic
from netsim.report import figures as figures_of
from netsim.report.story import Story
from netsim.report.theme import LIGHT
from p2pfl.events import Evaluated, Event, Exchanged, Rejected, Served, Started, StateChanged

CLASSES = ("cat", "dog")
Entry = tuple[float, int | str, Event]


def url(node: int) -> str:
    return f"http://10.0.0.{node}:1"


def started(node: int, counts: tuple[int, int]) -> Started:
    return Started(f"id{node}", f"n{node}", url(node), "pets", "mlp", "0", 9, sum(counts), counts, 0)


def exchanged(peer: int, sent: int, outcome: str = "ok") -> Exchanged:
    return Exchanged("push-pull", f"id{peer}", url(peer), sent, 0, outcome == "ok", 0.1, outcome)


def evaluated(round: int, accuracy: float, loss: float) -> Evaluated:
    return Evaluated(round, 10.0, 20, loss, accuracy, accuracy, ((5, 5), (5, 5)))


def model(of: str, round: float, accuracy: float, wrong: int, *, final: bool) -> ModelEvaluated:
    return ModelEvaluated(
        of, round, final, 20, 1 - accuracy, accuracy, accuracy, ((10, 0), (wrong, 10 - wrong))
    )


def struck(fault: str, nodes: tuple[int, ...] = (), parts: tuple[tuple[int, ...], ...] = ()) -> FaultStruck:
    return FaultStruck(fault, nodes, parts, 1, 3, 2)


def isolated(round: int, accuracy: float) -> BaselineEvaluated:
    return BaselineEvaluated(
        "isolated", round, 3, 30 * round, 0, 0.9, accuracy, accuracy - 0.1, accuracy + 0.1, accuracy, ((1,),)
    )


def fedavg(round: int, accuracy: float) -> BaselineEvaluated:
    return BaselineEvaluated(
        "fedavg", round, 1, 30 * round, 600 * round, 0.4, accuracy, accuracy, accuracy, accuracy, ((1,),)
    )


# Node 2 crashes at 4 s and is not there at the end; the network is cut from 2 s to 3 s.
LINES: list[Entry] = [
    (0.0, 0, started(0, (8, 2))),
    (0.0, 1, started(1, (0, 5))),
    (0.0, 2, started(2, (3, 3))),
    *((0.0, node, StateChanged("training")) for node in range(3)),
    (0.0, SIMULATOR, TopologyDrawn(((0, 1), (1, 2)))),
    (1.0, 0, exchanged(1, 100)),
    (1.0, 1, Served("push-pull", "id0", 100, 50)),
    (1.5, 0, evaluated(1, 0.5, 1.0)),
    (2.0, SIMULATOR, struck("cut", (), ((0,), (1, 2)))),
    (2.5, 1, evaluated(1, 0.7, 0.6)),
    (2.5, 1, exchanged(0, 70, "timed-out")),
    (2.5, SIMULATOR, MessageLost(1, 0, "request", 70, "cut")),
    (2.6, SIMULATOR, model("mean", 1.0, 0.6, 4, final=False)),
    (2.6, SIMULATOR, ConsensusMeasured(2.0, 3, 1.0, False)),
    (3.0, SIMULATOR, struck("heal")),
    (3.5, 2, evaluated(1, 0.3, math.nan)),
    (4.0, SIMULATOR, struck("crash", (2,))),
    (5.0, 0, evaluated(2, 0.8, 0.4)),
    (5.0, 0, StateChanged("settling")),
    (5.5, 1, evaluated(2, 0.6, 0.5)),
    (5.5, 1, StateChanged("settling")),
    (6.0, 0, exchanged(1, 200)),
    (6.5, 1, Rejected("10.0.0.0", "id0", "checksum-mismatch", "")),
    (7.0, 0, StateChanged("done")),
    (7.5, 1, StateChanged("done")),
    (8.0, SIMULATOR, RunEnded(2, "done")),
    (8.0, 0, model("node", 2.0, 0.9, 1, final=True)),
    (8.0, 1, model("node", 2.0, 0.8, 3, final=True)),
    (8.0, SIMULATOR, model("mean", 2.0, 0.95, 0, final=True)),
    (8.0, SIMULATOR, ConsensusMeasured(0.5, 2, 2.0, True)),
    *((2.0 * round, SIMULATOR, isolated(round, 0.4 + 0.1 * round)) for round in (1, 2)),
    *((12.0 * round, SIMULATOR, fedavg(round, 0.9)) for round in (1, 2)),
]
SENT = 100 + 50 + 70 + 200


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "journal.jsonl"
    config = {"nodes": 3, "rounds": 2, "seed": 1, "engine": "virtual", "dataset": "pets", "topology": "edges"}
    with Journal(path) as written:
        written.write(0, SIMULATOR, RunStarted(config, CLASSES))
        for time, node, event in LINES:
            written.write(time, node, event)
    return path


@pytest.fixture(scope="module")
def story(journal: Path) -> Story:
    return reading.read(journal)


def line(story: Story, name: str, measure: series.Measure, across: series.Across) -> series.Line:
    (found,) = (line for line in series.lines(story, measure, across) if line.name == name)
    return found


@pytest.mark.parametrize(
    ("across", "xs"), [("round", [1, 2, 2.5]), ("time", [1.5, 5, 8]), ("bytes", [150, 220, SENT])]
)
def test_a_nodes_line_ends_with_the_model_after_the_last_exchanges(
    across: series.Across, xs: list[float], story: Story
) -> None:
    found = line(story, "0", "accuracy", across)
    np.testing.assert_allclose(found.xs, xs)
    np.testing.assert_allclose(found.ys, [0.5, 0.8, 0.9])


def test_the_mean_over_nodes_is_that_of_those_that_run(story: Story) -> None:
    found = line(story, "mean of nodes", "accuracy", "time")
    np.testing.assert_allclose(found.xs, [1.5, 2.5, 3.5, 5.0, 5.5, 8.0])
    np.testing.assert_allclose(found.ys, [0.5, 0.6, 0.5, 0.75, 0.7, 0.85])  # node 2 is gone from 4 s on
    by_round = line(story, "mean of nodes", "accuracy", "round")
    np.testing.assert_allclose(by_round.ys, [0.5, 0.7, 0.85])


def test_a_loss_that_is_no_number_is_left_out_of_the_mean(story: Story) -> None:
    np.testing.assert_allclose(line(story, "mean of nodes", "loss", "round").ys[0], 0.8)


def test_the_mean_model_is_followed_to_its_end(story: Story) -> None:
    np.testing.assert_allclose(line(story, "mean model", "accuracy", "bytes").xs, [220, SENT])
    np.testing.assert_allclose(line(story, "mean model", "accuracy", "round").ys, [0.6, 0.95])


def test_consensus_distance_over_all_three(story: Story) -> None:
    for across, xs in (("round", [1, 2.5]), ("time", [2.6, 8]), ("bytes", [220, SENT])):
        found = line(story, "consensus distance", "distance", across)  # type: ignore[arg-type]
        np.testing.assert_allclose(found.xs, xs)
        np.testing.assert_allclose(found.ys, [2.0, 0.5])


def test_baselines_have_their_own_time_and_bytes(story: Story) -> None:
    np.testing.assert_allclose(line(story, "fedavg", "accuracy", "bytes").xs, [600, 1200])
    alone = line(story, "isolated", "accuracy", "time")
    assert alone.low is not None
    np.testing.assert_allclose(alone.low, [0.4, 0.5])
    window = series.frame(story, "time")
    assert window.beyond == ("fedavg",)  # it ends at 24 s, three times as late
    assert window.last == pytest.approx(1.3 * 8)


def test_the_legend_tells_with_what_each_line_ends(story: Story) -> None:
    entries = {entry.name: entry for entry in curves.legend(LIGHT, story)}
    assert {name: entry.value for name, entry in entries.items()} == {
        "3 nodes": "0.800 to 0.900",
        "mean model": "0.950",
        "mean of nodes": "0.850",
        "isolated": "0.600",
        "fedavg": "0.900",
    }
    assert entries["3 nodes"].stroke.colour == LIGHT.node
    assert entries["mean model"].stroke.colour == LIGHT.collective
    assert entries["isolated"].stroke.colour == LIGHT.isolated
    assert [name for name, entry in entries.items() if entry.stroke.dashes] == ["mean of nodes", "fedavg"]


def test_the_worst_node_is_the_worst_of_those_that_are_left(story: Story) -> None:
    assert story.worst == 1
    assert story.worst_confusion is not None
    assert story.worst_confusion.tolist() == [[10, 0], [3, 7]]
    assert story.mean_confusion is not None
    assert story.mean_confusion.tolist() == [[10, 0], [0, 10]]


def test_label_counts_by_class_and_node(story: Story) -> None:
    counts, names = labels.label_counts(story.labels, story.classes)
    assert counts.tolist() == [[8, 0, 3], [2, 5, 3]]
    assert names == ["cat", "dog"]


def test_traffic_counts_requests_and_answers_from_sender_to_receiver(story: Story) -> None:
    assert story.links.bytes.tolist() == [[0, 300, 0], [120, 0, 0], [0, 0, 0]]
    assert story.bytes == SENT
    assert traffic.described(story).endswith("the busiest is from 0 to 1: 300 B")


def test_the_graph_is_the_one_drawn_with_accuracies_of_the_end(story: Story) -> None:
    assert topology.edges(story).tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    np.testing.assert_equal(topology.accuracies(story), [0.9, 0.8, np.nan])
    assert "empty: not evaluated at the end" in topology.about(story)


def test_what_each_node_did_when(story: Story) -> None:
    assert [tuple(spell) for spell in story.lives.spells(0, 8.0)] == [
        (0.0, 5.0, "training"),
        (5.0, 7.0, "settling"),
        (7.0, 8.0, "done"),
    ]
    assert [tuple(spell) for spell in story.lives.spells(2, 8.0)] == [
        (0.0, 4.0, "training"),
        (4.0, 8.0, "down"),
    ]
    (cut,) = story.lives.cuts
    assert (cut.start, cut.end, cut.parts) == (2.0, 3.0, ((0,), (1, 2)))
    assert timeline.described(story) == "2 nodes: no fault; 1 node: crashed; 1 cut of the network"


def test_tables_of_what_went_wrong(story: Story) -> None:
    faults, lost, refused = tables.faults(story), tables.lost(story), tables.refused(story)
    assert faults is not None
    assert [row[:3] for row in faults.rows] == [
        ("cut", "1", "parts of 1 | 2"),
        ("heal", "1", "-"),
        ("crash", "1", "1 node"),
    ]
    assert {row[4] for row in faults.rows} == {"67 %"}
    assert lost is not None
    assert lost.rows == (("the network was cut", "request", "1", "70 B"),)
    assert refused is not None
    assert refused.rows == (("refused", "checksum-mismatch", "1"), ("failed request", "timed-out", "1"))


def test_the_table_of_figures_sets_the_run_beside_its_baselines(journal: Path, story: Story) -> None:
    table = tables.beside(story, figures_of(journal))
    assert table is not None
    assert [row[:3] for row in table.rows] == [
        ("gossip (this run)", "0.850", "0.800 to 0.900"),
        ("isolated", "0.600", "0.500 to 0.700"),
        ("fedavg", "0.900", "-"),
    ]
    assert [row[5] for row in table.rows] == ["420 B", "0 B", "1.20 kB"]
    assert [row[6] for row in table.rows] == ["8.00 s", "4.00 s", "24.0 s"]


def test_the_first_figures_of_the_page(journal: Path, story: Story) -> None:
    page = sections.page(story, figures_of(journal))
    assert page.tiles[:4] == (
        ("Mean model", "0.950", "accuracy"),
        ("Nodes, on average", "0.850", "0.800 to 0.900"),
        ("Consensus distance", "0.5", "at the end"),
        ("Nodes at the end", "2", "of 3"),
    )


def test_of_very_many_lines_some_are_drawn_among_them_the_best_and_the_worst() -> None:
    count = 1000
    ends = np.random.default_rng(0).permutation(count)
    many = [series.Line("node", str(i), np.zeros(2), np.array([0.0, end])) for i, end in enumerate(ends)]
    drawn = [float(line.ys[-1]) for line in curves.spread(many)]
    assert len(drawn) == curves.MOST_LINES
    assert {min(drawn), max(drawn)} == {0.0, count - 1.0}
    assert np.diff(sorted(drawn)).max() <= 4  # evenly: about every third
    assert curves.spread(many[:10]) == many[:10]


def test_a_line_over_rounds_never_steps_back(tmp_path: Path) -> None:
    """The average round of those that run falls when one of the first has crashed."""
    path = tmp_path / "journal.jsonl"
    with Journal(path) as written:
        written.write(0, SIMULATOR, RunStarted({"nodes": 2, "rounds": 4}, CLASSES))
        for time, round in ((1, 2.0), (2, 3.5), (3, 3.0), (4, 4.0)):
            written.write(time, SIMULATOR, ConsensusMeasured(1.0, 2, round, False))
    xs = series.lines(reading.read(path), "distance", "round")[0].xs
    assert xs.tolist() == [2.0, 3.5, 3.5, 4.0]


def test_lines_of_long_runs_stay_bounded(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as written:
        written.write(0, SIMULATOR, RunStarted({"nodes": 1, "rounds": 9999}, CLASSES))
        for round in range(1, 5001):
            written.write(round, 0, evaluated(round, 0.5, 0.5))
    points = reading.read(path).curves[0]
    assert len(points) <= reading.LONGEST_LINE
    assert (points[0].round, points[-1].round) == (1, 5000)

"""The report of a run with adversaries: who they are, and that all figures are those of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.colors import to_hex

from netsim.journal import SIMULATOR, BackDoorMeasured, Journal, ModelEvaluated, RunEnded, RunStarted
from netsim.report import curves, figures, labels, look, reading, sections, tables, timeline
from netsim.report.story import Story
from netsim.report.theme import LIGHT
from p2pfl.events import Evaluated, Event, Started, StateChanged
from tests.netsim.stories import Tale

CLASSES = ("cat", "dog")
ROWS = [
    {"nodes": [1, 2], "attack": "scaled", "factor": 3.0, "from": 2, "until": 5},
    {"nodes": [2], "attack": "back-door", "target": 1},
]


def model(of: str, accuracy: float) -> ModelEvaluated:
    return ModelEvaluated(of, 2.0, True, 20, 0.5, accuracy, accuracy, ((10, 0), (0, 10)))


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal.jsonl"
    config = {"nodes": 4, "rounds": 2, "seed": 1, "engine": "virtual", "adversaries": ROWS}
    events: list[tuple[int | str, Event]] = [
        (SIMULATOR, RunStarted(config, CLASSES)),
        *(
            (node, Started(f"id{node}", f"n{node}", f"u{node}", "pets", "m", "0", 9, 10, (5, 5), 0))
            for node in range(4)
        ),
        *((node, StateChanged("training")) for node in range(4)),
        *(
            (node, Evaluated(1, 10.0, 20, 0.5, accuracy, accuracy, ((5, 5), (5, 5))))
            for node, accuracy in enumerate((0.8, 0.1, 0.2, 0.6))
        ),
        (SIMULATOR, RunEnded(4, "done")),
        (0, model("node", 0.9)),
        (3, model("node", 0.7)),
        (SIMULATOR, model("mean", 0.85)),
        (0, BackDoorMeasured("node", 2.0, True, 1, 10, 0.5)),
        (3, BackDoorMeasured("node", 2.0, True, 1, 10, 0.7)),
        (SIMULATOR, BackDoorMeasured("mean", 2.0, True, 1, 10, 0.9)),
    ]
    with Journal(path) as written:
        for time, (node, event) in enumerate(events):
            written.write(float(time), node, event)
    return path


@pytest.fixture
def story(journal: Path) -> Story:
    return reading.read(journal)


def test_the_table_of_adversaries(story: Story) -> None:
    table = tables.adversaries(story)
    assert table is not None
    assert table.rows == (
        ("scaled", "1-2", "2 to 5", "factor 3.0"),
        ("back-door", "2", "1 to the end", "target 1"),
    )


def test_figures_are_the_honest_nodes(journal: Path, story: Story) -> None:
    found = figures(journal)
    assert found["adversaries"] == {"scaled": "1-2", "back-door": "2"}
    assert found["accuracy_mean"] == pytest.approx(0.8)
    assert found["back_door_mean"] == pytest.approx(0.6)
    assert found["back_door_of_mean_model"] == pytest.approx(0.9)
    assert tables.figure_text("adversaries", found["adversaries"]) == "scaled: 1-2; back-door: 2"
    assert tables.figure_text("adversaries", {}) == "-"
    mean = [point.accuracy for point in story.running_mean]
    assert mean == pytest.approx([0.8, 0.7])


def test_the_page_says_whose_figures_they_are(journal: Path, story: Story) -> None:
    page = sections.page(story, figures(journal))
    assert ("Back door to dog", "0.900", "of pictures with the trigger") in page.tiles
    results = page.sections[0]
    assert results.note == "Accuracies, means and distances are those of the 2 honest nodes."
    assert "Adversaries" in [table.caption for table in results.tables]
    names = [entry.name for entry in curves.legend(LIGHT, story)]
    assert names[:2] == ["2 honest nodes", "2 adversaries"]


def test_pictures_mark_adversaries(tmp_path: Path) -> None:
    tale = Tale(adversaries=(1, 4))
    told = reading.read(tale.write(tmp_path / "journal.jsonl"))
    slide = look.Look(LIGHT, look.SLIDE_WIDTH, look.SLIDE_FONT, slide=True)
    for axis in (labels.picture(slide, told).axes[0].xaxis, timeline.picture(slide, told).axes[0].yaxis):
        marked = {
            label.get_text()
            for label in axis.get_ticklabels()
            if to_hex(label.get_color()) == LIGHT.adversary and label.get_fontweight() == "bold"
        }
        assert marked == {"1", "4"}

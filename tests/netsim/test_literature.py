"""Published results: every row can be run, is given no more training than it says, and is read back right."""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from netsim import scenario_file
from netsim.literature import budget, figures, leaks, page, running
from netsim.literature.results import Found, Judged, lines, spread
from netsim.literature.results import notes as notes_of
from netsim.literature.rows import LEAKS, ROWS, Point, Row, chosen
from netsim.literature.running import folder_of, run_row, scenario_of
from netsim.report import look
from netsim.scenario import Scenario
from p2pfl.config import DataConfig
from p2pfl.errors import ConfigError
from p2pfl.learning.data import load
from p2pfl.learning.dataset import Dataset
from p2pfl.learning.partition import shards
from tests.netsim.stories import Tale

OUT = Path("nowhere")
DATA = os.environ.get("P2PFL_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="set P2PFL_DATA to a folder with MNIST and the others")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_row_has_its_scenario_with_the_authors_method(row: Row) -> None:
    config = scenario_of(row, row.scenario, 2, OUT).config
    assert row.method in config.baselines.baselines
    assert (config.seed, config.data.partition_seed, config.training.init_seed) == (2, 2, 2)
    rounds = config.baselines.training(config.training).rounds
    assert all(0 <= point.round <= rounds for point in row.points)
    assert row.points[-1].round in (0, rounds), "gossip is judged after as much as their last point"


def test_every_scenario_of_the_literature_has_a_row() -> None:
    made = {name.removeprefix("literature/") for name in scenario_file.ready() if "/" in name}
    assert made == {name for row in ROWS for name in row.scenarios}


@functools.cache
def loaded(data: DataConfig) -> Dataset:
    return load(data)


@needs_data
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_gossip_learns_no_longer_than_the_authors_method(row: Row) -> None:
    with_theirs, with_ours = (scenario_of(row, row.scenarios[place], 1, OUT) for place in (0, -1))
    data = replace(with_theirs.config.data, data_dir=DATA)
    files = replace(data, partition="iid", partition_seed=0)  # the same for many rows
    parts = shards(loaded(files), data, with_theirs.config.nodes)
    ours, theirs = budget.ours(with_ours, parts), budget.theirs(with_theirs, parts, row.method)
    assert ours <= 1.01 * theirs


@pytest.mark.parametrize("row", [row for row in ROWS if row.gossip], ids=lambda row: row.id)
def test_gossip_in_a_scenario_of_its_own_has_the_same_data_and_training(row: Row) -> None:
    theirs, ours = (scenario_of(row, name, 1, OUT) for name in row.scenarios)
    assert (theirs.config.data, theirs.config.training) == (ours.config.data, ours.config.training)
    assert theirs.adversaries == ours.adversaries
    assert not ours.config.baselines.baselines


def kept(row: Row, folder: Path, section: str, line: str) -> None:
    """A run of the row's first seed that has ended, with one more line in a section of its scenario."""
    folder = folder_of(row.scenario, 1, folder)
    folder.mkdir(parents=True)
    text = scenario_file.to_toml(scenario_of(row, row.scenario, 1, OUT, data_dir="where it was"))
    (folder / "scenario.toml").write_text(text.replace(f"[{section}]\n", f"[{section}]\n{line}\n"))
    (folder / "summary.json").write_text("{}")


@pytest.mark.parametrize(
    ("section", "line", "again"),
    [
        ("stop", "", 0),
        ("baselines", 'server-merge = "samples"', 0),  # of a version that had this key, at its default
        ("baselines", 'server-merge = "median"', 1),
        ("stop", 'virtual-time = "60s"', 1),
    ],
)
def test_a_kept_run_counts_if_its_experiment_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str, line: str, again: int
) -> None:
    row = replace(chosen("D3-0-mean")[0], scenario="D2-40-complete")  # without baselines
    kept(row, tmp_path, section, line)
    ran: list[Scenario] = []
    monkeypatch.setattr(running, "run", lambda scenario, draw: ran.append(scenario))
    run_row(row, tmp_path, data_dir="elsewhere")
    assert len(ran) == again


def test_rows_are_chosen_by_part_by_id_or_all() -> None:
    assert chosen("all") == (*ROWS, *LEAKS)
    assert chosen("D4") == LEAKS
    assert {row.id for row in chosen("B")} == {"B1", "B2", "B3"}
    assert [row.id for row in chosen("A2")] == ["A2"]
    with pytest.raises(ConfigError, match=r"no row 'A9'; did you mean 'A[0-4]'"):
        chosen("A9")
    with pytest.raises(ConfigError, match="no row 'nonsense'; there are A, B, C, D, all"):
        chosen("nonsense")


def test_one_line_for_each_published_point() -> None:
    row = Row("A7", "so", "A7", "cyclic", (Point("20", 1, "1 tour"), Point("30", 2, "2 tours")), least=90)
    found = [
        Found({1: Judged(0.2, 0.2, 100), 2: Judged(0.3, 0.3, 200)}, Judged(0.9, 0.9, 600)),
        Found({1: Judged(0.3, 0.3, 100), 2: Judged(0.5, 0.5, 200)}, Judged(0.92, 0.9, 600)),
    ]
    assert lines(row, found) == [
        "| A7 | so, 1 tour | 20 | 25.00 (20.00-30.00) |  |  | 100; 600 |",
        "| A7 | so, 2 tours | 30 | 40.00 (30.00-50.00) | 91.00 (90.00-92.00) | 90 or more | 200; 600 |",
    ]
    assert spread([]) == "-"
    assert spread([0.5]) == "50.00"


@needs_data
def test_a_quick_pass_is_kept_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["sim", "reproduce", "B1", "--quick", "--out", str(tmp_path), "--data-dir", str(DATA)]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    monkeypatch.setattr(running, "run", None)
    second = CliRunner().invoke(app, command)
    assert second.stdout == first.stdout
    (row,) = [line for line in first.stdout.splitlines() if line.startswith("| B1 |")]
    assert "| 93-98 |" in row


FOUND = Found(
    {3: Judged(0.6, 0.5, 10, ((8, 2), (5, 5)))},
    Judged(0.9, 0.9, 30),
    {"isolated": Judged(0.1, 0.1, 30), "centralised": Judged(0.92, 0.9, 30)},
)


def test_what_the_authors_drew_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(look, "SLIDE_DPI", 40)  # enough to see that they can be drawn
    journal = Tale(nodes=3, rounds=2, faults=False, config={"local-steps": 5}).write(tmp_path / "journal")
    for name in {row.scenario for row in ROWS}:
        folder = folder_of(name, 1, tmp_path)
        folder.mkdir(parents=True)
        (folder / "journal.jsonl").symlink_to(journal)
    made = figures.write({row: [FOUND] for row in ROWS}, tmp_path)
    names = ["A-balanced", "A-confusion", "A-labels", "C-dial", "C-losses", "D-liars", "D-steps"]
    assert [str(path.relative_to(tmp_path)) for path in made] == [f"images/{name}.png" for name in names]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)
    assert set(names) == set(page.CAPTIONS)
    assert figures.write({ROWS[0]: [FOUND]}, tmp_path) == []


LEAKED = {
    LEAKS[0]: {
        "pictures": 10,
        "labels_recovered": 1.0,
        "psnr_min": 69.3,
        "psnr_median": 77.6,
        "cpu_seconds": 9.0,
    },
    LEAKS[1]: {
        "pictures": 10,
        "labels_recovered": 0.9,
        "psnr_min": 30.9,
        "psnr_median": 36.2,
        "cpu_seconds": 9.0,
    },
}


def test_what_was_asked_stands_beside_what_came_out() -> None:
    worse = replace(FOUND, ours=Judged(0.87, 0.87, 30))
    found = {
        row: [FOUND, FOUND if "D2-0" in row.id else worse] for row in chosen("D2") if isinstance(row, Row)
    }
    found |= {row: [worse] for row in chosen("D1-50") if isinstance(row, Row)}
    assert list(page.verdicts(found, LEAKED)) == [
        "| D1-50-iid: gossip | 86.75 or more | 87.00 | reached |",
        "| D1-50-iid: gossip behind pooled | 1 point at most | 5.00 | **missed** |",
        "| D1-50-skewed: gossip | 83.15 or more | 87.00 | reached |",
        "| D1-50-skewed: gossip behind pooled | 1 point at most | 5.00 | **missed** |",
        "| D2: gossip at fan-out 6, lost from 0 to 40 % liars | 2 points at most | 1.50 | reached |",
        "| D2: gossip on the complete graph, lost from 0 to 40 % liars | 2 points at most | 1.50 | reached |",
        "| D4-fashion | all labels, 40 dB or more | 100% of the labels, 69.3 dB | reached |",
        "| D4-cifar | all labels, 30 dB or more | 90% of the labels, 30.9 dB | **missed** |",
    ]
    assert leaks.line(LEAKS[1], LEAKED[LEAKS[1]]) == (
        "| D4-cifar | gradient of one colour picture | recovered | 9 of 10 labels, PSNR 30.9 dB or more, "
        "median 36.2 |  | all labels, 30 dB or more | 10; 0 |"
    )


def test_the_page_has_what_a_reader_needs_to_repeat_it(tmp_path: Path) -> None:
    (row,) = (row for row in ROWS if row.id == "D1-50-iid")
    folder = folder_of(row.scenario, 1, tmp_path)
    folder.mkdir(parents=True)
    for name, seconds in (("scenario.toml", 1000), ("summary.json", 1090)):
        (folder / name).write_text("")
        os.utime(folder / name, (seconds, seconds))
    picture = tmp_path / "images" / "C-dial.png"
    when = datetime(2026, 11, 22)
    table, notes = lines(row, [FOUND]), notes_of([row])
    written = page.write(
        tmp_path, "p2pfl sim reproduce D1", when, table, notes, {row: [FOUND]}, LEAKED, [picture], quick=False
    )
    text = written.read_text()
    assert "Printed by `p2pfl sim reproduce D1` on 2026-11-22, " in text
    assert "seed 1 of D1." in text
    assert table[0] in text.splitlines()
    assert notes[0] in text.splitlines()
    assert "](images/C-dial.png)" in text
    assert "| D1 | 1 | 10; 30 | 1.5 |" in text

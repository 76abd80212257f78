"""Published results: every row can be run, is given no more training than it says, and is read back right."""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from netsim import scenario_file
from netsim.literature import budget, figures, running
from netsim.literature.results import Found, Judged, lines, spread
from netsim.literature.rows import ROWS, Point, Row, chosen
from netsim.literature.running import folder_of, run_row, scenario_of
from netsim.scenario import Scenario
from p2pfl.config import DataConfig
from p2pfl.errors import ConfigError
from p2pfl.learning.data import load
from p2pfl.learning.dataset import Dataset
from p2pfl.learning.partition import shards

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
    assert chosen("all") == ROWS
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


def test_workers_and_biases_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = Found({3: Judged(0.6, 0.5, 10)}, Judged(0.9, 0.9, 30), {"isolated": Judged(0.1, 0.1, 30)})
    made = figures.write({row: [found] for row in ROWS}, tmp_path)
    assert [path.name for path in made] == ["A-balanced.png", "C-dial.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)
    assert figures.write({ROWS[0]: [found]}, tmp_path) == []

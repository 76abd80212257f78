"""Runs beside each other: figures and differences from hand-made journals, the page, what users get wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.main import app
from netsim.report import compare, overlay
from netsim.report.theme import LIGHT
from tests.cli.outcome import error_line
from tests.netsim import chromium
from tests.netsim.test_report import HOSTILE, Elements, told

# Most of these look at one page, which is made once.
pytestmark = pytest.mark.xdist_group("compare")

LEFT = ["compare-consensus.png", "compare-curves.png", "compare.html"]


def invoke(*arguments: object) -> Result:
    words = ["sim", "compare", *map(str, arguments)]
    return CliRunner().invoke(app, words, prog_name="p2pfl", catch_exceptions=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs: with faults and baselines, without, and of many more bytes."""
    folder = tmp_path_factory.mktemp("compare")
    big = {"nodes": 40, "rounds": 12, "baselines": False, "config": {"loss": 0.2, "model": "cnn"}}
    return [
        told(folder / "lossy", nodes=6, rounds=3),
        told(folder / "calm", nodes=6, rounds=3, faults=False, baselines=False),
        told(folder / "big", **big),
    ]


@pytest.fixture(scope="module")
def page(runs: Sequence[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compare.write(compare.load(runs), tmp_path_factory.mktemp("out") / "made")[0]


def test_json_holds_the_figures_of_each_and_what_differs(runs: Sequence[Path], tmp_path: Path) -> None:
    result = invoke(*runs, "--json", "--out", tmp_path)
    answer = json.loads(result.stdout)
    assert list(answer["runs"]) == ["lossy", "calm", "big"]
    lossy, calm, big = answer["runs"].values()
    assert (lossy["rounds"], calm["rounds"], big["rounds"]) == (3, 3, 12)
    assert lossy["lost"] > 0 == calm["lost"]
    assert lossy["faults"] > 0 == calm["faults"]
    assert (calm["survivors"], sorted(lossy["baselines"])) == (
        6,
        ["centralised", "cyclic", "d-psgd", "fedavg", "isolated"],
    )
    assert calm["accuracy_min"] <= calm["accuracy_mean"] <= calm["accuracy_max"]
    assert answer["differences"] == {
        "nodes": {"lossy": 6, "calm": 6, "big": 40},
        "model": {"lossy": "mlp", "calm": "mlp", "big": "cnn"},
        "rounds": {"lossy": 3, "calm": 3, "big": 12},
        "loss": {"lossy": 0.1, "calm": 0.0, "big": 0.2},
    }
    assert sorted(Path(path).name for path in answer["files"]) == LEFT
    assert sorted(path.name for path in tmp_path.iterdir()) == LEFT


def test_a_pipe_gets_a_line_for_each_figure(runs: Sequence[Path], tmp_path: Path) -> None:
    lines = invoke(runs[0], runs[1], "--out", tmp_path).stdout.splitlines()
    table = [re.split(r"  +", line) for line in lines]
    assert ["figure", "lossy", "calm"] in table
    assert ["accuracy, mean model", "0.957", "0.957"] in table
    assert ["consensus distance", "0.08", "0.08"] in table
    assert ["accuracy, isolated", "0.607", "-"] in table
    assert ["loss", "0.1", "0.0"] in table
    assert not [row for row in table if row[0] == "dataset"]
    assert sorted(Path(line).name for line in lines[-3:]) == LEFT


def test_no_report_leaves_nothing(runs: Sequence[Path], tmp_path: Path) -> None:
    result = invoke(*runs, "--no-report", "--out", tmp_path)
    assert result.exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_only_the_journals_are_read(runs: Sequence[Path]) -> None:
    assert all([path.name for path in run.iterdir()] == ["journal.jsonl"] for run in runs)
    named = compare.load([run / "journal.jsonl" for run in runs])
    assert [run.name for run in named] == [run.name for run in compare.load(runs)]


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    paths = [tmp_path / "a" / "run" / "j", tmp_path / "b" / "run" / "j", tmp_path / "c" / "other" / "j"]
    names = compare.names([*paths, paths[2]])
    assert len(set(names)) == 4
    assert names[0].endswith("a/run")


def test_equal_runs_differ_in_nothing(runs: Sequence[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[1], tmp_path / "again")
    again = compare.load([runs[1], tmp_path / "again"])
    assert compare.found(again)[1] is None
    assert compare.as_dict(again)["differences"] == {}


def test_the_collective_line_is_the_one_that_the_runs_have(tmp_path: Path) -> None:
    mean = told(tmp_path / "mean", nodes=4, rounds=3, evaluate="mean", baselines=False)
    end = told(tmp_path / "end", nodes=4, rounds=3, evaluate="end", baselines=False)
    loaded = compare.load([mean, end])
    assert overlay.kind_of(loaded) == "mean model"
    mean_entry, end_entry = overlay.legend(LIGHT, loaded, "accuracy")
    assert (mean_entry.value, end_entry.value) == ("0.957", "0.957")
    assert mean_entry.stroke.colour != end_entry.stroke.colour


def test_the_page_needs_nothing_from_elsewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?:src|srcset|href)\s*=\s*[\"'](?!data:|#)", text)
    assert text.count("<img ") == 9


def test_hostile_runs_are_text(page: Path, runs: Sequence[Path], tmp_path: Path) -> None:
    folder = tmp_path / HOSTILE[0].replace("/", "-")
    hostile = told(folder, nodes=3, rounds=2, config={"model": HOSTILE[0], HOSTILE[1]: HOSTILE[1]})
    html, *_ = compare.write(compare.load([runs[0], hostile]), tmp_path / "out")
    assert Elements(html.read_text("utf-8")).found <= Elements(page.read_text("utf-8")).found


def test_a_run_that_was_killed_is_compared_and_named(runs: Sequence[Path], tmp_path: Path) -> None:
    lines = (runs[0] / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "journal.jsonl").write_bytes(b"".join(lines[: len(lines) // 3])[:-9])
    html, *_ = compare.write(compare.load([runs[0], tmp_path / "killed"]), tmp_path / "out")
    assert "journal of killed ends before the run did" in html.read_text("utf-8")


@pytest.mark.parametrize(
    ("second", "code", "message"),
    [
        (None, 2, "at least two runs"),
        ("nowhere", 1, "nowhere does not exist"),
        ("empty", 1, "holds no journal.jsonl"),
        ("text.txt", 1, "text.txt is no journal: its first line is not JSON"),
        ("other.jsonl", 1, "other.jsonl is not the journal of a run"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    second: str | None, code: int, message: str, runs: Sequence[Path], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("hello\n")
    (tmp_path / "other.jsonl").write_text('{"event":"started"}\n')
    out = tmp_path / "out"
    result = invoke(runs[0], *([tmp_path / second] if second else []), "--out", out)
    assert message in error_line(result)
    assert result.exit_code == code
    assert not out.exists()


def test_out_that_cannot_be_made(runs: Sequence[Path]) -> None:
    result = invoke(*runs, "--out", "/proc/nowhere")
    assert "cannot make the folder /proc/nowhere" in error_line(result)


def test_no_run_at_all_is_one_line() -> None:
    assert "RUN" in error_line(invoke())


def test_more_runs_than_colours_differ_in_their_dashes() -> None:
    strokes = [overlay.stroke(LIGHT, index) for index in range(2 * len(LIGHT.distinct))]
    assert len({(stroke.colour, stroke.dashes) for stroke in strokes}) == len(strokes)


@pytest.mark.skipif(chromium.program() is None, reason="no chromium is installed")
@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1280, "light")])
def test_the_page_in_a_browser(width: int, scheme: str, page: Path, tmp_path: Path) -> None:
    program = chromium.program()
    assert program is not None
    with chromium.browsing(program, tmp_path / "profile") as browser:
        browser.open(page, width, 900, scheme)
        chromium.assert_shown(browser, pictures=9)

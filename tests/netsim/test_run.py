"""`p2pfl sim run` from the command line to the folder it leaves, and what it says if it cannot run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from netsim import run as simulation
from netsim import scenario_file
from tests.cli.outcome import Run, error_line

SMALL = ("sim", "run", "--nodes", "3", "--rounds", "1", "--model", "softmax", "--workers", "1")


def test_a_run_as_a_program(tmp_path: Path) -> None:
    """With --json stdout is one JSON object, the summary's; a folder under runs/ holds all of it."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *SMALL, "--json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)  # raises if anything stands before or after the object
    folder = tmp_path / summary["out"]
    assert folder.parent == tmp_path / "runs"
    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion.png",
        "consensus.png",
        "curves.png",
        "journal.jsonl",
        "labels.png",
        "report.html",
        "scenario.toml",
        "summary.json",
        "timeline.png",
        "topology.png",
        "traffic.png",
    ]
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert done.stderr.startswith("rounds ")  # quiet lines, as nobody watches
    assert "Traceback" not in done.stderr
    made = reported(folder)
    for path in [path for path in folder.iterdir() if path.name != "journal.jsonl"]:
        path.unlink()
    result = CliRunner().invoke(
        app, ["sim", "report", str(folder)], prog_name="p2pfl", catch_exceptions=False
    )
    assert sorted(result.stdout.split()) == sorted(str(folder / name) for name in made)
    assert reported(folder) == made  # the journal alone gives the same, byte for byte


def reported(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".html", ".png")}


def test_the_journal_begins_with_all_that_was_written_of_groups() -> None:
    """So that `sim compare` sees what differs."""
    text = '[[nodes.group]]\nname = "edge"\namount = 2\nnat = true\nfanout = 1\nspeed = "200"\n'
    scenario = scenario_file.parse(text, "edge.toml")
    (group,) = simulation._recorded(scenario)["groups"]  # type: ignore[misc, attr-defined]
    assert len(group.pop("nodes")) == 2
    assert group == {"name": "edge", "nat": True, "fanout": 1, "speed": "200"}


# -- bad input


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """invoke(*flags) runs `sim run` in an empty folder, without a data directory."""
    monkeypatch.delenv("P2PFL_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "none"))
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)

    def run(*flags: str) -> Result:
        return CliRunner().invoke(app, [*SMALL, *flags], prog_name="p2pfl", catch_exceptions=False)

    return run


USAGE, SURROUNDINGS = 2, 1


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ("--rounds 0", USAGE, "rounds must be at least 1"),
        ("--fanout 0", USAGE, "fanout must be at least 1"),
        ("--rounds 0 --lr-schedule cosine", USAGE, "cosine needs a number of rounds; give --rounds"),
        ("--nodes 1439", USAGE, "1438 samples cannot be split over 1439 nodes"),
        ("--nodes 0", USAGE, "nodes must be at least 1"),
        ("--nodes many", USAGE, "'--nodes'"),
        ("--bootstrap 3", USAGE, "bootstrap must be below nodes: a node can know 2 others"),
        ("--latency soon", USAGE, "latency 'soon' is not a duration; for example 20ms"),
        ("--latency -1s", USAGE, "latency '-1s' is not a duration"),
        ("--latency " + "9" * 400, USAGE, "too long"),
        ("--speed 0", USAGE, "speed must be above 0"),
        ("--workers 0", USAGE, "workers must be a number, at least 1, or ray"),
        ("--evaluate often", USAGE, "'often' is not one of"),
        ("--engine warp", USAGE, "'warp' is not one of"),
        ("--codec f8", USAGE, "f8"),
        ("--partition cake", USAGE, "unknown partition 'cake'"),
        ("--partition dirichlet:0.0001 --nodes 30", USAGE, "dirichlet:0.0001"),
        ("--init-seed -1", USAGE, "init-seed"),
        ("--topology random-regular --degree 7", USAGE, "degree"),
        ("--topology erdos-renyi --edge-probability 0.001 --nodes 30", USAGE, "was connected"),
        ("--topology edges --edge-list nowhere.txt", USAGE, "cannot read nowhere.txt"),
        ("--no-such-flag 1", USAGE, "--no-such-flag"),
        ("--model nope", SURROUNDINGS, "unknown model 'nope'; take softmax, mlp"),
        ("--dataset nowhere.npz", SURROUNDINGS, "'nowhere.npz'"),
        ("--dataset nowhere", SURROUNDINGS, "'nowhere'"),
        ("--out /proc/nowhere/run", SURROUNDINGS, "cannot make the folder /proc/nowhere/run"),
        ("--out file/run", SURROUNDINGS, "cannot make the folder file/run"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    flags: str, code: int, message: str, invoke: Run, tmp_path: Path
) -> None:
    here = tmp_path / "empty"
    if "file" in flags:
        (here / "file").touch()
    before = sorted(here.iterdir())
    result = invoke(*flags.split())
    assert message in error_line(result)
    assert result.exit_code == code
    assert sorted(here.iterdir()) == before


def test_data_that_is_neither_here_nor_to_be_had(
    invoke: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    result = invoke("--dataset", "mnist", "--data-dir", str(tmp_path / "data"))
    message = error_line(result)
    assert f"mnist is not in {tmp_path / 'data'} and cannot be downloaded" in message
    assert "take --dataset digits" in message
    assert result.exit_code == SURROUNDINGS
    assert list((tmp_path / "empty").iterdir()) == []


def test_an_existing_folder_that_cannot_be_written_into(invoke: Run, tmp_path: Path) -> None:
    (tmp_path / "empty" / "taken" / "journal.jsonl").mkdir(parents=True)
    result = invoke("--out", "taken")
    assert "cannot write taken/journal.jsonl: Is a directory" in error_line(result)
    assert result.exit_code == SURROUNDINGS

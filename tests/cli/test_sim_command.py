"""`p2pfl sim run`: flags become a configuration, the summary becomes one JSON object or text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.sim import as_text
from netsim import run as simulation
from netsim.config import SimConfig
from netsim.scenario import Scenario
from tests.cli.outcome import Run, error_line

SUMMARY: dict[str, Any] = {
    "nodes": 20,
    "engine": "process",
    "accuracy_mean": 0.956789,
    "bytes_sent": 123456789,
    "images_per_second": 45678.9,
    "virtual_seconds": None,
    "out": "runs/x",
}


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[SimConfig]:
    """The configurations that the simulator was called with; it chats on stdout."""
    seen: list[SimConfig] = []

    def record(scenario: Scenario, *, draw: bool) -> dict[str, Any]:
        print("a library prints this")
        seen.append(scenario.config)
        return SUMMARY

    monkeypatch.setattr(simulation, "run", record)
    return seen


def test_no_flags_give_the_defaults(run: Run, configs: list[SimConfig]) -> None:
    assert run("sim", "run").exit_code == 0
    assert configs == [SimConfig()]


def test_flags_arrive(run: Run, configs: list[SimConfig]) -> None:
    run(
        "sim",
        "run",
        "--nodes",
        "10",
        "--dataset",
        "mnist",
        "--model",
        "cnn",
        "--rounds",
        "5",
        "--latency",
        "1.5s",
    )
    (config,) = configs
    assert (config.nodes, config.data.dataset, config.training.model) == (10, "mnist", "cnn")
    assert (config.training.rounds, config.links.latency_of.first) == (5, 1.5)


def test_json_on_stdout_is_one_object(run: Run, configs: list[SimConfig]) -> None:
    result = run("sim", "run", "--json")
    assert json.loads(result.stdout) == SUMMARY
    assert result.stderr == "a library prints this\n"


def test_pipe_gets_quiet_lines(run: Run, configs: list[SimConfig]) -> None:
    assert run("sim", "run").stdout == (
        "nodes: 20\nengine: process\naccuracy_mean: 0.9568\nbytes_sent: 123,456,789\n"
        "images_per_second: 45,679\nvirtual_seconds: -\nout: runs/x\n"
    )


def test_pictures_of_the_run_are_named(tmp_path: Path) -> None:
    for name in ("labels.png", "curves.png", "journal.jsonl"):
        (tmp_path / name).touch()
    shown = as_text({"out": str(tmp_path)}, terminal=False)
    assert shown == f"out: {tmp_path}\npictures: {tmp_path}/curves.png {tmp_path}/labels.png\n"
    (tmp_path / "report.html").touch()
    assert f"\nreport: {tmp_path}/report.html\n" in as_text({"out": str(tmp_path)}, terminal=False)


def test_terminal_gets_a_table() -> None:
    shown = as_text(SUMMARY, terminal=True)
    for word in ("accuracy mean", "0.9568", "45,679", "runs/x"):
        assert word in shown


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--rounds", "0"],
            "rounds must be at least 1, or virtual-time be given: a simulated run has to end",
        ),
        (["--nodes", "0"], "nodes must be at least 1"),
        (["--fanout", "0"], "fanout must be at least 1"),
        (["--latency", "soon"], "latency 'soon' is not a duration; for example 20ms"),
        (["--engine", "warp"], "'warp' is not one of 'virtual', 'process'"),
        (["--nodes", "3", "--bootstrap", "3"], "bootstrap must be below nodes"),
        (
            ["--merge", "krumm"],
            "merge: there is no rule 'krumm'; did you mean krum:f=F? give one of mean, age",
        ),
        (["--workers", "0"], "workers must be a number, at least 1, or ray"),
    ],
)
def test_bad_flag_is_one_line_and_exit_code_2(run: Run, flags: list[str], message: str) -> None:
    result = run("sim", "run", *flags)
    assert result.exit_code == 2
    assert message in error_line(result)

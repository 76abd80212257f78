"""Runs of the literature's scenarios, one after another. What was run before is not run again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from netsim import scenario_file
from netsim.literature.rows import Row
from netsim.run import run
from netsim.scenario import Scenario
from p2pfl.errors import ConfigError

# What a quick pass has less of: enough to see that a row runs, and no figure to compare with anything.
_QUICK: dict[str, object] = {
    "batch_size": 32,
    "local_epochs": None,
    "local_steps": 4,
    "baseline_local_epochs": None,
    "baseline_local_steps": 4,
    "evaluate_every": 1,
    "evaluate_samples": 200,
}

# What kept runs may say and no scenario can any more, where it means what is done now.
_GONE = ('server-merge = "samples"',)


def scenario_of(
    row: Row, name: str, seed: int, out: Path, *, quick: bool = False, data_dir: str | None = None
) -> Scenario:
    """A row's scenario with the seed for everything random: the split and the initial weights too."""
    flags: dict[str, object] = {
        "seed": seed,
        "partition_seed": seed,
        "init_seed": seed,
        "data_dir": data_dir,
        "out": str(folder_of(name, seed, out)),
    }
    if quick:
        rounds = max(2, *(point.round for point in row.points))
        flags |= _QUICK | {"rounds": rounds, "baseline_rounds": rounds}
    return scenario_file.load(f"literature/{name}", flags)


def folder_of(name: str, seed: int, out: Path) -> Path:
    """Where the run of a scenario is kept; rows may share one."""
    return out / name / f"seed-{seed}"


def seeds_of(row: Row, *, quick: bool = False) -> range:
    return range(1, 2 if quick else row.seeds + 1)


def seconds_of(name: str, seed: int, out: Path) -> float:
    """How long a kept run took: from its first file to its last, whoever started it and when."""
    folder = folder_of(name, seed, out)
    return (folder / "summary.json").stat().st_mtime - (folder / "scenario.toml").stat().st_mtime


def run_row(row: Row, out: Path, *, quick: bool = False, data_dir: str | None = None) -> None:
    """Those seeds of a row that were not run yet. Raises UsageError, SetupError or SimulationError."""
    for seed in seeds_of(row, quick=quick):
        for name in row.scenarios:
            scenario = scenario_of(row, name, seed, out, quick=quick, data_dir=data_dir)
            if not _is_done(folder_of(name, seed, out), scenario):
                run(scenario, draw=False)


def _is_done(folder: Path, scenario: Scenario) -> bool:
    """Whether this very run has ended: its summary is written last."""
    kept = folder / "scenario.toml"
    if not (folder / "summary.json").exists() or not kept.exists():
        return False
    text = kept.read_text(encoding="utf-8")
    for line in _GONE:
        text = text.replace(f"\n{line}\n", "\n")
    try:
        before = scenario_file.parse(text, str(kept))
    except ConfigError:  # of a version that knew other keys
        return False
    return _experiment(before) == _experiment(scenario)  # a key that is new has its default in both


def _experiment(scenario: Scenario) -> str:
    """What a run's figures follow from: not where its data set lies."""
    data = replace(scenario.config.data, data_dir=None)
    return scenario_file.to_toml(replace(scenario, config=replace(scenario.config, data=data)))

"""Runs of the literature's scenarios, one after another. What was run before is not run again."""

from __future__ import annotations

from pathlib import Path

from netsim import scenario_file
from netsim.literature.rows import Row
from netsim.run import run
from netsim.scenario import Scenario

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


def scenario_of(
    row: Row, seed: int, out: Path, *, quick: bool = False, data_dir: str | None = None
) -> Scenario:
    """The row's scenario with the seed for everything random: the split and the initial weights too."""
    flags: dict[str, object] = {
        "seed": seed,
        "partition_seed": seed,
        "init_seed": seed,
        "data_dir": data_dir,
        "out": str(folder_of(row, seed, out)),
    }
    if quick:
        rounds = max(2, *(point.round for point in row.points))
        flags |= _QUICK | {"rounds": rounds, "baseline_rounds": rounds}
    return scenario_file.load(f"literature/{row.scenario}", flags)


def folder_of(row: Row, seed: int, out: Path) -> Path:
    """Where the run is kept; rows may share one."""
    return out / row.scenario / f"seed-{seed}"


def seeds_of(row: Row, *, quick: bool = False) -> range:
    return range(1, 2 if quick else row.seeds + 1)


def run_row(row: Row, out: Path, *, quick: bool = False, data_dir: str | None = None) -> None:
    """Those seeds of a row that were not run yet. Raises UsageError, SetupError or SimulationError."""
    for seed in seeds_of(row, quick=quick):
        scenario = scenario_of(row, seed, out, quick=quick, data_dir=data_dir)
        if not _is_done(folder_of(row, seed, out), scenario):
            run(scenario, draw=False)


def _is_done(folder: Path, scenario: Scenario) -> bool:
    """Whether this very run has ended: its summary is written last."""
    kept = folder / "scenario.toml"
    if not (folder / "summary.json").exists() or not kept.exists():
        return False
    return kept.read_text(encoding="utf-8") == scenario_file.to_toml(scenario)

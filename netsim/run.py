"""One simulated run, from a configuration to a folder with journal, summary and pictures."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from netsim import baselines, report, scenario_file, summary, topology
from netsim.adversaries import recorded
from netsim.attacks.back_door import BackDoors
from netsim.attacks.poisoned import poison
from netsim.config import HOST_KEYS, SimConfig
from netsim.evaluation import consensus, evaluated, mean_model
from netsim.jobs import Jobs
from netsim.journal import SIMULATOR, Journal, RunStarted
from netsim.memory import PeakMemory, keep_freed_memory, rare_collections
from netsim.pools import make_pool
from netsim.population import Outcome, devices, doubts_of_merging, draw_graph, evaluated_nodes
from netsim.processes import ProcessEngine
from netsim.progress import Progress
from netsim.scenario import Scenario
from netsim.virtual import VirtualEngine
from p2pfl.config import flatten
from p2pfl.errors import StorageError
from p2pfl.learning.data import load
from p2pfl.learning.learner import Learner
from p2pfl.learning.partition import Shard, shards
from p2pfl.learning.torch_learner import TorchLearner

log = logging.getLogger(__name__)

# The data set's place and the pictures' path are the host's, not the experiment's.
_NOT_RECORDED = (*(key.replace("_", "-") for key in HOST_KEYS), "data-dir")


def run(scenario: Scenario, *, draw: bool = True) -> dict[str, Any]:
    """Simulate; returns the summary, which is also written to summary.json in the run's folder.

    draw: also make the report. Raises UsageError, SetupError or SimulationError.
    """
    config = scenario.config
    if draw:
        report.check_installed()
    dataset = load(config.data)
    parts = shards(dataset, config.data, config.nodes)
    doors = BackDoors(
        scenario.adversaries, dataset, config.training.model, config.evaluation.evaluate_samples
    )
    dataset, parts = poison(config.seed, scenario.adversaries, dataset, parts)
    learner = TorchLearner(dataset, config.training.model)
    graph = draw_graph(config)
    doubt = topology.doubt(config.topology, config.nodes, graph)
    if doubt is not None:
        log.warning(doubt)
    for doubt in doubts_of_merging(scenario, learner.layout.size):
        log.warning(doubt)
    out = _make_folder(config.out)  # what cannot run leaves none
    path = out / "journal.jsonl"
    keep_freed_memory()
    with make_pool(config, learner) as pool, PeakMemory() as memory, Journal(path) as journal:
        (out / "scenario.toml").write_text(scenario_file.to_toml(scenario), encoding="utf-8")
        journal.write(0.0, SIMULATOR, RunStarted(_recorded(scenario), dataset.task.classes))
        with Progress(config.nodes, config.training.rounds) as progress:
            engine = (
                VirtualEngine(scenario, learner, parts, pool, journal, progress.watch, doors)
                if config.engine == "virtual"
                else ProcessEngine(scenario, journal, progress.watch, out)
            )
            cpu_began = time.process_time()
            with rare_collections():
                outcome = engine.run()
            cpu_seconds = time.process_time() - cpu_began
        evaluation_began = time.perf_counter()
        _evaluate(scenario, outcome, pool, journal, doors)
        evaluation_ended = time.perf_counter()
        _run_baselines(scenario, learner, parts, graph, pool, journal)
    figures = summary.summarise(path)
    train = outcome.last_merge - outcome.first_job
    figures |= {
        "wall_seconds": _since_process_start(),
        "startup_seconds": _since_process_start() - (time.perf_counter() - outcome.first_job),
        "train_seconds": train,
        "simulation_cpu_seconds": cpu_seconds,
        "evaluate_seconds": evaluation_ended - evaluation_began,
        "images_per_second": figures["images_trained"] / train if train > 0 else None,
        "peak_pss_bytes": memory.peak_bytes,
        "out": str(out),
    }
    (out / "summary.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if draw:
        report.write(out)
    return figures


def _evaluate(scenario: Scenario, outcome: Outcome, pool: Jobs, journal: Journal, doors: BackDoors) -> None:
    """The models that the surviving honest nodes ended with, their mean, and how far apart they are."""
    config = scenario.config
    limit = config.evaluation.evaluate_samples
    honest = set(scenario.honest)
    survivors = {index: vector for index, vector in outcome.weights.items() if index in honest}
    if not survivors:
        return
    chosen = [index for index in evaluated_nodes(config) if index in survivors]
    if config.evaluate_mode == "end":
        chosen = list(survivors)
    vectors = list(survivors.values())
    mean = mean_model(vectors)
    round, end = outcome.progress, outcome.ended_at
    jobs = [(index, pool.submit_evaluate(survivors[index], limit)) for index in chosen]
    mean_job = pool.submit_evaluate(mean, limit)
    for index, job in jobs:
        journal.write(end, index, evaluated(pool.result(job), of="node", round=round, final=True))
    journal.write(end, SIMULATOR, evaluated(pool.result(mean_job), of="mean", round=round, final=True))
    journal.write(end, SIMULATOR, consensus(vectors, mean, round=round, final=True))
    for index in chosen:
        for event in doors.measure(survivors[index], of="node", round=round, final=True):
            journal.write(end, index, event)
    for event in doors.measure(mean, of="mean", round=round, final=True):
        journal.write(end, SIMULATOR, event)


def _run_baselines(
    scenario: Scenario,
    learner: Learner,
    parts: Sequence[Shard],
    graph: topology.Edges,
    pool: Jobs,
    journal: Journal,
) -> None:
    config = scenario.config
    if not config.baselines.baselines:
        return
    baselines.run_baselines(
        config,
        learner,
        parts,
        pool,
        lambda at, event: journal.write(at, SIMULATOR, event),
        edges=graph,
        speeds=[device.speed for device in devices(scenario)],
        training_of=scenario.training_of,
        adversaries=scenario.adversaries,
    )


def _recorded(scenario: Scenario) -> dict[str, object]:
    """The scenario as the journal holds it: with everything that was left to its default decided.

    Of a data set that is a file or a folder, the name without the place.
    """
    config: SimConfig = scenario.config
    decided: dict[str, object] = {
        "evaluate": config.evaluate_mode,
        "dataset": Path(config.data.dataset).resolve().name,
    }
    if config.topology.topology == "sampling":
        decided["bootstrap"] = config.bootstrap_peers
    flat = flatten(config) | decided
    kept = {key: value for key, value in flat.items() if key not in _NOT_RECORDED}
    tables: dict[str, object] = {
        "groups": _recorded_groups(scenario),
        "rules": list(scenario.tables.get("rules", ())),
        "events": list(scenario.tables.get("events", ())),
        "adversaries": recorded(scenario.adversaries),
    }
    return kept | {key: value for key, value in tables.items() if value}


def _recorded_groups(scenario: Scenario) -> list[dict[str, object]]:
    """What was written of each, with the nodes that its amount came to."""
    rows = scenario.tables.get("groups", ())
    written = [{key: value for key, value in row.items() if key != "amount"} for row in rows]
    return [row | {"nodes": group.nodes} for row, group in zip(written, scenario.groups, strict=True)]


def _make_folder(out: str | None) -> Path:
    folder = Path(out) if out else Path("runs") / datetime.now().strftime("%Y-%m-%d-%H%M%S-%f")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot make the folder {folder}: {error.strerror}; choose another --out"
        ) from error
    return folder


def _since_process_start() -> float:
    """Wall seconds since this process started, interpreter start and imports included (Linux)."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc(5), in ticks since boot
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started

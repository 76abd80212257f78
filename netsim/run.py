"""One simulated run, from a configuration to a folder with journal, summary and pictures."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from netsim import report, summary
from netsim.config import SimConfig
from netsim.evaluation import consensus_distance, evaluated, mean_model
from netsim.journal import HOST_KEYS, SIMULATOR, ConsensusMeasured, Journal, RunStarted
from netsim.memory import PeakMemory, keep_freed_memory
from netsim.population import Device, Outcome, evaluated_nodes
from netsim.processes import ProcessEngine
from netsim.progress import Progress
from netsim.virtual import VirtualEngine
from netsim.workers import WorkerPool
from p2pfl.config import flatten
from p2pfl.errors import StorageError
from p2pfl.learning.data import load
from p2pfl.learning.partition import shards
from p2pfl.learning.torch_learner import TorchLearner

# The data set's place and the pictures' path are the host's, not the experiment's.
_NOT_RECORDED = (*HOST_KEYS, "data-dir")


def run(config: SimConfig, devices: Sequence[Device] | None = None) -> dict[str, Any]:
    """Simulate; returns the summary, which is also written to summary.json in the run's folder.

    devices: one for each node, for the virtual engine; all alike by default. Raises UsageError, SetupError
    or SimulationError.
    """
    report.check_installed()
    dataset = load(config.data)
    parts = shards(dataset, config.data, config.nodes)
    learner = TorchLearner(dataset, config.training.model)
    out = _make_folder(config.out)  # what cannot run leaves none
    path = out / "journal.jsonl"
    keep_freed_memory()
    with (
        WorkerPool(learner, config.workers or os.cpu_count() or 1) as pool,
        PeakMemory() as memory,
        Journal(path) as journal,
    ):
        journal.write(0.0, SIMULATOR, RunStarted(_recorded(config), dataset.task.classes))
        with Progress(config.nodes, config.training.rounds) as progress:
            engine = (
                VirtualEngine(config, learner, parts, pool, journal, progress.watch, devices)
                if config.engine == "virtual"
                else ProcessEngine(config, journal, progress.watch, out)
            )
            outcome = engine.run()
        evaluation_began = time.perf_counter()
        _evaluate(config, outcome, pool, journal)
        evaluation_ended = time.perf_counter()
    figures = summary.summarise(path)
    train = outcome.last_merge - outcome.first_job
    report.draw(path, out)
    figures |= {
        "wall_seconds": _since_process_start(),
        "startup_seconds": _since_process_start() - (time.perf_counter() - outcome.first_job),
        "train_seconds": train,
        "evaluate_seconds": evaluation_ended - evaluation_began,
        "images_per_second": figures["images_trained"] / train if train > 0 else None,
        "peak_pss_bytes": memory.peak_bytes,
        "out": str(out),
    }
    (out / "summary.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures


def _evaluate(config: SimConfig, outcome: Outcome, pool: WorkerPool, journal: Journal) -> None:
    """The models that the nodes ended with, their mean, and how far apart they are."""
    limit = config.evaluation.evaluate_samples
    chosen = evaluated_nodes(config) if config.evaluate_mode == "sample" else range(config.nodes)
    if config.evaluate_mode == "mean":
        chosen = []
    mean = mean_model(outcome.weights)
    rounds = float(config.training.rounds)
    end = outcome.virtual_seconds
    jobs = [(index, pool.submit_evaluate(outcome.weights[index], limit)) for index in chosen]
    mean_job = pool.submit_evaluate(mean, limit)
    for index, job in jobs:
        journal.write(end, index, evaluated(pool.result(job), of="node", round=rounds, final=True))
    journal.write(end, SIMULATOR, evaluated(pool.result(mean_job), of="mean", round=rounds, final=True))
    distance = consensus_distance(outcome.weights, mean)
    journal.write(end, SIMULATOR, ConsensusMeasured(distance))


def _recorded(config: SimConfig) -> dict[str, object]:
    """The configuration as the journal holds it: with everything that was left to its default decided.

    Of a data set that is a file or a folder, the name without the place.
    """
    decided = {
        "evaluate": config.evaluate_mode,
        "bootstrap": config.bootstrap_peers,
        "dataset": Path(config.data.dataset).resolve().name,
    }
    flat = flatten(config) | decided
    return {key: value for key, value in flat.items() if key not in _NOT_RECORDED}


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

"""The figures of a run, computed from its journal alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from netsim.journal import read
from p2pfl.events import MODEL_MODES

# What strikes; the others end what lasted.
STRIKES = ("crash", "leave", "join", "hang", "cut")


def summarise(path: Path) -> dict[str, Any]:
    """The journal's share of summary.json.

    nodes, rounds, seed, engine; survivors (nodes that run at the end), ended (why); accuracy_mean, _min,
    _max, balanced_accuracy_mean over the finally evaluated nodes; accuracy_of_mean_model;
    consensus_distance; exchanges (model exchanges that succeeded), bytes_sent (bodies of all requests and
    responses), images_trained, virtual_seconds (None for real processes); faults (how many struck),
    faults_late (those that struck when fewer than half of the running nodes still trained), lost (messages
    that the network did not deliver); kept_own (times that a robust merge rule had too few models and a node
    kept its own weights); baselines (final accuracy of each).
    """
    config: dict[str, Any] = {}
    accuracies: list[float] = []
    balanced: list[float] = []
    figures: dict[str, Any] = {"accuracy_of_mean_model": None, "consensus_distance": None}
    baselines: dict[str, float] = {}
    exchanges = sent = images = faults = late = lost = kept = 0
    survivors, ended, end = 0, "", 0.0
    for line in read(path):
        values: Any = line
        match values["event"]:
            case "run-started":
                config = values["config"]
            case "exchanged":
                exchanges += values["mode"] in MODEL_MODES and values["outcome"] == "ok"
                sent += values["sent"]
            case "served":
                sent += values["sent"]
            case "trained":
                images += values["samples"]
            case "fault-struck" if values["fault"] in STRIKES:
                struck = max(1, len(values["nodes"]))
                faults += struck
                late += struck * (2 * values["training"] < values["running"])
            case "kept-own":
                kept += 1
            case "message-lost":
                lost += 1
            case "model-evaluated" if values["final"] and values["of"] == "mean":
                figures["accuracy_of_mean_model"] = values["accuracy"]
            case "model-evaluated" if values["final"]:
                accuracies.append(values["accuracy"])
                balanced.append(values["balanced_accuracy"])
            case "consensus-measured" if values["final"]:
                figures["consensus_distance"] = values["distance"]
            case "baseline-evaluated":
                baselines[values["baseline"]] = values["accuracy"]
            case "run-ended":
                survivors, ended, end = values["nodes"], values["reason"], values["t"]
    return {
        "nodes": config["nodes"],
        "rounds": config["rounds"],
        "seed": config["seed"],
        "engine": config["engine"],
        "survivors": survivors,
        "ended": ended,
        "accuracy_mean": float(np.mean(accuracies)) if accuracies else None,
        "accuracy_min": min(accuracies, default=None),
        "accuracy_max": max(accuracies, default=None),
        "accuracy_of_mean_model": figures["accuracy_of_mean_model"],
        "balanced_accuracy_mean": float(np.mean(balanced)) if balanced else None,
        "consensus_distance": figures["consensus_distance"],
        "exchanges": exchanges,
        "bytes_sent": sent,
        "images_trained": images,
        "virtual_seconds": end if config["engine"] == "virtual" else None,
        "faults": faults,
        "faults_late": late,
        "lost": lost,
        "kept_own": kept,
        "baselines": baselines,
    }

"""The figures of a run, computed from its journal alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from netsim.journal import read
from netsim.units import nodes_text
from p2pfl.events import MODEL_MODES

# What strikes; the others end what lasted.
STRIKES = ("crash", "leave", "join", "hang", "cut")


def summarise(path: Path) -> dict[str, Any]:
    """The journal's share of summary.json.

    nodes, rounds, seed, engine; adversaries (attacks, and the nodes with each); survivors (nodes that run at
    the end), ended (why); accuracy_mean, _min, _max, balanced_accuracy_mean over the finally evaluated nodes,
    which are honest; accuracy_of_mean_model, consensus_distance: of the honest nodes too; back_door_mean,
    back_door_of_mean_model: share of held-out pictures with the trigger that honest nodes, and their mean
    model, take for its target (of several triggers: over all, and the best), None without; exchanges (model
    exchanges that succeeded), bytes_sent (bodies of all requests and responses), images_trained,
    virtual_seconds (None for real processes); faults (how many struck), faults_late (those that struck when
    fewer than half of the running nodes still trained), lost (messages that the network did not deliver),
    kept_own (times that a robust merge rule had too few models and a node kept its own weights), refused
    (messages that their receivers refused), clipped (models merged whose age or sample count was beyond
    belief, and clipped); baselines (final accuracy of each).
    """
    config: dict[str, Any] = {}
    accuracies: list[float] = []
    balanced: list[float] = []
    figures: dict[str, Any] = dict.fromkeys(
        ("accuracy_of_mean_model", "consensus_distance", "back_door_of_mean_model")
    )
    opened: list[float] = []
    baselines: dict[str, float] = {}
    exchanges = sent = images = faults = late = lost = kept = refused = clipped = 0
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
            case "merged":
                clipped += values.get("clipped", 0)
            case "rejected":
                refused += 1
            case "model-evaluated" if values["final"] and values["of"] == "mean":
                figures["accuracy_of_mean_model"] = values["accuracy"]
            case "model-evaluated" if values["final"]:
                accuracies.append(values["accuracy"])
                balanced.append(values["balanced_accuracy"])
            case "consensus-measured" if values["final"]:
                figures["consensus_distance"] = values["distance"]
            case "back-door-measured" if values["final"] and values["of"] == "mean":
                figures["back_door_of_mean_model"] = max(
                    values["success"], figures["back_door_of_mean_model"] or 0.0
                )
            case "back-door-measured" if values["final"]:
                opened.append(values["success"])
            case "baseline-evaluated":
                baselines[values["baseline"]] = values["accuracy"]
            case "run-ended":
                survivors, ended, end = values["nodes"], values["reason"], values["t"]
    return {
        "nodes": config["nodes"],
        "rounds": config["rounds"],
        "seed": config["seed"],
        "engine": config["engine"],
        "adversaries": _adversaries(config),
        "survivors": survivors,
        "ended": ended,
        "accuracy_mean": float(np.mean(accuracies)) if accuracies else None,
        "accuracy_min": min(accuracies, default=None),
        "accuracy_max": max(accuracies, default=None),
        "accuracy_of_mean_model": figures["accuracy_of_mean_model"],
        "balanced_accuracy_mean": float(np.mean(balanced)) if balanced else None,
        "consensus_distance": figures["consensus_distance"],
        "back_door_mean": float(np.mean(opened)) if opened else None,
        "back_door_of_mean_model": figures["back_door_of_mean_model"],
        "exchanges": exchanges,
        "bytes_sent": sent,
        "images_trained": images,
        "virtual_seconds": end if config["engine"] == "virtual" else None,
        "faults": faults,
        "faults_late": late,
        "lost": lost,
        "kept_own": kept,
        "refused": refused,
        "clipped": clipped,
        "baselines": baselines,
    }


def _adversaries(config: Mapping[str, Any]) -> dict[str, str]:
    """Attack -> nodes, as in `0-4,7`."""
    found: dict[str, set[int]] = {}
    for row in config.get("adversaries", ()):
        found.setdefault(row["attack"], set()).update(row["nodes"])
    return {attack: nodes_text(nodes) for attack, nodes in found.items()}

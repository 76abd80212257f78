"""The figures of a run, computed from its journal alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from netsim.journal import SIMULATOR, read


def summarise(path: Path) -> dict[str, Any]:
    """The journal's share of summary.json.

    nodes, rounds, seed, engine; accuracy_mean, _min, _max, balanced_accuracy_mean over the finally evaluated
    nodes; accuracy_of_mean_model; consensus_distance; exchanges (model exchanges that succeeded), bytes_sent
    (bodies of all requests and responses), images_trained, virtual_seconds (None for real processes).
    """
    config: dict[str, Any] = {}
    accuracies: list[float] = []
    balanced: list[float] = []
    figures: dict[str, Any] = {"accuracy_of_mean_model": None, "consensus_distance": None}
    exchanges = sent = images = 0
    end = 0.0
    for line in read(path):
        kind: Any = line["event"]
        values: Any = line
        if kind == "run-started":
            config = values["config"]
        elif kind == "exchanged":
            exchanges += values["mode"] != "hello" and values["outcome"] == "ok"
            sent += values["sent"]
        elif kind == "served":
            sent += values["sent"]
        elif kind == "trained":
            images += values["samples"]
        elif kind == "model-evaluated" and values["final"]:
            if values["of"] == "mean":
                figures["accuracy_of_mean_model"] = values["accuracy"]
            else:
                accuracies.append(values["accuracy"])
                balanced.append(values["balanced_accuracy"])
        elif kind == "consensus-measured":
            figures["consensus_distance"] = values["distance"]
        elif kind == "run-ended" and values["node"] == SIMULATOR:
            end = values["t"]
    return {
        "nodes": config["nodes"],
        "rounds": config["rounds"],
        "seed": config["seed"],
        "engine": config["engine"],
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
    }

"""The table of docs/privacy.md: many cases, a row each, kept as they are done."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pfl.audit import files
from p2pfl.audit.config import LeakConfig
from p2pfl.audit.leak import audit
from p2pfl.config import flatten
from p2pfl.errors import ConfigError, StorageError

COLOUR = "colour"  # stands for the data set of colour pictures that the user named


@dataclass(frozen=True)
class Row:
    """text: what is sent, and what is different from the first row.  changes: to LeakConfig's defaults."""

    name: str
    text: str
    changes: dict[str, Any] = field(default_factory=dict)


ROWS = (
    Row("fashion", "gradient of one picture"),
    Row("cifar", "the same, colour", {"dataset": COLOUR}),
    Row("fashion-dlg", "labels sought, not read (DLG)", {"method": "dlg"}),
    Row("fashion-cosine", "cosine and total variation", {"method": "cosine", "pictures": 4}),
    Row("fashion-trained", "after training to accuracy 0.8", {"train_to": 0.8}),
    Row("fashion-2-one-class", "gradient of 2 of one class", {"batch": 2, "draw": "one-class"}),
    Row("fashion-2-classes", "gradient of 2 of two classes", {"batch": 2, "draw": "distinct"}),
    Row(
        "cifar-2-one-class",
        "the same of one class, colour",
        {"batch": 2, "draw": "one-class", "dataset": COLOUR},
    ),
    Row(
        "cifar-2-classes",
        "the same of two classes, colour",
        {"batch": 2, "draw": "distinct", "dataset": COLOUR},
    ),
    Row("fashion-8", "gradient of 8", {"batch": 8, "pictures": 16}),
    Row("cifar-8", "gradient of 8, colour", {"batch": 8, "pictures": 16, "dataset": COLOUR}),
    Row(
        "cifar-8-known",
        "gradient of 8, colour, labels told",
        {"batch": 8, "pictures": 16, "dataset": COLOUR, "known_labels": True},
    ),
    Row("fashion-1-step", "weights before and after 1 step", {"local_steps": 1}),
    Row("fashion-5-steps", "5 steps on the same picture", {"local_steps": 5}),
    Row("fashion-20-steps", "20 steps on the same picture", {"local_steps": 20, "pictures": 4}),
    Row("fashion-5-pictures", "5 steps, a new picture each", {"local_steps": 5, "shard": 5}),
    Row(
        "fashion-5-known",
        "5 steps, a new picture each, labels told",
        {"local_steps": 5, "shard": 5, "known_labels": True},
    ),
    Row(
        "fashion-20-pictures",
        "20 steps, a new picture each",
        {"local_steps": 20, "shard": 20, "pictures": 20},
    ),
    Row("fashion-2-nodes", "mean of 2 nodes, 1 step each", {"local_steps": 1, "nodes": 2}),
    Row("fashion-8-nodes", "mean of 8 nodes, 1 step each", {"local_steps": 1, "nodes": 8, "pictures": 16}),
    Row("fashion-f16-gradient", "gradient through f16", {"codec": "f16"}),
    Row("fashion-f16-1-step", "weights after 1 step through f16", {"codec": "f16", "local_steps": 1}),
    Row(
        "fashion-f16-20-steps",
        "weights after 20 steps through f16",
        {"codec": "f16", "local_steps": 20, "pictures": 4},
    ),
    Row(
        "fashion-f16-cosine",
        "weights after 1 step through f16, cosine",
        {"codec": "f16", "local_steps": 1, "method": "cosine", "pictures": 4},
    ),
    Row("fashion-noise-1e-5", "weights after 1 step, noise 1e-5", {"noise": 1e-5, "local_steps": 1}),
    Row("fashion-noise-1e-4", "weights after 1 step, noise 1e-4", {"noise": 1e-4, "local_steps": 1}),
    Row("fashion-noise-1e-3", "weights after 1 step, noise 1e-3", {"noise": 1e-3, "local_steps": 1}),
    Row("fashion-relu", "gradient, ReLU", {"model": "p2pfl.audit.networks:cnn_relu"}),
    Row(
        "cifar-relu", "gradient, ReLU, colour", {"model": "p2pfl.audit.networks:cnn_relu", "dataset": COLOUR}
    ),
    Row(
        "fashion-relu-cosine",
        "gradient, ReLU, cosine",
        {"model": "p2pfl.audit.networks:cnn_relu", "method": "cosine", "pictures": 4},
    ),
    Row("fashion-cnn", "gradient, model cnn (ReLU, maxima)", {"model": "cnn"}),
    Row("fashion-mlp", "gradient, model mlp (ReLU)", {"model": "mlp"}),
    Row(
        "fashion-mlp-cosine",
        "gradient, model mlp, cosine",
        {"model": "mlp", "method": "cosine", "pictures": 4},
    ),
    Row(
        "cifar-resnet18",
        "gradient, sigmoid ResNet-18, colour, 1 iteration",
        {
            "model": "p2pfl.audit.networks:resnet18_sigmoid",
            "dataset": COLOUR,
            "pictures": 1,
            "iterations": 1,
        },
    ),
)

# A quick table shows that every row runs, and little else: one update each, of digits, few iterations.
QUICK = {"idlg": 20, "dlg": 20, "cosine": 40}


def cases(
    only: Iterable[str], *, quick: bool, seed: int, data_dir: str | None, colour: str
) -> list[tuple[Row, LeakConfig]]:
    """The rows with these names, all if there are none, each with its case. ConfigError for others."""
    known = {row.name: row for row in ROWS}
    for name in (wanted := list(only)):
        if name not in known:
            raise ConfigError(f"no row is called {name!r}; there are {', '.join(known)}")
    return [
        (row, _case(row, quick, seed, data_dir, colour)) for row in ROWS if not wanted or row.name in wanted
    ]


def _case(row: Row, quick: bool, seed: int, data_dir: str | None, colour: str) -> LeakConfig:
    changes = {**row.changes, "seed": seed, "data_dir": data_dir}
    if changes.get("dataset") == COLOUR:
        changes["dataset"] = colour
    config = LeakConfig(**changes)
    if not quick:
        return config
    iterations = min(QUICK[config.method], config.steps_of_attack)
    return dataclasses.replace(
        config, dataset="digits", data_dir=None, pictures=config.together, iterations=iterations
    )


def run(
    chosen: Sequence[tuple[Row, LeakConfig]], folder: Path, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Each row's figures, with its `row` and `text`; in `folder` for each ROW.png and ROW.json.

    A row whose figures of the same case are there already is not run again: a table may be made in parts.
    tell: is given a line after each row.
    """
    found = []
    for row, config in chosen:
        kept = _kept(folder / f"{row.name}.json", config)
        if kept is None:
            kept = files.write(audit(config), folder / f"{row.name}.png", folder / f"{row.name}.json")
        figures = {"row": row.name, "text": row.text, **kept}
        tell(" ".join(_cells(figures)))
        found.append(figures)
    files.put(folder / "table.json", (json.dumps(found, indent=1) + "\n").encode())
    files.put(folder / "table.md", markdown(found).encode())
    return found


def _kept(file: Path, config: LeakConfig) -> dict[str, Any] | None:
    """What an earlier run found for the same case; where the data lies makes no difference."""
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{file} is not a row's figures ({error}); remove it, or take another --out"
        ) from error
    same = isinstance(found, dict) and isinstance(found.get("config"), dict)
    if not same or _without_place(found["config"]) != _without_place(flatten(config)):
        return None
    return found if file.with_suffix(".png").exists() else None


def _without_place(flat: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flat.items() if key != "data-dir"}


def markdown(found: Iterable[dict[str, Any]]) -> str:
    """A Markdown table: a line for each row."""
    head = ("row", "what is attacked", "pictures", "labels", "PSNR, dB: median (least to most)", "SSIM", "s")
    lines = [head, tuple("---" for _ in head), *(_cells(figures) for figures in found)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(figures: dict[str, Any]) -> tuple[str, ...]:
    return (
        figures["row"],
        figures["text"],
        str(figures["pictures"]),
        f"{figures['labels_recovered']:.0%}",
        "{psnr_median:.1f} ({psnr_min:.1f} to {psnr_max:.1f})".format(**figures),
        "{ssim_median:.2f}".format(**figures),
        f"{figures['cpu_seconds']:.0f}",
    )

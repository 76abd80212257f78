"""What runs of the literature's scenarios came to, from their journals."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netsim.journal import read
from netsim.literature.rows import LeakRow, Row
from netsim.literature.running import folder_of, seeds_of


@dataclass(frozen=True)
class Judged:
    """Accuracies in [0, 1], and images trained until then. confusion: rows are true classes."""

    accuracy: float
    balanced: float
    images: int
    confusion: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Found:
    """theirs: the authors' method by its rounds, and ours at the end; of one seed.

    others: the scenario's other baselines at their ends.
    """

    theirs: dict[int, Judged]
    ours: Judged
    others: dict[str, Judged] = field(default_factory=dict)

    def at(self, round: int) -> Judged | None:
        """Their method after so many rounds, 0: at its end; None if it was not evaluated then."""
        return self.theirs.get(round or max(self.theirs, default=0))


def find(row: Row, out: Path, *, quick: bool = False) -> list[Found]:
    """Of all seeds of a row that were run."""
    return [_read(row, seed, out) for seed in seeds_of(row, quick=quick)]


def _read(row: Row, seed: int, out: Path) -> Found:
    theirs: dict[int, Judged] = {}
    others: dict[str, Judged] = {}
    for one in read(folder_of(row.scenario, seed, out) / "journal.jsonl"):
        line: dict[str, Any] = one
        if line["event"] != "baseline-evaluated":
            continue
        confusion = tuple(tuple(row) for row in line["confusion"])
        judged = Judged(line["accuracy"], line["balanced_accuracy"], line["images"], confusion)
        if line["baseline"] == row.method:
            theirs[line["round"]] = judged
        else:
            others[line["baseline"]] = judged
    ours_in = folder_of(row.scenarios[-1], seed, out)
    summary = json.loads((ours_in / "summary.json").read_text(encoding="utf-8"))
    ours = Judged(summary["accuracy_mean"], summary["balanced_accuracy_mean"], summary["images_trained"])
    return Found(theirs, ours, others)


# -- in print

HEADER = (
    "| row | setting | published | their method here | gossip | asked of gossip | images, theirs and ours |\n"
    "|---|---|---|---|---|---|---|"
)


def lines(row: Row, found: Sequence[Found]) -> list[str]:
    """The rows of the table, one for each published point."""
    made = []
    ours = spread([one.ours.accuracy for one in found])
    for point in row.points:
        judged = [judged for one in found if (judged := one.at(point.round)) is not None]
        theirs = spread([one.accuracy for one in judged]) if judged else "-"
        images = f"{judged[0].images:,}; {found[0].ours.images:,}" if judged and found else "-"
        last = point == row.points[-1]
        asked = f"{row.least:g} or more" if last and row.least is not None else ""
        label = f", {point.label}" if point.label else ""
        cells = [row.id, row.setting + label, point.published, theirs, ours if last else "", asked, images]
        made.append("| " + " | ".join(cells) + " |")
    return made


def notes(rows: Iterable[Row | LeakRow]) -> list[str]:
    """What the authors left open, and what was chosen for it here."""
    by_choice: dict[str, list[str]] = {}
    for row in rows:
        if row.chosen:
            by_choice.setdefault(row.chosen, []).append(row.id)
    return [f"- {', '.join(ids)}: {choice}." for choice, ids in by_choice.items()]


def spread(shares: Sequence[float]) -> str:
    """Mean of some accuracies in per cent and, of several, the lowest and the highest."""
    if not shares:
        return "-"
    mean = f"{100 * statistics.mean(shares):.2f}"
    return mean if len(shares) == 1 else f"{mean} ({100 * min(shares):.2f}-{100 * max(shares):.2f})"

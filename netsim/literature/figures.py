"""The pictures that go with the tables of published results; those of single runs are the runs' reports."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from netsim.literature.results import Found
from netsim.literature.rows import Row
from netsim.report import look
from netsim.report.look import SLIDE_FONT, SLIDE_WIDTH, Look
from netsim.report.theme import LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Mapping[Row, Sequence[Found]]

_HEIGHT = 5.5  # inches


def write(results: Results, out: Path) -> list[Path]:
    """What can be drawn of these rows, as PNG files in the folder `out`. Raises StorageError."""
    slide = Look(LIGHT, SLIDE_WIDTH, SLIDE_FONT, slide=True)
    made = []
    workers = {row: found for row, found in results.items() if row.part == "A"}
    if len(workers) > 1:
        made.append((out / "A-balanced.png", partial(balanced, results=workers)))
    biases = {row: found for row, found in results.items() if row.bias is not None}
    if len(biases) > 1:
        made.append((out / "C-dial.png", partial(dial, results=biases)))
    for path, draw in made:
        look.png(slide, draw, path)
    return [path for path, _ in made]


def balanced(look: Look, results: Results) -> Figure:
    """Balanced accuracy of their method and of gossip, a pair of bars for each row."""
    figure = look.figure(_HEIGHT)
    axes = look.place(figure, 0.9, 0.7, look.width - 1.2, _HEIGHT - 1.7)
    theirs = [100 * _mean([at.balanced for one in found if (at := one.at(0))]) for found in results.values()]
    ours = [100 * _mean([one.ours.balanced for one in found]) for found in results.values()]
    places = range(len(results))
    colours = look.theme.baselines["cyclic"], look.theme.collective
    for offset, name, values, colour in zip(
        (-0.2, 0.2), ("their method, here", "gossip"), (theirs, ours), colours, strict=True
    ):
        bars = axes.bar([place + offset for place in places], values, 0.38, label=name, color=colour)
        axes.bar_label(bars, fmt="%.0f", fontsize=look.small, color=look.theme.ink)
    axes.set_xticks(list(places), [row.id for row in results])
    axes.set_ylim(0, 100)
    axes.set_ylabel("balanced accuracy, %")
    axes.set_title("Three workers: one model that visits them, and gossip", pad=40)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure


def dial(look: Look, results: Results) -> Figure:
    """Accuracy over the share of a class that one node alone holds."""
    figure = look.figure(_HEIGHT)
    axes = look.place(figure, 0.9, 0.7, look.width - 1.2, _HEIGHT - 1.7)
    theme = look.theme
    by_bias = {row.bias: found for row, found in sorted(results.items(), key=lambda item: item[0].bias or 0)}
    biases = [bias for bias in by_bias if bias is not None]
    curves = {
        "gossip": (
            theme.collective,
            [_mean([one.ours.accuracy for one in by_bias[bias]]) for bias in biases],
        ),
        "federated averaging": (
            theme.baselines["fedavg"],
            [_mean([at.accuracy for one in by_bias[bias] if (at := one.at(0))]) for bias in biases],
        ),
        "never communicating": (
            theme.isolated,
            [_mean([one.others["isolated"].accuracy for one in by_bias[bias]]) for bias in biases],
        ),
    }
    for name, (colour, values) in curves.items():
        axes.plot(biases, [100 * value for value in values], "o-", color=colour, label=name, lw=2)
    axes.set_ylim(0, 100)
    axes.grid(axis="y")
    axes.set_xlabel("bias: share of a class that one node alone holds")
    axes.set_ylabel("accuracy, %")
    axes.set_title("Ten nodes, from even data to one digit each", pad=40)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def _mean(values: Sequence[float]) -> float:
    return statistics.mean(values) if values else float("nan")

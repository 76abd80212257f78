"""Pictures of part A: three workers, one model that visits them, and gossip."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from netsim.literature.results import Found
from netsim.literature.rows import Row
from netsim.report import heat
from netsim.report.look import Look
from netsim.report.story import Story

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Mapping[Row, Sequence[Found]]
Stories = Mapping[Row, Story]

_HEIGHT = 5.5  # inches
_SIDE = 2.55  # inches: of a matrix
_BETWEEN = 0.8  # inches: for a title above it and names below


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


def confusion(look: Look, results: Results, stories: Stories) -> Figure:
    """Of the first seed: their model above, the mean model of gossip beneath; shares of a true digit, %."""
    width, above = look.width / 4, 0.65
    height = above + 2 * (_SIDE + _BETWEEN)
    figure = look.figure(height)
    figure.text(
        0.25 / look.width, 1 - 0.2 / height,
        "Which digit was taken for which: one model that visits three workers, and gossip",
        va="top", weight="bold", size=look.font * 1.2,
    )  # fmt: skip
    for column, (row, found) in enumerate(results.items()):
        theirs, story = found[0].at(0), stories[row]
        pairs = (
            ("visited", theirs.accuracy if theirs else 0.0, theirs.confusion if theirs else ()),
            ("gossip", found[0].ours.accuracy, story.mean_confusion),
        )
        for place, (name, accuracy, counts) in enumerate(pairs):
            if counts is None or not len(counts):
                continue
            matrix = np.asarray(counts, np.float64)
            shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
            left = column * width + 0.62
            bottom = height - above - (place + 1) * (_SIDE + _BETWEEN) + 0.5
            axes = look.place(figure, left, bottom, _SIDE, _SIDE)
            heat.draw(axes, look, np.sqrt(shares), 1.0)
            for (true, taken), share in np.ndenumerate(shares):
                if share >= 0.095:  # of two digits each: what is fainter is a colour
                    axes.text(
                        taken, true, f"{100 * share:.0f}", ha="center", va="center",
                        fontsize=look.small * 0.62,
                        color=look.theme.light if share > 0.35 else look.theme.black,
                    )  # fmt: skip
            axes.set_xticks(range(len(shares)), [str(digit) for digit in range(len(shares))])
            axes.set_yticks(range(len(shares)), [str(digit) for digit in range(len(shares))])
            axes.tick_params(labelsize=look.small * 0.85)
            axes.set_title(f"{row.id}, {name}: {100 * accuracy:.1f} %", size=look.font, pad=5)
            if place == 1:
                axes.set_xlabel("taken for", size=look.small)
            if column == 0:
                axes.set_ylabel("true digit", size=look.small)
    return figure


def labels(look: Look, stories: Stories) -> Figure:
    """How many images of each digit each worker holds, of the first seed: a column for each row."""
    width, tall = look.width / 4, 1.25
    height = 1.15 + 3 * (tall + 0.3) + 0.45
    figure = look.figure(height)
    figure.text(
        0.25 / look.width, 1 - 0.2 / height, "How many images of each digit each worker holds",
        va="top", weight="bold", size=look.font * 1.2,
    )  # fmt: skip
    most = max(max(counts) for story in stories.values() for counts in story.labels.values())
    for column, (row, story) in enumerate(stories.items()):
        for worker, counts in sorted(story.labels.items()):
            bottom = height - 1.15 - (worker + 1) * (tall + 0.3) + 0.3
            axes = look.place(figure, column * width + 0.75, bottom, width - 0.9, tall)
            axes.bar(range(len(counts)), counts, 0.8, color=look.theme.baselines["fedavg"])
            axes.set_ylim(0, 1.05 * most)
            axes.set_xticks(range(len(counts)), [str(digit) for digit in range(len(counts))])
            axes.tick_params(labelsize=look.small * 0.85)
            axes.grid(axis="y")
            if column == 0:
                axes.set_ylabel(f"worker {worker + 1}", size=look.small)
            else:
                axes.tick_params(labelleft=False)
            if worker == 0:
                axes.set_title(row.id, size=look.font, pad=5)
            if worker == max(story.labels):
                axes.set_xlabel("digit", size=look.small)
    return figure


def _mean(values: Sequence[float]) -> float:
    return statistics.mean(values) if values else float("nan")

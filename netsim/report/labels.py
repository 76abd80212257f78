"""Label histograms: how many training samples of each class each node holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from netsim.report import heat
from netsim.report.amounts import class_names
from netsim.report.look import Look
from netsim.report.shapes import draw_boxes
from netsim.report.story import Counts, Story

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Up to so many of them, cells have room for the numbers themselves.
NUMBERED_NODES = 24
NUMBERED_CLASSES = 26
NUMBERED_ACROSS = 12  # classes of a narrow picture
NAMED_CLASSES = 62
COLUMNS = 400  # of more nodes, a column shows the mean of several


def label_counts(by_node: Mapping[int, Sequence[int]], classes: Sequence[str]) -> tuple[Counts, list[str]]:
    """Histograms by node -> (C, N) samples, and C short names. Classes without a name are shown by number."""
    count = max([len(classes), *(len(row) for row in by_node.values())])
    counts = np.zeros((count, max(by_node, default=-1) + 1), np.int64)
    for node, row in by_node.items():
        counts[: len(row), node] = row
    return counts, class_names(classes, count)


def picture(look: Look, story: Story) -> Figure:
    """Classes by nodes, with each node's total; on a narrow screen nodes by classes."""
    counts, names = label_counts(story.labels, story.classes)
    if not counts.any():
        figure = look.figure(1.0)
        figure.text(0.5, 0.5, "no node has started", ha="center")
        return figure
    draw = _tall if look.narrow else _wide
    return draw(look, counts, names, story.adversaries)


def binned(counts: Counts) -> tuple[heat.Values, int]:
    """(C, N) -> (C, at most COLUMNS) means over neighbours, and how many nodes a column stands for."""
    nodes = counts.shape[1]
    step = -(-nodes // COLUMNS)
    edges = np.arange(0, nodes, step)
    sums = np.add.reduceat(counts.astype(np.float64), edges, axis=1)
    return sums / np.diff(np.append(edges, nodes)), step


def _wide(look: Look, counts: Counts, names: list[str], liars: Collection[int]) -> Figure:
    classes, nodes = counts.shape
    values, step = binned(counts)
    numbered = nodes <= NUMBERED_NODES and classes <= NUMBERED_CLASSES
    row = look.font / 72 * (1.9 if classes <= NUMBERED_CLASSES else 1.25)
    if classes > NAMED_CLASSES:
        row = 5.5 / classes
    left = 0.55 + (heat.text_width(look, names) if classes <= NAMED_CLASSES else 0.3)
    right = 0.15 if numbered else heat.bar_room(look)
    across = min(look.width - left - right, nodes * 0.8)
    above, top = (0.55, 0.7) if look.slide else (0.1, 0.6)
    height = classes * row
    figure = look.figure(0.55 + height + 0.08 + top + above, left + across + right)
    axes = look.place(figure, left, 0.55, across, height)
    most = _strongest(values, numbered)
    image = heat.draw(axes, look, values, most)
    if numbered:
        heat.draw_numbers(axes, look, values, most, lambda r, c: f"{counts[r, c]}")
    else:
        label = "samples of a class"
        heat.draw_bar(figure, look, image, (left + across + 0.12, 0.55, 0.13, height), label)
    _name_classes(axes.yaxis, look, names)
    ticks = heat.every(values.shape[1], across, look)
    axes.set_xticks(ticks, [str(tick * step) for tick in ticks])
    if step == 1:
        heat.mark(axes.xaxis, look, liars)
    axes.set_xlabel("node" if step == 1 else f"node (each column is the mean of {step})")
    bars = look.place(figure, left, 0.55 + height + 0.08, across, top)
    _draw_totals(bars, look, values, upright=True)
    _set_totals(bars, bars.yaxis, look)
    bars.set_xlim(-0.5, values.shape[1] - 0.5)
    bars.set_ylabel("total")
    if look.slide:
        bars.set_title("Training samples of each class, by node", pad=8)
    return figure


def _tall(look: Look, counts: Counts, names: list[str], liars: Collection[int]) -> Figure:
    classes, nodes = counts.shape
    values, step = binned(counts)
    numbered = classes <= NUMBERED_ACROSS and nodes <= 60
    row = look.font / 72 * 1.7 if nodes <= 60 else 5.5 / values.shape[1]
    long = max(map(len, names)) > 2
    above = 0.3 + (heat.text_width(look, names) if long and classes <= NAMED_CLASSES else 0.1)
    below = 0.2 if numbered else 0.75
    left, total = 0.62, 0.75
    across, height = look.width - left - total - 0.2, values.shape[1] * row
    figure = look.figure(below + height + above)
    axes = look.place(figure, left, below, across, height)
    most = _strongest(values, numbered)
    image = heat.draw(axes, look, values.T, most)
    if numbered:
        heat.draw_numbers(axes, look, values.T, most, lambda r, c: f"{counts[c, r]}")
    else:
        heat.draw_bar(figure, look, image, (left, 0.5, across, 0.12), "samples of a class")
    _name_classes(axes.xaxis, look, names)
    axes.xaxis.tick_top()
    if long:
        axes.tick_params(axis="x", rotation=90)
    ticks = heat.every(values.shape[1], height * 1.8, look)
    axes.set_yticks(ticks, [str(tick * step) for tick in ticks])
    if step == 1:
        heat.mark(axes.yaxis, look, liars)
    axes.set_ylabel("node" if step == 1 else f"node (a row is the mean of {step})")
    bars = look.place(figure, left + across + 0.08, below, total, height)
    _draw_totals(bars, look, values, upright=False)
    _set_totals(bars, bars.xaxis, look)
    bars.set_ylim(values.shape[1] - 0.5, -0.5)
    bars.xaxis.tick_top()
    bars.xaxis.set_label_position("top")
    bars.set_xlabel("total")
    return figure


def _strongest(values: heat.Values, numbered: bool) -> float:
    """Among very many cells a few odd ones would leave all others pale."""
    return float(values.max() if numbered else np.percentile(values[values > 0], 99.5))


def _name_classes(axis: Axis, look: Look, names: list[str]) -> None:
    """By name, or by number where there are very many."""
    if len(names) > NAMED_CLASSES:
        axis.set_ticks(heat.every(len(names), 3, look))
        axis.set_label_text("class")
        return
    axis.set_ticks(range(len(names)), names)
    if len(names) > NUMBERED_CLASSES:
        axis.set_tick_params(labelsize=look.small * 0.85)


def _draw_totals(bars: Axes, look: Look, values: heat.Values, *, upright: bool) -> None:
    """A bar for each column of (C, N) values: up from below, or to the right."""
    totals, places = values.sum(axis=0), np.arange(values.shape[1], dtype=np.float64)
    half = 0.4 if len(places) <= 100 else 0.5
    none, low, high = np.zeros_like(totals), places - half, places + half
    if upright:
        draw_boxes(bars, low, high, none, totals, look.theme.node)
    else:
        draw_boxes(bars, none, totals, low, high, look.theme.node)
    limit = 1.05 * float(totals.max()) or 1.0
    if upright:
        bars.set_ylim(0, limit)
    else:
        bars.set_xlim(0, limit)


def _set_totals(bars: Axes, axis: Axis, look: Look) -> None:
    """axis: along which the totals are measured."""
    from matplotlib.ticker import MaxNLocator

    upright = axis is bars.yaxis
    (bars.xaxis if upright else bars.yaxis).set_visible(False)
    axis.set_major_locator(MaxNLocator(3 if upright else 1, integer=True))
    bars.tick_params(length=0, labelsize=look.small)
    bars.spines[["bottom", "left"]].set_visible(False)
    bars.grid(axis="y" if upright else "x")

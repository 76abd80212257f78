"""Accuracy, loss and consensus distance over rounds, time and bytes: panels, and slides made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from netsim.report.amounts import accuracy_text, bytes_scale, counted, plain, seconds_scale
from netsim.report.look import Look
from netsim.report.series import (
    ACROSS,
    Across,
    Frame,
    Kind,
    Line,
    Measure,
    accuracy_range,
    frame,
    lines,
    loss_range,
)
from netsim.report.story import Story
from netsim.report.theme import DASHES, OTHER_DASHES, RULE_DASHES, Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Lines of nodes with more points together are drawn as pixels: as paths they would outweigh the page.
VECTOR_POINTS = 3000

# Lines of nodes in a picture. More make a grey surface, at the price of all the other pictures.
MOST_LINES = 300

SLIDE_ROW = 3.1  # inches
LEGEND_COLUMNS = 4

TITLES: dict[Measure, str] = {
    "accuracy": "Accuracy on held-out data",
    "loss": "Loss on held-out data",
    "distance": "Consensus distance of the nodes' weights",
}


@dataclass(frozen=True)
class Stroke:
    """How a line is drawn. width: points.  dashes: lengths in widths, empty for a solid line."""

    colour: str
    width: float
    dashes: tuple[float, ...] = ()
    alpha: float = 1.0

    @property
    def style(self) -> Any:
        return (0, self.dashes) if self.dashes else "-"


@dataclass(frozen=True)
class Entry:
    """One line of the legend. value: what the line ends with."""

    name: str
    value: str
    stroke: Stroke


def stroke(theme: Theme, kind: Kind, name: str, count: int = 1) -> Stroke:
    """count: how many lines of this kind there are; the more, the fainter is each."""
    if kind in ("node", "adversary"):
        colour = theme.node if kind == "node" else theme.adversary
        return Stroke(colour, 0.8, alpha=min(0.75, max(0.12, 15 / count)))
    if kind == "isolated":
        return Stroke(theme.isolated, 1.8)
    if kind == "baseline":
        kind_of, _, rule = name.partition(":")
        dashes = RULE_DASHES.get(rule.partition(":")[0]) or DASHES.get(name, OTHER_DASHES)
        return Stroke(theme.baselines.get(kind_of, theme.muted), 1.5, dashes)
    if kind == "mean of nodes":
        return Stroke(theme.collective, 1.9, (1, 1))
    return Stroke(theme.collective, 2.2)


def legend(theme: Theme, story: Story) -> list[Entry]:
    """What the panels of accuracy show, each with its final accuracy."""
    shown = lines(story, "accuracy", "round")
    entries = []
    for kind in ("node", "adversary"):
        alike = [line for line in shown if line.kind == kind]
        if alike:
            one, many = ("adversary", "adversaries") if kind == "adversary" else ("node", "nodes")
            if kind == "node" and story.adversaries:
                one, many = "honest node", "honest nodes"
            name = f"1 {one}" if len(alike) == 1 else f"{len(alike):,} {many}"
            # Of nodes, those that ran to the end: what a crashed one had reached is no result of the run.
            ends = [line.ys[-1] for line in alike if int(line.name) in story.final or not story.final]
            ends = [end for end in ends or [line.ys[-1] for line in alike] if math.isfinite(end)]
            entries.append(Entry(name, _spread(ends), stroke(theme, kind, "")))
    for line in reversed(shown):
        if line.kind not in ("node", "adversary"):
            entries.append(
                Entry(line.name, accuracy_text(float(line.ys[-1])), stroke(theme, line.kind, line.name))
            )
    return entries


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return accuracy_text(values[0] if values else None)
    return f"{accuracy_text(min(values))} to {accuracy_text(max(values))}"


def panel(look: Look, story: Story, measure: Measure, across: Across) -> Figure:
    """One panel for the page."""
    figure, axes = alone(look)
    draw(axes, look, story, measure, across)
    return figure


def alone(look: Look) -> tuple[Figure, Axes]:
    """A panel of its own; its margins are those of all others, so that columns and rows align."""
    figure = look.figure(0.7 * look.width)
    width, height = figure.get_size_inches()
    return figure, look.place(figure, 0.52, 0.48, width - 0.7, height - 0.58)


def slide(look: Look, story: Story, measures: Sequence[Measure]) -> Figure:
    """Rows of measures, columns of axes, one legend below."""
    shown = [measure for measure in measures if lines(story, measure, "time")]
    entries = legend(look.theme, story) if "accuracy" in shown else []
    return grid(look, title(story), shown, entries, partial(draw, look=look, story=story))


def grid(
    look: Look,
    heading: str,
    measures: Sequence[Measure],
    entries: Sequence[Entry],
    panel: Callable[..., None],
) -> Figure:
    """panel: called with axes, measure, across for each measure's row and each column."""
    below = 0.3 + 0.26 * math.ceil(len(entries) / LEGEND_COLUMNS)  # inches
    height = 0.65 + SLIDE_ROW * max(1, len(measures)) + below
    figure = look.figure(height)
    figure.text(0.25 / look.width, 1 - 0.2 / height, heading, va="top", weight="bold", size=look.font * 1.2)
    width = look.width / 3
    for row, measure in enumerate(measures):
        bottom = height - 0.65 - SLIDE_ROW * (row + 1) + 0.6
        for column, across in enumerate(ACROSS):
            axes = look.place(figure, column * width + 0.75, bottom, width - 0.95, SLIDE_ROW - 0.9)
            panel(axes, measure=measure, across=across)
            if column == 0:
                axes.set_title(TITLES[measure], size=look.font)
    if not measures:
        figure.text(0.5, 0.5, "nothing was evaluated", ha="center")
    if entries:
        draw_legend(figure, entries)
    return figure


def draw(axes: Axes, look: Look, story: Story, measure: Measure, across: Across) -> None:
    shown = lines(story, measure, across)
    window = frame(story, across)
    unit = set_across(axes, look, across, window, story.clock)
    if across == "time":
        for cut in story.lives.cuts:
            end = story.end if cut.end is None else cut.end
            axes.axvspan(
                cut.start / unit, end / unit, color=look.theme.cut, alpha=0.13, linewidth=0, zorder=0
            )
    _draw_nodes(axes, look.theme, [line for line in shown if line.kind in ("node", "adversary")], unit)
    for line in shown:
        if line.kind not in ("node", "adversary"):
            _draw_line(axes, look.theme, line, unit, window)
    set_up(axes, lines(story, measure, "time"), measure)


def _draw_nodes(axes: Axes, theme: Theme, shown: Sequence[Line], unit: float) -> None:
    from matplotlib.collections import LineCollection

    pixels = sum(line.xs.size for line in shown) > VECTOR_POINTS
    for kind in ("node", "adversary"):
        alike = spread([line for line in shown if line.kind == kind])
        if not alike:
            continue
        how = stroke(theme, kind, "", len(alike))
        segments = [np.column_stack([line.xs / unit, line.ys]) for line in alike if line.xs.size > 1]
        collection = LineCollection(segments, colors=how.colour, linewidths=how.width, alpha=how.alpha)
        collection.set_rasterized(pixels)
        axes.add_collection(collection, autolim=False)
        dots = np.array([(line.xs[0] / unit, line.ys[0]) for line in alike if line.xs.size == 1])
        if dots.size:
            axes.plot(*dots.T, "o", color=how.colour, alpha=max(how.alpha, 0.4), markersize=3, zorder=2)


def spread(alike: Sequence[Line]) -> list[Line]:
    """At most MOST_LINES of them: the best, the worst, and evenly between by what they end with."""
    if len(alike) <= MOST_LINES:
        return list(alike)
    ends = [line.ys[-1] if line.ys.size else math.nan for line in alike]
    order = np.argsort(ends, kind="stable")
    chosen = np.linspace(0, len(alike) - 1, MOST_LINES).round().astype(int)
    return [alike[index] for index in sorted(order[chosen])]


def _draw_line(axes: Axes, theme: Theme, line: Line, unit: float, window: Frame) -> None:
    how = stroke(theme, line.kind, line.name)
    xs = line.xs / unit
    if xs.size > 1 and xs[-1] == xs[0]:
        # It sends nothing, or all of it at once: what it reaches is there whatever the others have sent.
        xs = np.array([0.0, window.limit / unit])
        line = Line(line.kind, line.name, xs, np.repeat(line.ys[-1], 2))
    if line.low is not None and line.high is not None:
        axes.fill_between(xs, line.low, line.high, color=how.colour, alpha=0.13, linewidth=0, zorder=1)
    axes.plot(xs, line.ys, color=how.colour, linewidth=how.width, linestyle=how.style, zorder=4)
    if line.kind == "distance" or xs.size == 1:
        axes.plot(xs, line.ys, "o", color=how.colour, markersize=3.2 if xs.size < 60 else 1.5, zorder=4)


def set_across(axes: Axes, look: Look, across: Across, window: Frame, clock: str) -> float:
    """Limits, ticks and name of the horizontal axis; returns what values are divided by."""
    from matplotlib.ticker import MaxNLocator

    if across == "round":
        _set_rounds(axes, look, window)
        return 1.0
    scale = seconds_scale(window.last) if across == "time" else bytes_scale(window.last)
    axes.set_xlim(0, window.last / scale.factor * 1.01)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    axes.set_xlabel(f"{clock} ({scale.unit})" if across == "time" else f"sent by all nodes ({scale.unit})")
    return scale.factor


def _set_rounds(axes: Axes, look: Look, window: Frame) -> None:
    """Whole rounds, and `end` for the models after the last exchanges."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    first, last, end = window.first, window.last, window.end
    step = max(1.0, float(MaxNLocator(6, integer=True).tick_values(0, last)[1]))
    ticks = [first, *(tick for tick in np.arange(step, last, step) if first < tick < last - 0.6 * step), last]
    if end is not None:
        axes.axvspan(last, end, color=look.theme.grid, alpha=0.6, zorder=0, linewidth=0)
        ticks.append(end)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: "end" if x == end else f"{x:g}"))
    axes.set_xlim(min(first, 1.0), window.limit * 1.005)
    axes.set_xlabel("rounds completed")


def set_up(axes: Axes, shown: Sequence[Line], measure: Measure) -> None:
    """Limits of the vertical axis, and its grid. shown: the same for a whole row of panels."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    values = np.concatenate([line.ys for line in shown]) if shown else np.array([])
    values = values[np.isfinite(values)]
    if measure == "accuracy":
        axes.set_ylim(*accuracy_range([*values]))
    elif measure == "loss":
        axes.set_ylim(*loss_range(shown))
    elif values.size and values.min() > 0 and values.max() > 30 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, 1.06 * float(values.max(initial=0.0)) or 1.0)
    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    axes.grid(axis="y", linewidth=0.8)
    axes.tick_params(length=3)
    axes.tick_params(axis="y", length=0)


def draw_legend(figure: Figure, entries: Sequence[Entry]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=e.stroke.colour, linewidth=e.stroke.width, linestyle=e.stroke.style)
        for e in entries
    ]
    figure.legend(
        handles,
        [f"{entry.name}  {entry.value}" for entry in entries],
        loc="lower center",
        ncols=min(LEGEND_COLUMNS, len(entries)),
        handlelength=2.6,
        columnspacing=1.8,
        bbox_to_anchor=(0.5, 0.02),
        borderaxespad=0,
    )


def title(story: Story) -> str:
    """`mnist, cnn, 20 nodes, dirichlet:0.5`, of what the configuration says."""
    config = story.config
    parts = (
        config.get("dataset", ""), config.get("model", ""), counted(story.nodes, "node"),
        config.get("partition", ""),
    )  # fmt: skip
    return ", ".join(plain(str(part)) for part in parts if part)

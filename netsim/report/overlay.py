"""The collective curves of several runs in the same panels, over rounds, time and bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from netsim.report import curves
from netsim.report.amounts import accuracy_text
from netsim.report.curves import Entry, Stroke
from netsim.report.look import Look
from netsim.report.series import COLLECTIVE, Across, Frame, Kind, Line, Measure, collective, frame
from netsim.report.story import Story
from netsim.report.theme import Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

APART = 20  # times as long, or as many bytes: from there on an axis is logarithmic
# After all colours have been used once they come again, dashed.
_DASHES: tuple[tuple[float, ...], ...] = ((), (4, 1.5), (1.5, 1.2), (6, 1.5, 1.5, 1.5))


@dataclass(frozen=True)
class Compared:
    """A run beside others. name: tells it from them.  figures: of its summary.json, from its journal."""

    name: str
    story: Story
    figures: dict[str, Any]


def kind_of(runs: Sequence[Compared]) -> Kind:
    """Which of the two collective lines most of the runs have; of equal ones the mean model's."""

    def known(kind: Kind) -> int:
        found = (collective(run.story, kind, "accuracy", "time") for run in runs)
        return sum(line is not None and line.xs.size > 1 for line in found)

    return max(reversed(COLLECTIVE), key=known)


def stroke(theme: Theme, index: int) -> Stroke:
    """Of the run at this place in the row."""
    colours = theme.distinct
    return Stroke(colours[index % len(colours)], 2.0, _DASHES[index // len(colours) % len(_DASHES)])


def legend(theme: Theme, runs: Sequence[Compared], measure: Measure) -> list[Entry]:
    """Every run, with what its line ends with: a distance, or else an accuracy."""
    entries = []
    for index, run in enumerate(runs):
        line = collective(
            run.story, kind_of(runs), "distance" if measure == "distance" else "accuracy", "time"
        )
        last = math.nan if line is None else float(line.ys[-1])
        value = f"{last:.3g}" if measure == "distance" and math.isfinite(last) else accuracy_text(last)
        entries.append(Entry(run.name, value, stroke(theme, index)))
    return entries


def measured(runs: Sequence[Compared], measure: Measure) -> bool:
    """Whether any of them has a line to show."""
    return any(collective(run.story, kind_of(runs), measure, "time") is not None for run in runs)


def panel(look: Look, runs: Sequence[Compared], measure: Measure, across: Across) -> Figure:
    figure, axes = curves.alone(look)
    draw(axes, look, runs, measure, across)
    return figure


def slide(look: Look, runs: Sequence[Compared], measures: Sequence[Measure]) -> Figure:
    shown = [measure for measure in measures if measured(runs, measure)]
    heading = f"{len(runs)} runs: {kind_of(runs)}" if "accuracy" in shown else f"{len(runs)} runs"
    make = partial(draw, look=look, runs=runs)
    return curves.grid(look, heading, shown, legend(look.theme, runs, measures[0]), make)


def draw(axes: Axes, look: Look, runs: Sequence[Compared], measure: Measure, across: Across) -> None:
    clocks = {run.story.clock for run in runs}
    clock = clocks.pop() if len(clocks) == 1 else "time"
    unit = curves.set_across(axes, look, across, _frame(runs, across), clock)
    if across != "round":
        _stretch(axes, [end / unit for end in _ends(runs, across)])
    for index, run in enumerate(runs):
        line = collective(run.story, kind_of(runs), measure, across)
        if line is not None:
            _draw_line(axes, stroke(look.theme, index), line, unit)
    # The vertical axis is that of the whole row.
    row = [collective(run.story, kind_of(runs), measure, "time") for run in runs]
    curves.set_up(axes, [line for line in row if line is not None], measure)


def _draw_line(axes: Axes, how: Stroke, line: Line, unit: float) -> None:
    axes.plot(line.xs / unit, line.ys, color=how.colour, linewidth=how.width, linestyle=how.style, zorder=3)
    axes.plot(line.xs[-1:] / unit, line.ys[-1:], "o", color=how.colour, markersize=4.5, zorder=4)


def _stretch(axes: Axes, ends: Sequence[float]) -> None:
    """A logarithmic axis where the shortest run would be a speck beside the longest."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if len(ends) < 2 or max(ends) < APART * min(ends):
        return
    axes.set_xscale("log")
    axes.set_xlabel(f"{axes.get_xlabel()}, logarithmic")
    axes.set_xlim(min(ends) / APART, 1.1 * max(ends))
    axes.xaxis.set_major_locator(LogLocator(10, numticks=6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _frame(runs: Sequence[Compared], across: Across) -> Frame:
    """As far as the longest run goes."""
    if across == "round":
        frames = [frame(run.story, "round") for run in runs]
        return Frame(min(each.first for each in frames), max(each.last for each in frames), None)
    return Frame(0.0, max(_ends(runs, across), default=1.0), None)


def _ends(runs: Sequence[Compared], across: Across) -> list[float]:
    """When each run was over, or what it had sent by then; without those that came to nothing."""
    ends = [run.story.end if across == "time" else float(run.story.bytes) for run in runs]
    return [end for end in ends if end > 0]

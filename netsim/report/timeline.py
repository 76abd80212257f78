"""A timeline of the run: what every node was doing when, what struck it, and when the network was cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import numpy as np
import numpy.typing as npt

from netsim.report import heat
from netsim.report.amounts import counted, seconds_scale
from netsim.report.lives import FATES, Doing, Spell
from netsim.report.look import Look
from netsim.report.shapes import draw_boxes
from netsim.report.story import Story

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Up to so many nodes have a row each. More are sorted by their fate and drawn as pixels.
ROWS = 60
PIXELS = 400  # rows of the sorted picture
LEAST = 0.05  # of the height: the smallest group is still seen

NAMES: dict[Doing, str] = {
    "absent": "not there yet",
    "waiting": "waiting for peers",
    "training": "training",
    "settling": "settling",
    "done": "done",
    "hung": "hung",
    "down": "crashed",
    "left": "left",
}


def picture(look: Look, story: Story) -> Figure:
    each = story.nodes <= ROWS
    ended = story.end or 1.0
    spells = {node: story.lives.spells(node, ended) for node in range(story.nodes)}
    groups = [] if each else _groups(story)
    names = [f"{fate} ({len(nodes):,})" for fate, nodes in groups]
    left = 0.62 if each else 0.2 + heat.text_width(look, names) * (0.62 if look.narrow else 0.95)
    row = look.font / 72 * 1.45
    height = min(story.nodes * row, 5.4) if look.slide else max(1.0, story.nodes * row)
    height = height if each else 4.6
    seen = _seen(spells)
    lines = -(-len(seen) // (3 if look.narrow else 8))
    above = 0.04 + lines * look.font / 72 * 1.7 + (0.35 if look.slide else 0.0)
    if story.lives.cuts:
        above += look.font / 72 * 1.5
    figure = look.figure(0.55 + height + above)
    axes = look.place(figure, left, 0.55, look.width - left - 0.15, height)
    scale = seconds_scale(ended)
    if each:
        _draw_rows(axes, look, story, spells, scale.factor, height / story.nodes)
    else:
        _draw_groups(axes, look, groups, spells, ended, ended / scale.factor)
    _draw_cuts(axes, look, story, ended, scale.factor)
    axes.set_xlim(0, ended / scale.factor)
    axes.set_xlabel(f"{story.clock} ({scale.unit})")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    _draw_legend(figure, look, seen, left)
    if look.slide:
        place = (0.15 / look.width, 1 - 0.12 / figure.get_figheight())
        figure.text(*place, "What the nodes did, and what struck them", va="top", weight="bold")
    return figure


def _seen(spells: dict[int, list[Spell]]) -> list[Doing]:
    """The states that appear, in the order of a node's life; nothing is drawn for those that have left."""
    found = {spell.doing for lived in spells.values() for spell in lived}
    return [doing for doing in get_args(Doing) if doing in found and doing != "left"]


def _draw_rows(
    axes: Axes, look: Look, story: Story, spells: dict[int, list[Spell]], unit: float, row: float
) -> None:
    from matplotlib.collections import LineCollection

    for doing in _seen(spells):
        spans = np.array(
            [
                (s.start / unit, s.end / unit, node)
                for node in spells
                for s in spells[node]
                if s.doing == doing
            ]
        )
        starts, ends, rows = spans.T
        if doing == "absent":
            dotted = np.stack([np.column_stack([starts, rows]), np.column_stack([ends, rows])], axis=1)
            axes.add_collection(
                LineCollection([*dotted], colors=look.theme.muted, linewidths=1, linestyles=":")
            )
            continue
        draw_boxes(axes, starts, ends, rows - 0.38, rows + 0.38, look.theme.doing[doing])
    axes.set_ylim(story.nodes - 0.5, -0.5)
    ticks = heat.every(story.nodes, row * story.nodes * 2.2, look)
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    heat.mark(axes.yaxis, look, story.adversaries)
    axes.set_ylabel("node")


def _groups(story: Story) -> list[tuple[str, list[int]]]:
    """Nodes by fate, those that were struck first first."""
    fates = {node: story.lives.fate(node) for node in range(story.nodes)}
    nodes = sorted(fates, key=lambda node: (story.lives.first_fault(node), node))
    groups = [(str(fate), [node for node in nodes if fates[node] == fate]) for fate in FATES]
    return [(fate, members) for fate, members in groups if members]


def _draw_groups(
    axes: Axes,
    look: Look,
    groups: list[tuple[str, list[int]]],
    spells: dict[int, list[Spell]],
    ended: float,
    width: float,
) -> None:
    shares = np.array([len(members) for _, members in groups], np.float64)
    shares = np.maximum(shares / shares.sum(), LEAST)
    heights = np.maximum(1, np.round(PIXELS * shares / shares.sum())).astype(int)
    columns = 500 if look.narrow else 1000
    gap = 3  # pixels between groups
    rows: list[npt.NDArray[np.float64]] = []
    ticks = []
    for height, (_, members) in zip(heights, groups, strict=True):
        ticks.append(len(rows) + height / 2)
        for place in np.linspace(0, len(members) - 1, height).round().astype(int):
            rows.append(_pixels(look, spells[members[place]], ended, columns))
        rows += [np.zeros((columns, 4))] * gap
    pixels = np.array(rows[:-gap])
    axes.imshow(pixels, extent=(0, width, len(pixels), 0), aspect="auto", interpolation="none")
    axes.set_yticks(ticks, [_group_name(look, fate, len(members)) for fate, members in groups])
    axes.tick_params(axis="y", labelsize=look.small)


def _group_name(look: Look, fate: str, count: int) -> str:
    return f"{fate.replace(', ', chr(10))}\n({count:,})" if look.narrow else f"{fate} ({count:,})"


def _pixels(look: Look, lived: list[Spell], ended: float, columns: int) -> npt.NDArray[np.float64]:
    """One node's time as a row of colours, (columns, 4); clear where it is not there."""
    from matplotlib.colors import to_rgba

    row = np.zeros((columns, 4))
    for spell in lived:
        if spell.doing not in ("absent", "left"):
            first, last = (round(moment / ended * columns) for moment in (spell.start, spell.end))
            row[first : max(last, first + 1)] = to_rgba(look.theme.doing[spell.doing])
    return row


def _draw_cuts(axes: Axes, look: Look, story: Story, ended: float, unit: float) -> None:
    colour = look.theme.cut
    for cut in story.lives.cuts:
        start, end = cut.start / unit, (ended if cut.end is None else cut.end) / unit
        axes.axvspan(start, end, facecolor="none", edgecolor=colour, hatch="//", alpha=0.7, linewidth=0)
        for edge in (start, end):
            axes.axvline(edge, color=colour, linewidth=1)
        parts = " | ".join(str(len(part)) for part in cut.parts)
        middle = min(max((start + end) / 2, 0.08 * ended / unit), 0.92 * ended / unit)
        axes.annotate(
            f"cut {parts}" if len(parts) < 16 else f"cut into {len(cut.parts)}",
            (middle, 1),
            (0, 4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=colour,
            fontsize=look.small,
        )


def _draw_legend(figure: Figure, look: Look, seen: list[Doing], left: float) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Line2D([], [], linestyle=":", color=look.theme.muted)
        if doing == "absent"
        else Patch(facecolor=look.theme.doing[doing])
        for doing in seen
    ]
    top = 0.4 if look.slide else 0.02
    figure.legend(
        handles,
        [NAMES[doing] for doing in seen],
        loc="upper left",
        bbox_to_anchor=(left / look.width, 1 - top / figure.get_figheight()),
        ncols=3 if look.narrow else 8,
        borderaxespad=0,
        borderpad=0,
        handlelength=1.3,
        handletextpad=0.5,
        columnspacing=1.2,
        frameon=False,
    )


def described(story: Story) -> str:
    """For those who do not see the picture."""
    struck = [story.lives.fate(node) for node in range(story.nodes)]
    parts = [f"{counted(struck.count(fate), 'node')}: {fate}" for fate in FATES if fate in struck]
    if story.lives.cuts:
        parts.append(counted(len(story.lives.cuts), "cut") + " of the network")
    return "; ".join(parts)

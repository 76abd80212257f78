"""Pictures of part D: clients that train on wrong labels, the server's rule, and gossip."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from netsim.literature.results import Found
from netsim.literature.rows import Row
from netsim.report.look import Look
from netsim.report.story import Story

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEIGHT = 6.0  # inches
# By the end of a row's id: the rule, its curve's dashes and mark, since colours are not enough for everybody.
_RULES = {
    "mean": ("mean", "-", "s"),
    "median": ("median", "--", "o"),
    "trimmed-2": ("trimmed 20 %", "-.", "^"),
    "trimmed-4": ("trimmed 40 %", ":", "v"),
}


def shares(look: Look, results: Mapping[Row, Sequence[Found]]) -> Figure:
    """D2: accuracy over the share of clients that lie; bars are from the worst to the best seed."""
    figure, theme, colours = look.figure(_HEIGHT), look.theme, _colours(look)
    axes = look.place(figure, 0.9, 0.7, look.width - 1.2, _HEIGHT - 2.0)
    for rule, where in (("mean", "at fan-out 6"), ("median", "on the complete graph")):
        rows = sorted((row.liars or 0, row) for row in results if row.id.endswith(f"-{rule}"))
        if not rows:
            continue
        xs, mark = [100 * share for share, _ in rows], _RULES[rule][2]
        published = [float(row.points[-1].published) for _, row in rows]
        axes.plot(xs, published, mark, ls=":", color=theme.muted, label=f"server, {rule}, published", lw=1.8)
        theirs = [[100 * at.accuracy for one in results[row] if (at := one.at(0))] for _, row in rows]
        ours = [[100 * one.ours.accuracy for one in results[row]] for _, row in rows]
        for name, values, colour, dash in (
            (f"server, {rule}, here", theirs, colours[rule], "--"),
            (f"gossip by median {where}", ours, theme.collective, "-"),
        ):
            middle = [statistics.mean(of_seeds) for of_seeds in values]
            below = [mean - min(of_seeds) for mean, of_seeds in zip(middle, values, strict=True)]
            above = [max(of_seeds) - mean for mean, of_seeds in zip(middle, values, strict=True)]
            axes.errorbar(
                xs, middle, yerr=(below, above), fmt=mark, ls=dash, color=colour, label=name, lw=2, capsize=3
            )
    axes.set_ylim(0, 100)
    axes.grid(axis="y")
    axes.set_xlabel("share of the 20 clients that train on labels 9 - y, %")
    axes.set_ylabel("accuracy, %")
    axes.set_title("One aggregation by a server, and gossip, with clients that flip labels", pad=62)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def steps(look: Look, stories: Mapping[Row, Story]) -> Figure:
    """D3: accuracy over local steps, a panel for each share of liars; of the honest nodes, of one seed."""
    figure, theme, colours = look.figure(_HEIGHT), look.theme, _colours(look)
    figure.text(
        0.25 / look.width, 1 - 0.2 / _HEIGHT,
        "A server that averages after every step, and gossip, over local steps",
        va="top", weight="bold", size=look.font * 1.2,
    )  # fmt: skip
    panels = sorted({row.liars or 0.0 for row in stories})
    width = (look.width - 0.9) / len(panels)
    for column, share in enumerate(panels):
        rows = [row for row in stories if row.liars == share]
        axes = look.place(figure, 0.9 + column * width, 0.7, width - 0.3, _HEIGHT - 2.5)
        for row in rows:
            rule = row.id.split("-", 2)[2]
            name, dash, mark = _RULES[rule]
            laps = stories[row].baselines.get(row.method, [])
            xs = [lap.round * _steps(stories[row]) for lap in laps]
            axes.plot(
                xs, [100 * lap.accuracy for lap in laps], mark, ls=dash, color=colours[rule],
                label=f"server, {name}", lw=1.8,
            )  # fmt: skip
        story = stories[rows[0]]
        points = story.mean_of_nodes()
        axes.plot(
            [point.round * _steps(story) for point in points], [100 * point.accuracy for point in points],
            color=theme.collective, lw=2.6, label="gossip by median, mean of the nodes",
        )  # fmt: skip
        axes.set_ylim(0, 100)
        axes.grid(axis="y")
        axes.set_xlim(left=0)
        axes.set_xlabel("local steps")
        axes.set_title(f"{100 * share:.0f} % flip labels", size=look.font, pad=72)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=look.small)
        if column == 0:
            axes.set_ylabel("accuracy, %")
        else:
            axes.tick_params(labelleft=False)
    return figure


def _colours(look: Look) -> dict[str, str]:
    """Of the server's curves, by the end of a row's id."""
    theme = look.theme
    return {
        "mean": theme.baselines["cyclic"],
        "median": theme.baselines["fedavg"],
        "trimmed-2": theme.isolated,
        "trimmed-4": theme.baselines["d-psgd"],
    }


def _steps(story: Story) -> int:
    """Local steps in a round of a node."""
    return int(story.config.get("local-steps") or 1)

"""Pictures of part C: ten nodes, from even data to one digit each."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from netsim.literature.results import Found
from netsim.literature.rows import Row
from netsim.report.look import Look
from netsim.report.story import Story

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEIGHT = 5.5  # inches


def dial(look: Look, results: Mapping[Row, Sequence[Found]]) -> Figure:
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


def losses(look: Look, stories: Mapping[Row, Story]) -> Figure:
    """The authors' own picture, a panel for each row: held-out loss over local steps, of the first seed.

    Thin grey: each node's own loss.  Orange: nodes that train as often and never communicate, on average.
    Green: the mean of all nodes' models.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    theme, columns = look.theme, len(stories)
    figure = look.figure(_HEIGHT)
    figure.text(
        0.25 / look.width, 1 - 0.2 / _HEIGHT,
        "Ten nodes: the loss of each, of one that never communicates, and of the collective model",
        va="top", weight="bold", size=look.font * 1.2,
    )  # fmt: skip
    width = (look.width - 0.9) / columns
    for column, (row, story) in enumerate(stories.items()):
        steps = int(story.config.get("local-steps") or 1)
        axes = look.place(figure, 0.9 + column * width, 0.7, width - 0.3, _HEIGHT - 2.05)
        for node, points in sorted(story.curves.items()):
            axes.plot(
                [steps * point.round for point in points if not point.settled],
                [point.loss for point in points if not point.settled],
                color=theme.node, lw=0.8, alpha=0.8, label="each node" if node == 0 else None,
            )  # fmt: skip
        alone = story.baselines.get("isolated", [])
        axes.plot(
            [steps * lap.round for lap in alone], [lap.loss for lap in alone], "--", color=theme.isolated,
            lw=2.2, label="never communicating",
        )  # fmt: skip
        axes.plot(
            [steps * point.round for point in story.mean if not point.settled],
            [point.loss for point in story.mean if not point.settled],
            color=theme.collective, lw=2.4, label="collective model",
        )  # fmt: skip
        axes.set_yscale("log")
        axes.set_ylim(*_limits(stories.values()))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.grid(axis="y")
        axes.set_xlabel("local steps of a node")
        axes.set_title(row.setting, size=look.font, pad=6)
        if column == 0:
            axes.set_ylabel("loss on held-out data")
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.09), ncols=3)
        else:
            axes.tick_params(labelleft=False, which="both")
    return figure


def _limits(stories: Iterable[Story]) -> tuple[float, float]:
    """Of every panel alike, so that heights compare."""
    seen: list[float] = []
    for story in stories:
        seen += [point.loss for points in story.curves.values() for point in points]
        seen += [point.loss for point in story.mean]
        seen += [lap.loss for lap in story.baselines.get("isolated", ())]
    seen = [loss for loss in seen if math.isfinite(loss) and loss > 0] or [0.1, 1.0]
    return 0.8 * min(seen), 1.25 * max(seen)


def _mean(values: Sequence[float]) -> float:
    return statistics.mean(values) if values else float("nan")

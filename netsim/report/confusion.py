"""Confusion matrices: of a class's samples, which share was taken for which class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netsim.report import heat
from netsim.report.amounts import accuracy_text, class_names
from netsim.report.look import Look
from netsim.report.story import Counts, Story

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NUMBERED_CLASSES = 14  # more have no room for numbers in their cells
NAMED_CLASSES = 40


def matrices(story: Story) -> list[tuple[str, str, Counts]]:
    """(whose, how accurate, counts): the mean model and the worst of the honest nodes, if they are known."""
    found = []
    if story.mean_confusion is not None and story.mean_final is not None:
        found.append(("Mean model", accuracy_text(story.mean_final.accuracy), story.mean_confusion))
    if story.worst_confusion is not None and story.worst is not None:
        accuracy = accuracy_text(story.final[story.worst].accuracy)
        found.append((f"Worst node: {story.worst}", accuracy, story.worst_confusion))
    return found


def matrix(look: Look, story: Story, index: int) -> Figure:
    """One matrix for the page."""
    margin = _margin(look, story, look.width)
    side = look.width - margin - 0.12
    figure = look.figure(margin + side + 0.08)
    _draw(look.place(figure, margin, margin, side, side), look, story, index)
    return figure


def slide(look: Look, story: Story) -> Figure:
    """All matrices side by side."""
    width = look.width / 2
    margin = _margin(look, story, width)
    side = min(width - margin - 0.3, 5.6)
    figure = look.figure(margin + side + 0.6)
    for index, (whose, accuracy, _) in enumerate(matrices(story)):
        axes = look.place(figure, index * width + margin, margin, side, side)
        _draw(axes, look, story, index)
        axes.set_title(f"{whose}, accuracy {accuracy}", pad=10)
    return figure


def _margin(look: Look, story: Story, width: float) -> float:
    """Inches for names on the left and below."""
    names = _names(story)
    beside = heat.text_width(look, names) if len(names) <= NAMED_CLASSES else 0.35
    return min(0.4 + max(0.18, beside), width * 0.4)


def _names(story: Story) -> list[str]:
    return class_names(story.classes, len(matrices(story)[0][2]))


def _draw(axes: Axes, look: Look, story: Story, index: int) -> None:
    counts = matrices(story)[index][2]
    names = _names(story)
    # The square root: of a good model the mistakes are a few per cent, and they are what one looks for.
    shares = np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    heat.draw(axes, look, shares, 1.0)
    if len(names) <= NUMBERED_CLASSES:
        heat.draw_numbers(axes, look, shares, 1.0, lambda row, column: f"{counts[row, column]}")
    if len(names) <= NAMED_CLASSES:
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), names)
        if max(map(len, names)) > 3:
            axes.tick_params(axis="x", rotation=90)
        if len(names) > NUMBERED_CLASSES:
            axes.tick_params(labelsize=look.small * 0.9)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")

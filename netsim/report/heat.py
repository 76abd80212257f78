"""Heat maps: a matrix as coloured cells, with numbers where there is room."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from netsim.report.look import Look
from netsim.report.theme import DARK, LIGHT, Theme, contrast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

Values = npt.NDArray[np.float64]

CHARACTER = 0.62  # of the font's size: how wide a character is, on average


def colours(theme: Theme) -> Colormap:
    return _scale(theme.heat)


@cache
def _scale(heat: tuple[str, ...]) -> Colormap:
    """Kept: its 256 shades are looked up for every cell, and made anew by every new map."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("heat", heat).with_extremes(bad=(0.0, 0.0, 0.0, 0.0))


def draw(axes: Axes, look: Look, values: Values, most: float) -> Any:
    """values: (R, C), 0 stays empty.  most: the value of the strongest colour. Returns the image."""
    image = axes.imshow(
        np.where(values > 0, values, np.nan),
        aspect="auto",
        # A page then holds a pixel for each cell, and the browser draws the cells.
        interpolation="none",
        cmap=colours(look.theme),
        vmin=0,
        vmax=most or 1,
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def draw_numbers(
    axes: Axes, look: Look, values: Values, most: float, text: Callable[[int, int], str]
) -> None:
    """text(row, column) in every cell that is not empty, if all have room, in the ink that reads better."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    cell = axes.bbox.width / figure.dpi / values.shape[1]
    cells = [text(row, column) for row, column in zip(*np.nonzero(values > 0), strict=True)]
    if text_width(look, cells) > 1.05 * cell:
        return
    for (row, column), value in np.ndenumerate(values):
        if value > 0:
            ink = _inks()[round(255 * min(1.0, float(value) / (most or 1)))]
            axes.text(
                column,
                row,
                text(row, column),
                ha="center",
                va="center",
                fontsize=look.small,
                color=getattr(look.theme, ink),
            )


def draw_bar(
    figure: Figure, look: Look, image: Any, box: tuple[float, float, float, float], label: str
) -> None:
    """A scale of colours in a box of inches; along the longer side."""
    from matplotlib.ticker import MaxNLocator

    upright = box[3] > box[2]
    axes = look.place(figure, *box)
    bar = figure.colorbar(image, cax=axes, orientation="vertical" if upright else "horizontal")
    bar.set_label(label)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    bar.locator = MaxNLocator(4)
    bar.update_ticks()


def bar_room(look: Look) -> float:
    """Inches that a scale of colours takes at the side of a picture, with its numbers and name."""
    return 0.25 + look.font / 72 * 5.2


def text_width(look: Look, texts: Sequence[str]) -> float:
    """Inches that the longest of them takes, roughly: enough for a margin."""
    return max((len(text) for text in texts), default=0) * look.font * CHARACTER / 72


def mark(axis: Axis, look: Look, nodes: Collection[int]) -> None:
    """Their numbers on an axis of nodes in the adversaries' colour, and bold."""
    for label in axis.get_ticklabels():
        if label.get_text().isdecimal() and int(label.get_text()) in nodes:
            label.set(color=look.theme.adversary, fontweight="bold")


def every(count: int, room: float, look: Look) -> list[int]:
    """Which of `count` places in `room` inches get a number beside them: all, or every 2nd, 5th, 10th, ...

    The last one fits; numbers have up to five digits when they stand next to each other.
    """
    needed = look.font * CHARACTER * (len(str(count)) + 1.5) / 72
    for step in (s * 10**power for power in range(9) for s in (1, 2, 5)):
        if count / step * needed <= room:
            return list(range(0, count, step))
    return [0]


@cache
def _inks() -> list[str]:
    """For each of 256 shades the theme's `ink` or `page`, whichever reads better on it in both themes."""
    from matplotlib.colors import to_hex

    def worst(ink: str, shade: float) -> float:
        return min(contrast(to_hex(colours(theme)(shade)), getattr(theme, ink)) for theme in (LIGHT, DARK))

    return [max(("ink", "page"), key=lambda ink: worst(ink, i / 255)) for i in range(256)]

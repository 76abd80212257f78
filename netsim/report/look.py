"""How the pictures look: their sizes and fonts, what is the same in all of them, and from a figure to PNG."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netsim.report.theme import Theme
from p2pfl.errors import StorageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SLIDE_WIDTH = 13.33  # inches
SLIDE_DPI = 144  # 1920 pixels across
SLIDE_FONT = 12.0  # points; read from the back of a room when the picture fills a slide
PAGE_FONT = 9.0  # points, which are 12 CSS pixels where a picture is shown in its own size


@dataclass(frozen=True)
class Look:
    """Where a picture will be seen. width: inches.  font: points.  slide: with a title of its own."""

    theme: Theme
    width: float
    font: float = PAGE_FONT
    slide: bool = False

    @property
    def small(self) -> float:
        """The smallest text, points."""
        return self.font * 0.88

    @property
    def narrow(self) -> bool:
        return self.width < 5

    def figure(self, height: float, width: float | None = None) -> Figure:
        """An empty one, in inches; as wide as the look by default."""
        from matplotlib.figure import Figure

        return Figure(figsize=(width or self.width, height))

    def place(self, figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
        """Axes at a place in inches from the lower left corner: pictures align when their margins do."""
        across, up = figure.get_size_inches()
        return figure.add_axes((left / across, bottom / up, width / across, height / up))


@contextmanager
def style(look: Look) -> Iterator[None]:
    """Everything drawn within has this look, whatever the user's matplotlibrc says."""
    import matplotlib

    theme = look.theme
    with matplotlib.rc_context(), warnings.catch_warnings():
        # The browser has glyphs that matplotlib's own font lacks; it is asked for them only to measure.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "axes.axisbelow": True,
                "axes.edgecolor": theme.muted,
                "axes.facecolor": "none",
                "axes.labelcolor": theme.ink,
                "axes.linewidth": 0.8,
                "axes.spines.right": False,
                "axes.spines.top": False,
                "axes.titlelocation": "left",
                "axes.titlesize": look.font * 1.1,
                "axes.titleweight": "bold" if look.slide else "normal",
                "figure.facecolor": theme.page if look.slide else "none",
                "font.size": look.font,
                "font.sans-serif": ["DejaVu Sans"],
                "grid.color": theme.grid,
                "hatch.linewidth": 0.8,
                "legend.edgecolor": "none",
                "legend.facecolor": theme.page,
                "legend.framealpha": 0.85,
                # Text stays text: the browser draws it, in any script, and the file stays small.
                "svg.fonttype": "none",
                "svg.hashsalt": "p2pfl",
                "text.color": theme.ink,
                "text.parse_math": False,
                "xtick.color": theme.muted,
                "xtick.labelcolor": theme.muted,
                "ytick.color": theme.muted,
                "ytick.labelcolor": theme.muted,
            }
        )
        yield


def png(look: Look, make: Callable[[Look], Figure], path: Path) -> None:
    """With at most 256 colours: a quarter of the bytes. StorageError if the file cannot be written."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    with style(look):
        figure = make(look)
        figure.set_dpi(SLIDE_DPI)
        canvas: Any = FigureCanvasAgg(figure)  # it has no types
        canvas.draw()
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    drawn = pixels.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    # What most of it is made of is not to be off by a shade.
    palette = np.array(drawn.getpalette(), np.uint8).reshape(-1, 3)
    palette[np.asarray(drawn)[0, 0]] = np.asarray(pixels)[0, 0]
    drawn.putpalette(palette.tobytes())
    try:
        drawn.save(path, "png", dpi=(SLIDE_DPI, SLIDE_DPI))
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error

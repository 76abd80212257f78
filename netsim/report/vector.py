"""From a figure to SVG for light and for dark pages. It is drawn once; for dark pages colours are exchanged.

Equal figures give equal bytes: no dates, and ids from a fixed salt.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from netsim.report.look import Look, style
from netsim.report.theme import DARK, LIGHT, in_dark

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RASTER_DPI = 192  # of what is drawn as pixels: twice CSS's 96


@dataclass(frozen=True)
class Svg:
    """A picture of a page: its text for both themes, and its size in CSS pixels."""

    light: str
    dark: str
    width: int
    height: int


def uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def render(look: Look, make: Callable[[Look], Figure]) -> Svg:
    """look: with the light theme."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.StringIO()
    with style(look):
        figure = make(look)
        FigureCanvasSVG(figure).print_figure(
            out,
            format="svg",
            dpi=RASTER_DPI,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
        width, height = figure.get_size_inches()
    text = _compact(out.getvalue())
    return Svg(text, _darkened(text), round(width * 96), round(height * 96))


def _compact(text: str) -> str:
    """Without the prologue, which nothing reads, and coordinates to a hundredth of a point."""
    text = text[text.index("<svg") :]

    def shorten(path: re.Match[str]) -> str:
        return re.sub(r"(\.\d\d)\d+", r"\1", path[0]).replace(" \n", " ")

    return re.sub(r' d="[^"]*"', shorten, text)


def _darkened(text: str) -> str:
    """The same picture in the dark theme's colours, those of embedded pixels included."""
    roles = in_dark()

    def style(match: re.Match[str]) -> str:
        return re.sub(r"#[0-9a-f]{6}\b", lambda colour: roles.get(colour[0], colour[0]), match[0])

    def image(match: re.Match[str]) -> str:
        return match[1] + base64.b64encode(_darkened_png(base64.b64decode(match[2]))).decode()

    text = re.sub(r' style="[^"]*"', style, text)
    return re.sub(r'("data:image/png;base64,)([A-Za-z0-9+/=\s]+)', image, text)


def _darkened_png(png: bytes) -> bytes:
    from PIL import Image

    pixels = np.array(Image.open(io.BytesIO(png)).convert("RGBA"))
    known, dark = _pixel_colours()
    colours = _packed(pixels[..., :3])
    places = np.minimum(np.searchsorted(known, colours), len(known) - 1)
    found = known[places] == colours
    pixels[..., :3] = np.where(found[..., None], dark[places], pixels[..., :3])
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png")
    return out.getvalue()


@cache
def _pixel_colours() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """Light colours as 0xrrggbb, ascending, and the dark ones as (n, 3): of roles and of heat."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = []
    for theme, roles in ((LIGHT, in_dark().keys()), (DARK, in_dark().values())):
        shades = LinearSegmentedColormap.from_list("heat", theme.heat)
        # matplotlib makes an image's pixels as it makes bytes; where it fills shapes it rounds.
        heat = [shades(np.arange(shades.N), bytes=True)[:, :3]]
        heat.append(np.round(255 * shades(np.arange(shades.N))[:, :3]).astype(np.uint8))
        plain = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in roles], np.uint8)
        colours.append(np.concatenate([plain, *heat]))
    light, dark = colours
    known, first = np.unique(_packed(light), return_index=True)
    return known, dark[first]


def _packed(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """(..., 3) -> (...) as 0xrrggbb."""
    return colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)

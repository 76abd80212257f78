"""The page: sections of pictures and tables as one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from netsim.report.curves import Entry
from netsim.report.look import Look
from netsim.report.tables import Table
from netsim.report.theme import DARK, LIGHT
from netsim.report.vector import render, uri
from p2pfl.errors import StorageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches at 96 CSS pixels. In a window 1280 wide a row holds three panels, two halves or one whole; in one 400
# wide the narrow ones have their own size.
PANEL, HALF, WHOLE, NARROW = 4.05, 6.1, 12.4, 3.83

_DARK = "(prefers-color-scheme: dark)"
# Below this width, in CSS pixels, a picture of the page's full width would be too small to read.
_NARROW_BELOW = {PANEL: 0, HALF: 640, WHOLE: 900}


@dataclass(frozen=True)
class Source:
    """One version of a picture. media: when it is shown.  size in CSS pixels."""

    media: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Picture:
    """alt: what it shows, in words.  caption, about: above it.  sources: the first that fits is shown.

    size: name of the place that it takes in the page.
    """

    alt: str
    caption: str
    about: str
    sources: tuple[Source, ...]
    size: str


@dataclass(frozen=True)
class Part:
    """Pictures side by side under a heading of their own, or without one."""

    pictures: tuple[Picture, ...]
    heading: str = ""


@dataclass(frozen=True)
class Key:
    """One line of a legend, in the colours of both themes."""

    name: str
    value: str
    light: str
    dark: str
    width: float
    dashes: str


@dataclass(frozen=True)
class Section:
    """anchor: its id in the page.  note: what to know to read it.  folded: tables open on demand."""

    anchor: str
    title: str
    note: str = ""
    keys: tuple[Key, ...] = ()
    parts: tuple[Part, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: bool = False


@dataclass(frozen=True)
class Page:
    title: str
    subtitle: str
    tiles: tuple[tuple[str, str, str], ...] = ()  # name, value, what to know
    sections: tuple[Section, ...] = field(default_factory=tuple)


def picture(
    make: Callable[[Look], Figure], width: float, alt: str, caption: str = "", about: str = ""
) -> Picture:
    """Draw for light and dark pages; what is wider than a panel also for narrow windows."""
    sizes = [("", width)]
    if _NARROW_BELOW[width]:
        sizes.insert(0, (f"(max-width: {_NARROW_BELOW[width]}px)", NARROW))
    sources: list[Source] = []
    for media, inches in sizes:
        drawn = render(Look(LIGHT, inches), make)
        dark = f"{media} and {_DARK}" if media else _DARK
        sources.append(Source(dark, uri(drawn.dark), drawn.width, drawn.height))
        sources.append(Source(media, uri(drawn.light), drawn.width, drawn.height))
    size = {PANEL: "panel", HALF: "half", WHOLE: "whole"}[width]
    return Picture(alt, caption, about, tuple(sources), size)


def keys(light: Sequence[Entry], dark: Sequence[Entry]) -> tuple[Key, ...]:
    """The legend for both themes, from the same entries in each."""
    return tuple(
        Key(
            one.name,
            one.value,
            one.stroke.colour,
            other.stroke.colour,
            one.stroke.width,
            " ".join(f"{length * one.stroke.width:g}" for length in one.stroke.dashes),
        )
        for one, other in zip(light, dark, strict=True)
    )


def write(page: Page, path: Path) -> None:
    """StorageError if the file cannot be written."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("netsim.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("page.html").render(page=page, light=LIGHT, dark=DARK)
    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error

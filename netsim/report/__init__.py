"""The report of a run: pictures, a page and tables, all computed from its journal alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pfl.errors import SetupError

if TYPE_CHECKING:
    from netsim.report.story import Story

NEEDED = {
    "matplotlib": "pictures need",
    "networkx": "the picture of the topology needs",
    "jinja2": "the report needs",
}


def check_installed() -> None:
    """SetupError without the packages that reports need: better told before a run than after it."""
    for package, who in NEEDED.items():
        if importlib.util.find_spec(package) is None:
            raise SetupError(f"{who} {package}; install p2pfl-gossip[sim]")


def write(run: Path) -> list[Path]:
    """All pictures and report.html, written into the run's folder; their paths.

    run: the folder, or the journal in it. Raises SetupError without matplotlib, networkx or jinja2,
    StorageError if the journal cannot be read or a file not be written.
    """
    check_installed()
    from netsim.report import page, reading, sections

    journal = reading.find(run)
    story = reading.read(journal)
    out = journal.parent
    paths = _draw(story, out)
    html = out / "report.html"
    page.write(sections.page(story, figures(journal)), html)
    return [html, *paths]


def draw(journal: Path, out: Path) -> list[Path]:
    """The pictures alone, into the folder `out`. Raises as `write` does."""
    check_installed()
    from netsim.report import reading

    return _draw(reading.read(journal), out)


def figures(journal: Path) -> dict[str, Any]:
    """The journal's share of summary.json; empty for a journal of before some of its figures."""
    from netsim import summary

    try:
        return summary.summarise(journal)
    except (LookupError, TypeError, ValueError):
        return {}


def _draw(story: Story, out: Path) -> list[Path]:
    """The pictures for slides. What the journal does not tell of is left out."""
    from netsim.report import confusion, curves, labels, look, series, timeline, topology, traffic
    from netsim.report.theme import LIGHT

    wide, square = look.SLIDE_WIDTH, 8.2  # inches; a slide's width, and what two share
    pictures: list[tuple[str, float, bool, Callable[[look.Look], Any]]] = [
        ("curves", wide, True, lambda slide: curves.slide(slide, story, ("accuracy", "loss"))),
        ("labels", wide, True, lambda slide: labels.picture(slide, story)),
        (
            "consensus",
            wide,
            bool(series.lines(story, "distance", "time")),
            lambda slide: curves.slide(slide, story, ("distance",)),
        ),
        ("confusion", wide, bool(confusion.matrices(story)), lambda slide: confusion.slide(slide, story)),
        ("topology", square, bool(topology.edges(story).any()), lambda slide: topology.picture(slide, story)),
        ("timeline", wide, True, lambda slide: timeline.picture(slide, story)),
        ("traffic", square, bool(story.links.bytes.any()), lambda slide: traffic.picture(slide, story)),
    ]
    paths = []
    for name, width, known, make in pictures:
        if known:
            path = out / f"{name}.png"
            look.png(look.Look(LIGHT, width, look.SLIDE_FONT, slide=True), make, path)
            paths.append(path)
    return paths

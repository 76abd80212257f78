"""The pictures that go with the tables of published results; those of single runs are the runs' reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from netsim.literature import liars, skew, workers
from netsim.literature.results import Found
from netsim.literature.rows import Row
from netsim.literature.running import folder_of
from netsim.report import look, reading
from netsim.report.look import SLIDE_FONT, SLIDE_WIDTH, Look
from netsim.report.story import Story
from netsim.report.theme import LIGHT
from p2pfl.errors import StorageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Mapping[Row, Sequence[Found]]
Draw = Callable[[Look], "Figure"]

FOLDER = "images"
# Whose single runs are shown, where there are several alike.
_WORKERS = ("A1", "A2", "A3", "A4")
_SKEWS = ("C1-uniform", "C1-90", "C2-1.0")


def write(results: Results, out: Path) -> list[Path]:
    """What can be drawn of these rows, as PNG files in a folder of `out`. Raises StorageError."""
    slide = Look(LIGHT, SLIDE_WIDTH, SLIDE_FONT, slide=True)
    folder = out / FOLDER
    made = [(folder / f"{name}.png", draw) for name, draw in _drawings(results, out)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {folder}: {error.strerror}") from error
    for path, draw in made:
        look.png(slide, draw, path)
    return [path for path, _ in made]


def _drawings(results: Results, out: Path) -> list[tuple[str, Draw]]:
    """A name and what draws it: of all seeds, or of the first one's journals."""
    made: list[tuple[str, Draw]] = []
    of_workers = {row: found for row, found in results.items() if row.part == "A"}
    if len(of_workers) > 1:
        made.append(("A-balanced", partial(workers.balanced, results=of_workers)))
    shown = {row: found for row, found in of_workers.items() if row.id in _WORKERS}
    if len(shown) > 1:
        stories = {row: _first(row, out) for row in shown}
        made.append(("A-confusion", partial(workers.confusion, results=shown, stories=stories)))
        made.append(("A-labels", partial(workers.labels, stories=stories)))
    biases = {row: found for row, found in results.items() if row.bias is not None}
    if len(biases) > 1:
        made.append(("C-dial", partial(skew.dial, results=biases)))
        stories = {row: _first(row, out) for row in biases if row.id in _SKEWS}
        if stories:
            made.append(("C-losses", partial(skew.losses, stories=stories)))
    lying = {row: found for row, found in results.items() if row.liars is not None}
    once = {row: found for row, found in lying.items() if row.id.startswith("D2")}
    if len(once) > 1:
        made.append(("D-liars", partial(liars.shares, results=once)))
    often = {row: _first(row, out) for row in lying if row.id.startswith("D3")}
    if len(often) > 1:
        made.append(("D-steps", partial(liars.steps, stories=often)))
    return made


def _first(row: Row, out: Path) -> Story:
    """What the journal of a row's first seed tells."""
    return reading.read(folder_of(row.scenario, 1, out) / "journal.jsonl")

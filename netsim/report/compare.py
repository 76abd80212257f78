"""Several runs beside each other, from their journals alone: figures, scenarios, curves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from netsim import report
from netsim.report import look, overlay, page, reading, tables
from netsim.report.amounts import counted, plain
from netsim.report.curves import TITLES
from netsim.report.overlay import Compared
from netsim.report.page import PANEL, Page, Part, Section
from netsim.report.series import ACROSS, Measure
from netsim.report.theme import DARK, LIGHT
from p2pfl.errors import StorageError

_OVER = {"round": "rounds", "time": "time", "bytes": "bytes sent"}


def load(runs: Sequence[Path]) -> list[Compared]:
    """Folders or journals -> what they tell. StorageError if one of them is not that of a run."""
    journals = [reading.find(run) for run in runs]
    found = zip(names(journals), journals, strict=True)
    return [Compared(name, reading.read(path), report.figures(path)) for name, path in found]


def names(journals: Sequence[Path]) -> list[str]:
    """The folders' names; of equal ones the whole paths, and numbers if those are equal too."""
    folders = [path.resolve().parent for path in journals]
    short = Counter(folder.name for folder in folders)
    told = [plain(folder.name if short[folder.name] == 1 else str(folder)) for folder in folders]
    again: Counter[str] = Counter()
    unique = []
    for name in told:
        again[name] += 1
        unique.append(name if again[name] == 1 else f"{name} ({again[name]})")
    return unique


def write(runs: Sequence[Compared], out: Path) -> list[Path]:
    """compare.html and its pictures, into a folder that is made if need be; their paths.

    Raises SetupError without matplotlib or jinja2, StorageError if a file cannot be written.
    """
    report.check_installed()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {out}: {error.strerror}; choose another --out") from error
    html = out / "compare.html"
    page.write(_page(runs), html)
    pictures: tuple[tuple[str, tuple[Measure, ...]], ...] = (
        ("compare-curves", ("accuracy", "loss")),
        ("compare-consensus", ("distance",)),
    )
    paths = [html]
    for name, measures in pictures:
        if any(overlay.measured(runs, measure) for measure in measures):
            path = out / f"{name}.png"
            slide = look.Look(LIGHT, look.SLIDE_WIDTH, look.SLIDE_FONT, slide=True)
            look.png(slide, partial(overlay.slide, runs=runs, measures=measures), path)
            paths.append(path)
    return paths


def as_dict(runs: Sequence[Compared]) -> dict[str, Any]:
    """Figures by run, and the keys of the scenarios that are not the same in all, for programs."""
    configs = [run.story.config for run in runs]
    keys = tables.differing(configs)
    return {
        "runs": {run.name: run.figures for run in runs},
        "differences": {key: {run.name: run.story.config.get(key) for run in runs} for key in keys},
    }


def found(runs: Sequence[Compared]) -> tuple[tables.Table, tables.Table | None]:
    """The figures side by side, and what differs between the scenarios (None: nothing does)."""
    told = [run.name for run in runs]
    return (
        tables.side_by_side(told, [run.figures for run in runs]),
        tables.differences(told, [run.story.config for run in runs]),
    )


def _page(runs: Sequence[Compared]) -> Page:
    figures, differences = found(runs)
    notes = [
        f"The journal of {run.name} ends before the run did." for run in runs if run.story.survivors is None
    ]
    same = "" if differences else "All that was recorded of the scenarios is the same."
    scenarios = (differences,) if differences else ()
    sections = (
        Section("results", "Figures", " ".join(notes), tables=(figures,)),
        Section("scenarios", "Scenarios", same, tables=scenarios),
        _curves(runs, "learning", "Accuracy and loss", ("accuracy", "loss")),
        _curves(runs, "consensus", "Consensus", ("distance",)),
    )
    return Page(f"{counted(len(runs), 'run')} compared", ", ".join(run.name for run in runs), (), sections)


def _curves(runs: Sequence[Compared], anchor: str, title: str, measures: Sequence[Measure]) -> Section:
    shown = [measure for measure in measures if overlay.measured(runs, measure)]
    if not shown:
        return Section(anchor, title, "Nothing was measured during these runs.")
    note = "How far apart the nodes of a run are; 0 would be one model everywhere."
    if "accuracy" in measures:
        whose = (
            "Of each run the mean model of its nodes"
            if overlay.kind_of(runs) == "mean model"
            else "Of each run the mean over its nodes"
        )
        note = f"{whose}. The dot is the end of the run, after the last exchanges."
    parts = []
    for measure in shown:
        pictures = [
            page.picture(
                partial(overlay.panel, runs=runs, measure=measure, across=across),
                PANEL,
                f"{TITLES[measure]} over {_OVER[across]}, {len(runs)} runs.",
            )
            for across in ACROSS
        ]
        parts.append(Part(tuple(pictures), TITLES[measure]))
    legend = page.keys(*(overlay.legend(theme, runs, measures[0]) for theme in (LIGHT, DARK)))
    return Section(anchor, title, note, legend, tuple(parts))

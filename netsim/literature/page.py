"""results.md: the table of published results, with what was asked and how it was made."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import netsim
from netsim.literature import leaks, running
from netsim.literature.results import Found
from netsim.literature.rows import LeakRow, Row
from p2pfl import __version__
from p2pfl.errors import StorageError

Results = Mapping[Row, Sequence[Found]]
Leaks = Mapping[LeakRow, leaks.Figures]

# What is under a picture, by its file's name.
CAPTIONS = {
    "A-balanced": "Balanced accuracy of their method and of gossip, row by row",
    "A-confusion": "Which digits were taken for which: their method above, gossip beneath",
    "A-labels": "How many images of each digit each worker holds",
    "C-dial": "Accuracy from even data to one digit at each node",
    "C-losses": "Loss of every node, of one that never communicates, and of the collective model",
    "D-liars": "Accuracy by the share of clients that flip labels",
    "D-steps": "Accuracy over local steps, with and without clients that flip labels",
}


def write(
    out: Path, title: str, when: datetime, table: Sequence[str], notes: Sequence[str],
    found: Results, leaked: Leaks, pictures: Sequence[Path], *, quick: bool,
) -> Path:  # fmt: skip
    """results.md in the folder `out`. title: the command.  when: it was printed. Raises StorageError."""
    path = out / "results.md"
    text = "\n".join(_lines(out, title, when, table, notes, found, leaked, pictures, quick)) + "\n"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
    return path


def _lines(
    out: Path, title: str, when: datetime, table: Sequence[str], notes: Sequence[str],
    found: Results, leaked: Leaks, pictures: Sequence[Path], quick: bool,
) -> Iterator[str]:  # fmt: skip
    yield "# Published results, repeated"
    yield ""
    yield f"Printed by `{title}` on {when:%Y-%m-%d}, {commit()}. {_seeds(found)}"
    if quick:
        yield ""
        yield "**This is a quick pass: it shows that every row runs. None of its figures means anything.**"
    yield ""
    yield "Accuracies are in per cent: the mean over the seeds and, in brackets, the lowest and the highest."
    yield "Images are those that all nodes trained on in one run. Gossip is judged once, after as many local"
    yield "steps as the last line of the row's method had."
    yield ""
    yield from table
    judged = [] if quick else list(verdicts(found, leaked))
    if judged:
        yield from ("", "## Asked and reached", "", "| what | asked | here | |", "|---|---|---|---|", *judged)
    if notes:
        yield from ("", "## What they left open", "", *notes)
    if pictures:
        yield from ("", "## Pictures")
        for picture in pictures:
            yield from ("", f"![{CAPTIONS[picture.stem]}]({picture.relative_to(out)})")
    yield from ("", "## What it took", "", *_times(out, found, leaked, quick))


def _seeds(found: Results) -> str:
    by_count: dict[int, list[str]] = {}
    for row, ofs in found.items():
        by_count.setdefault(len(ofs), []).append(row.id.partition("-")[0])
    parts = [
        f"{'seed 1' if count == 1 else f'seeds 1 to {count}'} of {', '.join(dict.fromkeys(names))}"
        for count, names in sorted(by_count.items(), reverse=True)
    ]
    return f"Seeds of the split, the initial weights and all else: {'; '.join(parts)}." if parts else ""


# -- what was asked


def verdicts(found: Results, leaked: Leaks) -> Iterator[str]:
    """A row for each aim, with what came out."""
    for row, of_row in found.items():
        ours = 100 * statistics.mean(one.ours.accuracy for one in of_row)
        if row.least is not None:
            yield _verdict(f"{row.id}: gossip", f"{row.least:g} or more", f"{ours:.2f}", ours >= row.least)
        pooled = [one.others["centralised"].accuracy for one in of_row if "centralised" in one.others]
        if row.id.startswith("D1") and pooled:
            behind = 100 * statistics.mean(pooled) - ours
            yield _verdict(f"{row.id}: gossip behind pooled", "1 point at most", f"{behind:.2f}", behind <= 1)
    for rule, where in (("mean", "at fan-out 6"), ("median", "on the complete graph")):
        ends = {row.id: of_row for row, of_row in found.items()}
        honest, lying = ends.get(f"D2-0-{rule}"), ends.get(f"D2-40-{rule}")
        if honest and lying:
            lost = 100 * (_mean_ours(honest) - _mean_ours(lying))
            what = f"D2: gossip {where}, lost from 0 to 40 % liars"
            yield _verdict(what, "2 points at most", f"{lost:.2f}", lost <= 2)
    for leak, figures in leaked.items():
        if leak.least is not None:
            what = f"{figures['labels_recovered']:.0%} of the labels, {figures['psnr_min']:.1f} dB"
            asked = f"all labels, {leak.least:g} dB or more"
            yield _verdict(leak.id, asked, what, leaks.reached(leak, figures))


def _verdict(what: str, asked: str, here: str, holds: bool) -> str:
    return f"| {what} | {asked} | {here} | {'reached' if holds else '**missed**'} |"


def _mean_ours(found: Sequence[Found]) -> float:
    return statistics.mean(one.ours.accuracy for one in found)


# -- what it took


def _times(out: Path, found: Results, leaked: Leaks, quick: bool) -> Iterator[str]:
    """A line for each part: its runs, their images, and the minutes between their first and last files."""
    yield "Minutes are those of the runs one after another; rows of one scenario share its runs."
    yield ""
    yield "| part | runs | images, theirs and ours | minutes |"
    yield "|---|---|---|---|"
    for part in dict.fromkeys(row.id.partition("-")[0][: 2 if row.part == "D" else 1] for row in found):
        rows = [row for row in found if row.id.startswith(part)]
        runs = {
            (name, seed)
            for row in rows
            for name in row.scenarios
            for seed in running.seeds_of(row, quick=quick)
        }
        theirs = {
            (row.scenario, row.method, index): at.images
            for row in rows
            for index, one in enumerate(found[row])
            if (at := one.at(0)) is not None
        }
        ours = {
            (row.scenarios[-1], index): one.ours.images
            for row in rows
            for index, one in enumerate(found[row])
        }
        minutes = sum(running.seconds_of(name, seed, out) for name, seed in sorted(runs)) / 60
        images = f"{sum(theirs.values()):,}; {sum(ours.values()):,}"
        yield f"| {part} | {len(runs)} | {images} | {minutes:.1f} |"
    if leaked:
        pictures = sum(figures["pictures"] for figures in leaked.values())
        minutes = sum(figures["cpu_seconds"] for figures in leaked.values()) / 60
        yield f"| D4 | {len(leaked)} | {pictures}; 0 | {minutes:.1f} |"


def commit() -> str:
    """Which state of the program this is, as far as can be told."""
    folder = str(Path(netsim.__file__).parent)
    try:
        line = ["git", "-C", folder, "rev-parse", "--short=12", "HEAD"]
        head = subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()
        line = ["git", "-C", folder, "status", "--porcelain", "--untracked-files=no"]
        changed = subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # installed, not checked out
        return f"version {__version__}"
    return f"commit {head}{' with changes' if changed else ''}"

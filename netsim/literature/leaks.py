"""The published attack on gradients, repeated by `p2pfl audit`, as rows beside those of the scenarios."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from netsim.literature.rows import LeakRow
from p2pfl.audit import files, table

FOLDER = "D4"  # of the pictures and figures that are kept

Figures = dict[str, Any]


def run(
    rows: Sequence[LeakRow], out: Path, *, quick: bool, data_dir: str | None, colour: str
) -> dict[LeakRow, Figures]:
    """What the audit found for each; rows that it has found before are not run again.

    colour: the data set of colour pictures. Raises UsageError, SetupError or StorageError.
    """
    names = [row.audited for row in rows]
    cases = table.cases(names, quick=quick, seed=0, data_dir=data_dir, colour=colour)
    found = table.run(cases, files.folder(out / FOLDER), lambda _: None)
    by_name = {figures["row"]: figures for figures in found}
    return {row: by_name[row.audited] for row in rows}


def line(row: LeakRow, figures: Figures) -> str:
    """The row of the table."""
    pictures = figures["pictures"]
    labels = round(figures["labels_recovered"] * pictures)
    cells = [
        row.id,
        row.setting,
        row.published,
        f"{labels} of {pictures} labels, PSNR {figures['psnr_min']:.1f} dB or more, "
        f"median {figures['psnr_median']:.1f}",
        "",
        "" if row.least is None else f"all labels, {row.least:g} dB or more",
        f"{pictures}; 0",
    ]
    return f"| {' | '.join(cells)} |"


def reached(row: LeakRow, figures: Figures) -> bool:
    """Whether every label was read and every picture is as good a copy as was asked."""
    return row.least is not None and figures["labels_recovered"] == 1 and figures["psnr_min"] >= row.least

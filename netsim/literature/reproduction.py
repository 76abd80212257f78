"""`p2pfl sim reproduce`: every chosen row, printed as it is known; then pictures, and a page of it all."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from netsim import report
from netsim.literature import figures, leaks, page, results, running
from netsim.literature.rows import LeakRow, Row
from p2pfl.audit import similarity


def reproduce(
    chosen: Sequence[Row | LeakRow],
    out: Path,
    *,
    quick: bool,
    data_dir: str | None,
    colour: str,
    title: str,
    tell: Callable[[str], None],
) -> None:
    """title: the command, for the page.  tell: is given the lines of the table, notes, and files.

    Raises UsageError, SetupError, StorageError or SimulationError.
    """
    rows = [row for row in chosen if isinstance(row, Row)]
    leaking = [row for row in chosen if isinstance(row, LeakRow)]
    report.check_installed()  # not after hours
    if leaking:
        similarity.require()
    table = [results.HEADER]
    tell(results.HEADER)
    found: dict[Row, list[results.Found]] = {}
    for row in rows:
        with contextlib.redirect_stdout(sys.stderr):
            running.run_row(row, out, quick=quick, data_dir=data_dir)
        found[row] = results.find(row, out, quick=quick)
        for line in results.lines(row, found[row]):
            table.append(line)
            tell(line)
    leaked = leaks.run(leaking, out, quick=quick, data_dir=data_dir, colour=colour) if leaking else {}
    for leak, of_leak in leaked.items():
        table.append(leaks.line(leak, of_leak))
        tell(table[-1])
    notes = results.notes(chosen)
    for note in notes:
        tell(note)
    pictures = figures.write(found, out)
    results_page = page.write(out, title, datetime.now(), table, notes, found, leaked, pictures, quick=quick)
    for path in (*pictures, results_page):
        tell(str(path))

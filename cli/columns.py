"""Tables on a terminal and in a pipe."""

from __future__ import annotations

import io
from collections.abc import Sequence


def as_columns(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, terminal: bool) -> str:
    """A table that fits the terminal, its cells folded; in a pipe a line for each row, however long."""
    if terminal:
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, pad_edge=False, title=caption, title_justify="left", title_style="bold")
        for index, column in enumerate(columns):
            table.add_column(column, overflow="fold", justify="left" if index == 0 else "right")
        for row in rows:
            table.add_row(*row)
        out = io.StringIO()
        Console(file=out, force_terminal=True, markup=False, highlight=False, emoji=False).print(table)
        return out.getvalue()
    lines = [columns, *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([caption, *(line.rstrip() for line in text), ""])

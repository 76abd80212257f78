"""`p2pfl sim`: many nodes on one machine."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import logs
from cli.options import takes
from netsim.config import SimConfig

app = typer.Typer(help="Simulate many nodes on this machine.", rich_markup_mode=None)


@app.callback()
def simulator() -> None:
    """Simulate many nodes on this machine."""  # a callback keeps `run` a command of its own


@app.command()
@takes(SimConfig)
def run(
    config: SimConfig,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Run nodes until they are done; leaves a journal, a summary and pictures in a folder."""
    logs.configure("warning", as_json=False)
    from netsim import run as simulation

    # stdout is for the summary alone; progress, and whatever a library prints, is for people.
    with contextlib.redirect_stdout(sys.stderr):
        summary = simulation.run(config)
    typer.echo(json.dumps(summary) if as_json else as_text(summary, terminal=sys.stdout.isatty()), nl=as_json)


def as_text(summary: dict[str, Any], *, terminal: bool) -> str:
    """The summary and its pictures for people: a table on a terminal, `key: value` lines in a pipe."""
    rows = {name: _shown(value) for name, value in summary.items()}
    pictures = sorted(str(path) for path in Path(summary["out"]).glob("*.png"))
    if pictures:
        rows["pictures"] = " ".join(pictures)
    if not terminal:
        return "".join(f"{name}: {value}\n" for name, value in rows.items())
    import io

    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name.replace("_", " "), value)
    out = io.StringIO()
    Console(file=out, force_terminal=True).print(table, markup=False)
    return out.getvalue()


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

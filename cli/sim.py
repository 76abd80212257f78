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
from p2pfl.config import check

app = typer.Typer(help="Simulate many nodes on this machine.", rich_markup_mode=None)


@app.callback()
def simulator() -> None:
    """Simulate many nodes on this machine."""  # a callback keeps `run` a command of its own


def _load(source: str | None, flags: dict[str, object]) -> Any:
    from netsim import scenario_file

    return scenario_file.load(source, flags)


@app.command()
@takes(SimConfig, load=_load)
def run(
    config: Any,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Leave out pictures and page.")] = False,
    without_faults: Annotated[
        bool, typer.Option("--without-faults", help="Leave out faults, losses and stragglers: to compare.")
    ] = False,
) -> None:
    """Run a scenario until its nodes are done; leaves a journal, a summary and a report in a folder."""
    logs.configure("warning", as_json=False)
    from netsim import run as simulation

    scenario = config.without_faults() if without_faults else config
    # stdout is for the summary alone; progress, and whatever a library prints, is for people.
    with contextlib.redirect_stdout(sys.stderr):
        summary = simulation.run(scenario, draw=not no_report)
    typer.echo(json.dumps(summary) if as_json else as_text(summary, terminal=sys.stdout.isatty()), nl=as_json)


@app.command("list")
def list_ready() -> None:
    """The ready scenarios."""
    from netsim import scenario_file

    found = scenario_file.ready()
    width = max(map(len, found), default=0)
    for name, description in found.items():
        typer.echo(f"{name:<{width}}  {description}")


@app.command()
def show(name: Annotated[str, typer.Argument(help="Of a ready scenario.", metavar="NAME")]) -> None:
    """Print a ready scenario: a file to start your own from."""
    from netsim import scenario_file

    typer.echo(scenario_file.ready_text(name), nl=False)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder, or the journal in it.", metavar="RUN")],
) -> None:
    """Make the page and the pictures of a run anew, from its journal alone."""
    logs.configure("warning", as_json=False)
    from netsim import report as reports

    for path in reports.write(run):
        typer.echo(path)


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Their folders, or the journals in them.", metavar="RUN...")
    ],
    out: Annotated[Path, typer.Option(help="Folder for compare.html and its pictures.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Leave out page and pictures.")] = False,
) -> None:
    """Set runs beside each other, from their journals alone: figures, scenarios, curves."""
    check(len(runs) >= 2, "compare needs at least two runs: p2pfl sim compare RUN RUN")
    logs.configure("warning", as_json=False)
    from netsim.report import compare as comparison

    compared = comparison.load(runs)
    paths = [] if no_report else comparison.write(compared, out)
    if as_json:
        typer.echo(json.dumps(comparison.as_dict(compared) | {"files": [str(path) for path in paths]}))
        return
    from cli.columns import as_columns

    figures, differences = comparison.found(compared)
    for table in (figures, differences):
        if table is not None:
            typer.echo(as_columns(table.caption, table.columns, table.rows, terminal=sys.stdout.isatty()))
    for path in paths:
        typer.echo(path)


@app.command()
def fuzz(
    seeds: Annotated[int, typer.Option(help="How many random scenarios.")] = 200,
    first: Annotated[int, typer.Option(help="The seed of the first.")] = 0,
    seed: Annotated[int | None, typer.Option(help="This one alone, and say all about it.")] = None,
    limit: Annotated[float, typer.Option(help="Seconds of real time for each.")] = 300.0,
    keep: Annotated[Path | None, typer.Option(help="Folder for the journals of those that fail.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as one JSON object.")] = False,
) -> None:
    """Run random scenarios with random faults, and check what must always hold; exit code 1 if not."""
    check(seeds >= 1, "seeds must be at least 1")
    check(first >= 0 and (seed is None or seed >= 0), "seeds are 0 or more")
    check(0 < limit < float("inf"), "limit must be above 0 seconds")
    import time

    from netsim import fuzz as fuzzing

    began = time.perf_counter()

    def tell(verdict: fuzzing.Verdict) -> None:
        for failure in verdict.failures:
            typer.echo(f"seed {verdict.seed}: {failure}", err=as_json)
        if verdict.failures:
            typer.echo(f"  replay: {verdict.command}", err=as_json)
        elif seed is not None and not as_json:
            typer.echo(f"seed {seed}: {verdict.settling}")

    chosen = range(first, first + seeds) if seed is None else range(seed, seed + 1)
    verdicts = fuzzing.fuzz(chosen, limit=limit, keep=keep, verbose=seed is not None, told=tell)
    seconds = time.perf_counter() - began
    figures = fuzzing.figures(verdicts)
    if as_json:
        typer.echo(json.dumps(figures | {"seconds": seconds}))
    else:
        typer.echo(f"{fuzzing.as_line(figures)}, {seconds:.0f} s")
    if figures["failed"]:
        raise typer.Exit(1)


@app.command()
def reproduce(
    rows: Annotated[
        str, typer.Argument(help="A, B, C, D, all, or a row or table of one: A2, D4.", metavar="ROWS")
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="A little of each, to see that it runs; no figures to compare.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the runs; what it holds is kept.")] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Where data sets lie.", envvar="P2PFL_DATA", show_envvar=True)
    ] = None,
    colour: Annotated[
        str, typer.Option(help="Data set of D4's colour pictures.", metavar="DATASET")
    ] = "cifar10",
) -> None:
    """Repeat published results: their method and gossip, on the same split, with as much local training."""
    logs.configure("warning", as_json=False)
    from netsim.literature.reproduction import reproduce as repeat
    from netsim.literature.rows import chosen

    repeat(
        chosen(rows),
        out or Path("runs") / ("literature-quick" if quick else "literature"),
        quick=quick,
        data_dir=data_dir,
        colour=colour,
        title=f"p2pfl sim reproduce {rows}{' --quick' if quick else ''}",
        tell=typer.echo,
    )


def as_text(summary: dict[str, Any], *, terminal: bool) -> str:
    """The summary, report and pictures for people: a table on a terminal, `key: value` lines in a pipe."""
    rows = {name: _shown(value) for name, value in summary.items()}
    page = Path(summary["out"]) / "report.html"
    if page.exists():
        rows["report"] = str(page)
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
    if value is None or value == {}:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

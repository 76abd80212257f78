"""`p2pfl`: the root command. Imports nothing that is slow; commands import what they run."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import audit, keys, node, predict, sim
from cli.failures import Commands
from p2pfl import __version__

app = typer.Typer(
    cls=Commands,
    name="p2pfl",
    help="Nodes that learn together: each trains on its own data and averages weights with its peers.",
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(node.app, name="node")
app.add_typer(sim.app, name="sim")
app.add_typer(keys.app, name="keys")
app.add_typer(audit.app, name="audit")
app.command("predict")(predict.predict)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"p2pfl {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Entry point of the `p2pfl` command."""
    app(prog_name="p2pfl")


if __name__ == "__main__":
    main()

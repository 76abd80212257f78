"""`p2pfl node`: run a node, or ask one how it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cli import logs
from cli.options import takes, warn_of_secret
from p2pfl.config import NodeConfig

app = typer.Typer(help="Run a node, or ask a running one how it is.", rich_markup_mode=None)


@app.command()
@takes(NodeConfig, file=True)
def start(config: NodeConfig, reload: Callable[[], NodeConfig] | None) -> None:
    """Start a node: it trains, serves and exchanges until its rounds are done, then serves on.

    Prints `listening on URL` when it answers. Ctrl-C and SIGTERM stop it cleanly; after SIGHUP it takes its
    peers from the --config file as it is then.
    """
    logs.configure(config.log_level, as_json=config.log_json)
    from p2pfl import standalone

    raise typer.Exit(standalone.start(config, reload=reload) or 0)


@app.command("status")
def show_status(
    context: typer.Context,
    url: Annotated[
        str, typer.Argument(help="The node's URL, for example http://127.0.0.1:8470.", metavar="URL")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the node's own JSON.")] = False,
    token: Annotated[
        str | None, typer.Option(help="The network's token.", envvar="P2PFL_TOKEN", metavar="TOKEN")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the token.", metavar="FILE")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="A certificate of ours.", metavar="FILE")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key.", metavar="FILE")] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(help="The authority that the node's is from.", metavar="FILE")
    ] = None,
) -> None:
    """Show a running node's rounds, accuracy and peers."""
    from cli import status

    warn_of_secret(context, "token", "P2PFL_TOKEN")
    shown = status.Credentials(token, token_file, tls_cert, tls_key, tls_ca)
    answer = status.fetch(status.parse_url(url), shown)
    typer.echo(status.as_json(answer) if as_json else status.as_table(answer), nl=as_json)

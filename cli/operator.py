"""`p2pfl node pause|resume|set|stop|watch`: the commands for nodes that run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import warn_of_secret
from p2pfl.errors import ConfigError

if TYPE_CHECKING:
    from cli.asking import Credentials, OperatorCredentials

app = typer.Typer(rich_markup_mode=None)

Url = Annotated[str, typer.Argument(help="The node's URL, for example http://127.0.0.1:8470.", metavar="URL")]
NetworkToken = Annotated[
    str | None, typer.Option("--token", help="The network's token.", envvar="P2PFL_TOKEN", metavar="TOKEN")
]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", help="File with the network's token.", metavar="FILE")
]
TlsCert = Annotated[Path | None, typer.Option("--tls-cert", help="A certificate of ours.", metavar="FILE")]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", help="Its private key.", metavar="FILE")]
TlsCa = Annotated[
    Path | None, typer.Option("--tls-ca", help="The authority that the node's is from.", metavar="FILE")
]
ControlToken = Annotated[
    str | None,
    typer.Option(
        "--control-token",
        help="The operator's token of this node.",
        envvar="P2PFL_CONTROL_TOKEN",
        metavar="TOKEN",
    ),
]
ControlTokenFile = Annotated[
    Path | None, typer.Option("--control-token-file", help="File with the operator's token.", metavar="FILE")
]
StateDir = Annotated[
    Path | None,
    typer.Option("--state-dir", help="The node's folder, in which it keeps that token.", metavar="DIR"),
]


@app.command()
def pause(
    context: typer.Context,
    url: Url,
    control_token: ControlToken = None,
    control_token_file: ControlTokenFile = None,
    state_dir: StateDir = None,
    token: NetworkToken = None,
    token_file: TokenFile = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_ca: TlsCa = None,
) -> None:
    """Have a node train no more after its round; it goes on answering and merging what it is sent."""
    answer = _control(
        context, url, {"paused": True}, (control_token, control_token_file, state_dir),
        (token, token_file, tls_cert, tls_key, tls_ca),
    )  # fmt: skip
    state, round = answer.get("state"), answer.get("round")
    if state == "paused":
        typer.echo(f"paused after round {round}")
    elif state == "done":
        typer.echo("it is done, and trains no more anyway")
    else:
        typer.echo("pauses when what is under way has ended")


@app.command()
def resume(
    context: typer.Context,
    url: Url,
    control_token: ControlToken = None,
    control_token_file: ControlTokenFile = None,
    state_dir: StateDir = None,
    token: NetworkToken = None,
    token_file: TokenFile = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_ca: TlsCa = None,
) -> None:
    """Let a paused node go on."""
    answer = _control(
        context, url, {"paused": False}, (control_token, control_token_file, state_dir),
        (token, token_file, tls_cert, tls_key, tls_ca),
    )  # fmt: skip
    typer.echo(f"goes on after round {answer.get('round')}")


@app.command("set")
def set_(
    context: typer.Context,
    url: Url,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    local_steps: Annotated[int | None, typer.Option(help="Batches in a round.")] = None,
    local_epochs: Annotated[int | None, typer.Option(help="Passes over its data in a round.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples in a batch.")] = None,
    fanout: Annotated[int | None, typer.Option(help="Peers to exchange with after a round.")] = None,
    merge: Annotated[str | None, typer.Option(help="Merge rule, as of `p2pfl node start`.")] = None,
    control_token: ControlToken = None,
    control_token_file: ControlTokenFile = None,
    state_dir: StateDir = None,
    token: NetworkToken = None,
    token_file: TokenFile = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_ca: TlsCa = None,
) -> None:
    """Change what is given of a running node's settings, from its next round; the others stay."""
    given: dict[str, object] = {
        "lr": lr, "local_steps": local_steps, "local_epochs": local_epochs, "batch_size": batch_size,
        "fanout": fanout, "merge": merge,
    }  # fmt: skip
    values = {name: value for name, value in given.items() if value is not None}
    if not values:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(f"give what to set, one or more of {flags}")
    answer = _control(
        context, url, values, (control_token, control_token_file, state_dir),
        (token, token_file, tls_cert, tls_key, tls_ca),
    )  # fmt: skip
    from cli import controls

    typer.echo(controls.as_lines(answer), nl=False)
    for warning in controls.warnings(answer):
        typer.echo(f"p2pfl: warning: {warning}", err=True)


@app.command()
def stop(
    context: typer.Context,
    url: Url,
    control_token: ControlToken = None,
    control_token_file: ControlTokenFile = None,
    state_dir: StateDir = None,
    token: NetworkToken = None,
    token_file: TokenFile = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_ca: TlsCa = None,
) -> None:
    """Have a node say farewell, save its state and end, with exit code 0."""
    _control(
        context, url, None, (control_token, control_token_file, state_dir),
        (token, token_file, tls_cert, tls_key, tls_ca),
    )  # fmt: skip
    typer.echo("says farewell, saves its state and ends")


@app.command()
def watch(
    context: typer.Context,
    urls: Annotated[list[str], typer.Argument(help="The nodes' URLs.", metavar="URL...")],
    every: Annotated[float, typer.Option(help="Seconds between looks.", metavar="SECONDS")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look once; exit code 1 if one is missing.")] = False,
    token: NetworkToken = None,
    token_file: TokenFile = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_ca: TlsCa = None,
) -> None:
    """Show several nodes in one table that follows them, until Ctrl-C; once where there is no terminal."""
    from cli import asking, watching

    warn_of_secret(context, "token", "P2PFL_TOKEN")
    if not 0.1 <= every <= 3600:
        raise ConfigError("every must be 0.1 to 3600 seconds")
    shown = asking.Credentials(token, token_file, tls_cert, tls_key, tls_ca)
    missing = watching.watch([asking.parse_url(url) for url in urls], shown, every, once=once)
    raise typer.Exit(1 if missing else 0)


def _control(
    context: typer.Context,
    url: str,
    values: dict[str, object] | None,
    operator: tuple[str | None, Path | None, Path | None],
    network: tuple[str | None, Path | None, Path | None, Path | None, Path | None],
) -> dict[str, Any]:
    """Ask a node to change these, or to stop if that is None."""
    from cli import controls
    from cli.asking import Credentials, OperatorCredentials, parse_url

    warn_of_secret(context, "control_token", "P2PFL_CONTROL_TOKEN")
    warn_of_secret(context, "token", "P2PFL_TOKEN")
    shown: Credentials = Credentials(*network)
    shows: OperatorCredentials = OperatorCredentials(*operator)
    return controls.send(parse_url(url), values, shows, shown)

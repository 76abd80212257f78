"""`p2pfl node`: run a node, ask one how it is, control it, take its model out or put one in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import logs, operator
from cli.operator import NetworkToken, TlsCa, TlsCert, TlsKey, TokenFile, Url
from cli.options import takes, warn_of_secret
from p2pfl.config import DataConfig, NodeConfig, build
from p2pfl.errors import ConfigError
from p2pfl.task_file import TasksConfig, several

app = typer.Typer(
    help="Run a node, ask a running one how it is, control it, take its model out or put one in.",
    rich_markup_mode=None,
)


@app.command()
@takes(NodeConfig, file=True, several=several)
def start(config: NodeConfig | TasksConfig, reload: Callable[[], Any] | None) -> None:
    """Start a node: it trains, serves and exchanges until its rounds are done, then serves on.

    Prints `listening on URL` when it answers. Ctrl-C and SIGTERM stop it cleanly; after SIGHUP it takes its
    peers from the --config file as it is then. With --tasks there is a node for each task, at /tasks/NAME
    of that URL.
    """
    shared = config.shared if isinstance(config, TasksConfig) else config
    logs.configure(shared.log_level, as_json=shared.log_json)
    from p2pfl import standalone

    if isinstance(config, TasksConfig):
        raise typer.Exit(standalone.start_several(config, reload=reload) or 0)
    raise typer.Exit(standalone.start(config, reload=reload) or 0)


@app.command("status")
def show_status(
    context: typer.Context,
    url: Url,
    as_json: Annotated[bool, typer.Option("--json", help="Print the node's own JSON.")] = False,
    token: NetworkToken = None,
    token_file: TokenFile = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_ca: TlsCa = None,
) -> None:
    """Show a running node's rounds, accuracy and peers."""
    from cli import asking, status

    warn_of_secret(context, "token", "P2PFL_TOKEN")
    shown = asking.Credentials(token, token_file, tls_cert, tls_key, tls_ca)
    answer = status.fetch(asking.parse_url(url), shown)
    typer.echo(status.as_json(answer) if as_json else status.as_table(answer), nl=as_json)


# pause, resume, set, stop, watch
app.add_typer(operator.app)


STATE_DIR = typer.Option("--state-dir", help="The node's folder, as given to `p2pfl node start`.")


@app.command("export")
def export_model(
    file: Annotated[Path, typer.Argument(help="The safetensors file to write.", metavar="FILE")],
    state_dir: Annotated[str, STATE_DIR],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it is there.")] = False,
) -> None:
    """Write a node's newest model to a file that PyTorch reads; the node may be running.

    Tensors have the names and shapes of the module's state_dict; metadata say what it was trained for.
    """
    logs.configure("warning", as_json=False)
    from p2pfl import exporting

    model = exporting.export(state_dir, file, overwrite=overwrite)
    typer.echo(
        f"wrote {file}: {model.layout.model} of {model.task.name}, {model.layout.size} weights, "
        f"after round {model.round}"
    )


@app.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(help="A safetensors file of named tensors.", metavar="FILE")],
    state_dir: Annotated[str, STATE_DIR],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the state that the folder holds.")
    ] = False,
    dataset: Annotated[
        str | None,
        typer.Option(help="What it was trained for, if FILE does not say so."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Which model it is, if FILE does not say so.")] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Where the data set lies.", envvar="P2PFL_DATA", show_envvar=True)
    ] = None,
    classes: Annotated[list[str] | None, typer.Option(help="Class names, with --dataset.")] = None,
    task: Annotated[str | None, typer.Option(help="Name of the task, with --dataset.")] = None,
) -> None:
    """Let a node start from given weights: they become round 0 of the state in --state-dir.

    A file that `p2pfl node export` wrote says itself what it is of; for others give --dataset and --model.
    """
    logs.configure("warning", as_json=False)
    from p2pfl import exporting

    if dataset is None and (classes or task):
        raise ConfigError("--classes and --task say more of a --dataset; give it too")
    data = None
    if dataset is not None:
        keys = {"dataset": dataset, "data_dir": data_dir, "task": task, "classes": ",".join(classes or ())}
        data = build(DataConfig, keys)
    state = exporting.import_(state_dir, file, data=data, model=model, overwrite=overwrite)
    typer.echo(f"{state_dir} starts from {file}: {state.layout.model} of {state.task.name}, round 0")

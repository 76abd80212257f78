"""`p2pfl keys`: certificates and tokens that keep strangers out of a network of nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p2pfl.errors import ConfigError

app = typer.Typer(
    help="Make and look at what keeps strangers out: certificates and tokens.", rich_markup_mode=None
)

Out = Annotated[Path, typer.Option(help="Folder for it; nothing is overwritten.", metavar="DIR")]
Days = Annotated[int, typer.Option(help="Days until it expires.", metavar="N")]


@app.command()
def ca(
    out: Out = Path("ca"),
    name: Annotated[
        str, typer.Option(help="What it is called in certificates.", metavar="NAME")
    ] = "p2pfl-ca",
    days: Days = 3650,
) -> None:
    """Make a certificate authority: ca.pem for all nodes, ca.key to issue with. Keep ca.key off the nodes."""
    from p2pfl.network import authority, certificates

    authority.create(out, name, days, certificates.now())
    typer.echo(f"made {out / authority.AUTHORITY}, for every node")
    typer.echo(f"made {out / authority.AUTHORITY_KEY}, the secret that certificates are issued with")


@app.command()
def issue(
    name: Annotated[str, typer.Argument(help="The node's name.", metavar="NAME")],
    host: Annotated[
        list[str] | None,
        typer.Option(help="Name or address under which peers reach it; repeatable.", metavar="HOST"),
    ] = None,
    ca: Annotated[Path, typer.Option(help="Folder of the authority.", metavar="DIR")] = Path("ca"),
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files. [default: NAME]", metavar="DIR")
    ] = None,
    days: Days = 365,
) -> None:
    """Make a node's certificate and key, to call and to be called; its folder is all that the node needs."""
    from p2pfl.network import authority, certificates

    folder = out if out is not None else Path(name)
    end = authority.issue(ca, folder, name, host or [], days, certificates.now())
    typer.echo(f"made {folder / authority.CERTIFICATE}, valid to {end:%Y-%m-%d}; start the node with")
    typer.echo(
        f"  --tls-cert {folder / authority.CERTIFICATE} --tls-key {folder / authority.KEY} "
        f"--tls-ca {folder / authority.AUTHORITY}"
    )


@app.command()
def token(
    out: Annotated[
        Path | None, typer.Option(help="New file for it, for --token-file. [default: stdout]", metavar="FILE")
    ] = None,
) -> None:
    """Make a random token, the shared secret of a network's nodes."""
    from p2pfl.network import authority, tokens

    text = tokens.new()
    if out is None:
        typer.echo(text)
        return
    authority.write_secret(out, f"{text}\n".encode())
    typer.echo(f"made {out}; copy it to every node, and start them with --token-file {out}")


@app.command()
def identity(
    state_dir: Annotated[str, typer.Option(help="The node's state directory.", metavar="DIR")],
) -> None:
    """Make a node's identity before its first start, which would make it else: to put it on lists first."""
    _show_identity(state_dir, make=True)


def _show_identity(state_dir: str, *, make: bool) -> None:
    from p2pfl import credentials

    found = credentials.shown_identity(state_dir, make=make)
    typer.echo(f"identity     {found.id}")
    typer.echo(f"public key   {found.key.hex()}")
    typer.echo(f"incarnation  {found.incarnation}")


@app.command()
def show(
    file: Annotated[Path | None, typer.Argument(help="A certificate or key.", metavar="[FILE]")] = None,
    state_dir: Annotated[
        str | None, typer.Option(help="A node's state directory: show who it is.", metavar="DIR")
    ] = None,
) -> None:
    """Show what a certificate or key is: whose, for which hosts, how long it is valid; or who a node is."""
    from cli.failures import one_line
    from p2pfl.network import certificates

    if (file is None) == (state_dir is None):
        raise ConfigError(
            "give the certificate or key to show, for example: p2pfl keys show node1/cert.pem; or a node's "
            "state directory: p2pfl keys show --state-dir state"
        )
    if file is None:
        assert state_dir is not None
        _show_identity(state_dir, make=False)
        return
    for index, lines in enumerate(certificates.describe(file, certificates.now())):
        width = max(len(label) for label, _ in lines)
        if index:
            typer.echo()
        for label, value in lines:
            typer.echo(f"{label:{width}}  {one_line(value)}")

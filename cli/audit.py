"""`p2pfl audit`: what the models that nodes send give away of their data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import logs
from cli.options import takes
from p2pfl.audit.config import LeakConfig
from p2pfl.config import check

app = typer.Typer(
    help="Judge what the models that nodes send give away of their data.", rich_markup_mode=None
)


@app.callback()
def auditor() -> None:
    """Judge what the models that nodes send give away of their data."""  # keeps `leak` a command of its own


@app.command()
@takes(LeakConfig)
def leak(
    config: LeakConfig,
    out: Annotated[Path, typer.Option(help="Folder for pictures.png and leak.json.", metavar="DIR")] = Path(
        "leak"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
) -> None:
    """Reconstruct training pictures from what a node sends: the gradient, or the weights before and after.

    Pictures are drawn from the training data by --seed. pictures.png shows each above its reconstruction.
    """
    logs.configure("warning", as_json=False)
    from p2pfl.audit import files
    from p2pfl.audit import leak as leaking

    folder = files.folder(out)
    found = leaking.audit(config)
    figures = files.write(found, folder / "pictures.png", folder / "leak.json")
    typer.echo(json.dumps(figures) if as_json else as_text(figures), nl=as_json)


@app.command()
def table(
    out: Annotated[
        Path,
        typer.Option(help="Folder for table.md, table.json, and a PNG and JSON for each row.", metavar="DIR"),
    ] = Path("leaks"),
    only: Annotated[list[str] | None, typer.Option(help="This row alone; repeatable.", metavar="ROW")] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Every row on digits, one update, few iterations: to see that it runs."),
    ] = False,
    colour: Annotated[
        str, typer.Option(help="Data set of the rows with colour pictures.", metavar="DATASET")
    ] = "cifar10",
    data_dir: Annotated[
        str | None,
        typer.Option(help="Where data sets lie or are downloaded to.", envvar="P2PFL_DATA", metavar="DIR"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the choice of pictures, and of the attacks.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as one JSON array.")] = False,
) -> None:
    """Run the cases of docs/privacy.md, a row each of one table. Rows that are there are not run again."""
    check(seed >= 0, "seed must be 0 or more")
    logs.configure("warning", as_json=False)
    from p2pfl.audit import files
    from p2pfl.audit import table as tables

    chosen = tables.cases(only or (), quick=quick, seed=seed, data_dir=data_dir, colour=colour)
    found = tables.run(chosen, files.folder(out), lambda line: typer.echo(line, err=True))
    typer.echo(json.dumps(found) if as_json else tables.markdown(found), nl=as_json)


def as_text(figures: dict[str, Any]) -> str:
    """What people want to see of them, a line each."""
    lines = (
        ("pictures", f"{figures['pictures']}"),
        ("labels", f"{figures['labels_recovered']:.0%} recovered"),
        ("PSNR", "{psnr_min:.1f} to {psnr_max:.1f} dB, median {psnr_median:.1f}".format(**figures)),
        ("SSIM", "{ssim_min:.2f} at least, median {ssim_median:.2f}".format(**figures)),
        (
            "accuracy",
            "initial weights" if figures["accuracy"] is None else "{accuracy:.3f} before".format(**figures),
        ),
        (
            "attack",
            "{iterations} iterations, {evaluations} evaluations, {cpu_seconds:.1f} s in all".format(
                **figures
            ),
        ),
        ("picture", f"{figures['picture']}"),
    )
    return "".join(f"{name:<10}{value}\n" for name, value in lines)

"""`p2pfl predict`: what a model says of pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer


def predict(
    model_file: Annotated[
        Path, typer.Argument(help="A safetensors file of p2pfl node export.", metavar="MODEL")
    ],
    pictures: Annotated[list[Path], typer.Argument(help="PNG or JPEG files.", metavar="PICTURE...")],
    top: Annotated[int, typer.Option(help="How many classes to show of each.", min=1)] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print all probabilities as JSON.")] = False,
    drawn: Annotated[
        bool, typer.Option("--drawn", help="Light strokes: scale and centre them as MNIST's digits were.")
    ] = False,
    invert: Annotated[
        Literal["auto", "yes", "no"],
        typer.Option(help="auto: a light background, if the task's pictures have dark ones."),
    ] = "auto",
    model: Annotated[
        str | None,
        typer.Option(help="package.module:factory, if MODEL is of one of your own: its code is run."),
    ] = None,
) -> None:
    """Show the classes that a model finds likely for each picture."""
    from p2pfl import predicting

    task, found = predicting.of_files(model_file, pictures, model=model, drawn=drawn, invert=invert)
    if as_json:
        said = [
            {"picture": str(picture), "classes": dict(zip(task.classes, one.probabilities, strict=True))}
            for picture, one in zip(pictures, found, strict=True)
        ]
        typer.echo(json.dumps(said))
        return
    for picture, one in zip(pictures, found, strict=True):
        order = sorted(range(len(task.classes)), key=lambda i: -one.probabilities[i])[:top]
        shown = ", ".join(f"{task.classes[i]} {100 * one.probabilities[i]:.1f} %" for i in order)
        typer.echo(f"{picture}: {shown}")

"""What a command line left: how tests run one and read its failure."""

from __future__ import annotations

from collections.abc import Callable

from typer.testing import Result

Run = Callable[..., Result]


def error_line(result: Result) -> str:
    """What a failed command says: one line on stderr, nothing on stdout."""
    assert result.stdout == ""
    assert result.stderr.startswith("p2pfl: error: "), result.stderr
    assert result.stderr.endswith("\n")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("p2pfl: error: ").rstrip("\n")

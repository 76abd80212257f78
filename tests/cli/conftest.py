"""A runner for command lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from tests.cli.outcome import Run


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """run("node", "start", ...) -> output and exit code. The environment has no data folder, no tokens."""
    monkeypatch.delenv("P2PFL_DATA", raising=False)
    monkeypatch.delenv("P2PFL_TOKEN", raising=False)
    monkeypatch.delenv("P2PFL_CONTROL_TOKEN", raising=False)

    def invoke(*arguments: str, catch_exceptions: bool = False) -> Result:
        return CliRunner().invoke(app, arguments, prog_name="p2pfl", catch_exceptions=catch_exceptions)

    return invoke


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Commands set handlers; other tests must not meet them."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in ("httpx", "httpcore")}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)

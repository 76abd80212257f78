"""The root command: version, help, speed of the help, and how commands fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import p2pfl
from p2pfl import standalone
from p2pfl.errors import DataError, ListenError, P2pflError, SimulationError, UsageError
from tests.cli.outcome import Run, error_line

SLOW = (
    "torch",
    "torchvision",
    "httpx",
    "matplotlib",
    "sklearn",
    "starlette",
    "hypercorn",
    "numpy",
    "networkx",
    "rich",
)

LOADED_BY = """
import sys
from cli.main import app
app({arguments!r}, standalone_mode=False, prog_name="p2pfl")
print("loaded", *sorted({{name.split(".")[0] for name in sys.modules}}))
"""


def test_version(run: Run) -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"p2pfl {p2pfl.__version__}\n")


def test_no_command_shows_help(run: Run) -> None:
    result = run()
    assert result.exit_code == 0
    assert "Usage: p2pfl" in result.stdout
    assert result.stdout == run("--help").stdout


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["node", "--help"], ["node", "start", "--help"], ["sim", "run", "--help"]],
)
def test_help_imports_nothing_slow(arguments: list[str]) -> None:
    script = LOADED_BY.format(arguments=arguments)
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    loaded = result.stdout.splitlines()[-1].split()
    assert loaded[0] == "loaded"
    assert "p2pfl" in loaded
    assert not set(SLOW).intersection(loaded)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nod"], "No such command 'nod'. Did you mean 'node'?; see 'p2pfl --help'"),
        (["node"], "Missing command; see 'p2pfl node --help'"),
        (["sim"], "Missing command; see 'p2pfl sim --help'"),
        (["node", "start", "extra"], "unexpected extra argument"),
        (["node", "start", "--no-such-flag"], "No such option: --no-such-flag"),
        (["node", "start", "--rounds"], "--rounds"),
        (["node", "status"], "Missing argument 'URL'; see 'p2pfl node status --help'"),
    ],
)
def test_usage_error_is_one_line(run: Run, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in error_line(result)


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError("a"), 2), (DataError("a"), 1), (SimulationError("a"), 1), (P2pflError("a"), 1)],
)
def test_our_errors_have_their_exit_codes(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: P2pflError, code: int
) -> None:
    def fail(_: object, reload: object = None) -> None:
        raise error

    monkeypatch.setattr(standalone, "start", fail)
    result = run("node", "start")
    assert (result.exit_code, error_line(result)) == (code, "a")


def test_error_in_nurseries_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object, reload: object = None) -> None:
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [ListenError("port 8470 is taken")])])

    monkeypatch.setattr(standalone, "start", fail)
    result = run("node", "start")
    assert (result.exit_code, error_line(result)) == (1, "port 8470 is taken")


@pytest.mark.parametrize(
    "bug", [ZeroDivisionError("ours"), ExceptionGroup("", [ListenError("a"), ValueError("b")])]
)
def test_bug_is_not_hidden(run: Run, monkeypatch: pytest.MonkeyPatch, bug: Exception) -> None:
    def fail(_: object, reload: object = None) -> None:
        raise bug

    monkeypatch.setattr(standalone, "start", fail)
    with pytest.raises(type(bug)):
        run("node", "start")


def test_text_that_a_terminal_would_obey_is_defused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object, reload: object = None) -> None:
        raise P2pflError("a peer says\n\x1b[2J\rhello")

    monkeypatch.setattr(standalone, "start", fail)
    assert error_line(run("node", "start")) == "a peer says \N{REPLACEMENT CHARACTER}[2J hello"


def test_interrupt_is_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object, reload: object = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(standalone, "start", interrupt)
    result = run("node", "start")
    assert (result.exit_code, result.output) == (130, "")


def test_completion_knows_commands_and_options() -> None:
    for typed, expected in (("p2pfl ", {"node", "sim"}), ("p2pfl node start --train-h", {"--train-hours"})):
        environment = {
            **os.environ,
            "_P2PFL_COMPLETE": "complete_bash",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(typed.split(" ")) - 1),
        }
        done = subprocess.run(
            [sys.executable, "-c", "from cli.main import main; main()"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert expected <= set(done.stdout.split())

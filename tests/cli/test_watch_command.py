"""`p2pfl node watch`: one table of several nodes, some of which do not answer."""

from __future__ import annotations

import io
from typing import Any

import httpx
import pytest
from rich.console import Console

from cli import watching
from cli.asking import NOTHING
from p2pfl.errors import ConfigError
from tests.cli.outcome import Run, error_line
from tests.cli.test_status_command import ANSWER

A, B, C = (f"http://10.0.0.{index}:8470" for index in (1, 2, 3))
STATUS: dict[str, Any] = ANSWER | {
    "peers": [
        {"standing": "alive", "bytes_in": 1_500_000, "bytes_out": 2_000_000},
        {"standing": "alive", "bytes_in": 500_000, "bytes_out": 0},
        {"standing": "suspect"},
        {"standing": None},
    ],
    "callers": [{"standing": "alive"}],
    "gone": [{"standing": "dead"}],
}


def answer(request: httpx.Request) -> httpx.Response:
    """A is kitchen, B cannot be reached, C is no node."""
    host = request.url.host
    if host == "10.0.0.1":
        return httpx.Response(200, json=STATUS)
    if host == "10.0.0.2":
        raise httpx.ConnectError("refused")
    return httpx.Response(200, text="<html>")


def look_once(*urls: str, handler: Any = answer) -> tuple[bool, list[str]]:
    out = io.StringIO()
    console, transport = Console(file=out, width=200), httpx.MockTransport(handler)
    missing = watching.watch(urls, NOTHING, 1.0, console=console, transport=transport)
    return missing, out.getvalue().splitlines()


def test_a_row_for_each_node_in_the_order_given() -> None:
    missing, lines = look_once(C, A, B)
    assert missing
    assert lines[0].split("  ")[0] == "node"
    rows = [line.split() for line in lines[1:4]]
    assert rows[0][:2] == ["10.0.0.3:8470", "unreachable"]
    assert " ".join(rows[1]) == "kitchen training 3 0.950 0.123 4311 3 alive, 1 suspect, 1 dead 2.0/2.0 3"
    assert rows[2][:2] == ["10.0.0.2:8470", "unreachable"]
    notes = "\n".join(lines[4:])
    assert f"{C} is not a node: /v1/status is not JSON" in notes
    assert f"{B} cannot be reached: refused" in notes


def test_all_that_answer_is_success() -> None:
    assert look_once(A, A) == (False, look_once(A)[1])  # and none twice


def test_the_network_may_say_anything() -> None:
    hostile = {"state": "\x1b[2J", "peers": [3, {"standing": {}, "bytes_in": "x"}], "name": "[red]\x1b]0;"}
    more = {"rejected": {"a": "b"}, "round": [1], "accuracy": "0.9", "callers": [4], "gone": None}
    _, lines = look_once(A, handler=lambda _: httpx.Response(200, json=hostile | more))
    shown = "\n".join(lines)
    assert "\x1b" not in shown
    assert "[red]" in shown


def test_the_command_looks_once_without_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = watching.Line

    def line(url: str, shown: Any, transport: Any) -> Any:
        return real(url, shown, transport=httpx.MockTransport(answer))

    monkeypatch.setattr(watching, "Line", line)
    for flags in ([], ["--once"]):
        good = run("node", "watch", "10.0.0.1:8470", *flags)
        assert (good.exit_code, "kitchen" in good.stdout, good.stderr) == (0, True, "")
    bad = run("node", "watch", A, B)
    assert (bad.exit_code, "kitchen" in bad.stdout, "cannot be reached" in bad.stdout) == (1, True, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["node"], "is not http://HOST:PORT"), ([A, "--every", "0"], "0.1 to 3600"), ([], "Missing argument")],
)
def test_a_mistake_is_one_line(run: Run, arguments: list[str], says: str) -> None:
    result = run("node", "watch", *arguments)
    assert (result.exit_code, says in error_line(result)) == (2, True)


@pytest.mark.parametrize("interrupted", [False, True])
def test_on_a_terminal_it_follows_until_ctrl_c(interrupted: bool) -> None:
    """The third look ends it: by Ctrl-C, quietly, or by an error of ours, which is told."""
    looks = 0

    def handler(request: httpx.Request) -> httpx.Response:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise KeyboardInterrupt if interrupted else ConfigError("no")
        return httpx.Response(200, json=STATUS | {"round": 100 + looks})

    def follow() -> list[str]:
        out = io.StringIO()
        console = Console(file=out, width=200, force_terminal=True)
        transport = httpx.MockTransport(handler)
        assert watching.watch([A], NOTHING, 0.01, console=console, transport=transport) is False
        return out.getvalue().splitlines()

    if not interrupted:
        with pytest.raises(ConfigError):
            follow()
        return
    shown = "\n".join(follow())
    assert all(text in shown for text in ("asking", "101", "102"))
    assert shown.index("101") < shown.index("102")

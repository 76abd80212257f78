"""`p2pfl node watch`: several nodes in one table on the terminal, each looked at by a task of its own."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import trio
from rich.console import Console, JustifyMethod
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.asking import TIMEOUT, Credentials, Line
from cli.failures import one_line
from cli.status import Status, look, shown_as_text
from p2pfl.errors import PeerError, Unreachable, plain

# Seconds for one look at one node, a hung one too.
LOOK = TIMEOUT + 1
PIPE_WIDTH = 200  # characters
COLUMNS = ("node", "state", "round", "accuracy", "loss", "age", "peers", "MB in/out", "refused")
STANDINGS = ("alive", "suspect", "dead", "left")


@dataclass
class Watched:
    """One node. status: of the last look; None before the first answer.  problem: why that failed, or ""."""

    line: Line
    status: Status | None = None
    problem: str = "asking"

    async def look(self) -> None:
        """Once, within LOOK seconds; a failure is the node's, and shown."""
        try:
            with trio.move_on_after(LOOK) as scope:
                self.status = await trio.to_thread.run_sync(look, self.line, abandon_on_cancel=True)
            if scope.cancelled_caught:
                raise Unreachable(f"{self.line.url} does not answer within {LOOK:.0f} seconds")
            self.problem = ""
        except PeerError as error:
            self.problem = str(error)


def watch(
    urls: Sequence[str],
    shown: Credentials,
    every: float,
    *,
    once: bool = False,
    console: Console | None = None,
    transport: httpx.BaseTransport | None = None,
) -> bool:
    """Until Ctrl-C; once if asked to, or without a terminal. Returns whether a node did not answer then.

    every: seconds between looks at a node.  ConfigError, CredentialError.
    """
    if console is None:  # in a pipe nothing needs to be folded
        console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    watched = [Watched(Line(url, shown, transport=transport)) for url in dict.fromkeys(urls)]
    try:
        if once or not console.is_terminal:
            with plain():
                trio.run(_look_at_all, watched)
            console.print(as_table(watched))
            return any(node.problem for node in watched)
        with Live(console=console, auto_refresh=False) as live, plain():
            trio.run(_follow_all, watched, every, lambda: live.update(as_table(watched), refresh=True))
    except KeyboardInterrupt:
        return False
    finally:
        for node in watched:
            node.line.__exit__()
    return False


async def _look_at_all(watched: Sequence[Watched]) -> None:
    async with trio.open_nursery() as nursery:
        for node in watched:
            nursery.start_soon(node.look)


async def _follow_all(watched: Sequence[Watched], every: float, show: Callable[[], None]) -> None:
    show()
    async with trio.open_nursery() as nursery:
        for node in watched:
            nursery.start_soon(partial(_follow, node, every, show))


async def _follow(node: Watched, every: float, show: Callable[[], None]) -> None:
    """Look once in `every` seconds, however long a look takes."""
    while True:
        began = trio.current_time()
        await node.look()
        show()
        await trio.sleep_until(began + every)


def as_table(watched: Sequence[Watched]) -> Table:
    """A row for each node; one that does not answer shows what it said last, and why."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in COLUMNS:
        justify: JustifyMethod = "left" if title in ("node", "state") else "right"
        table.add_column(title, overflow="fold", no_wrap=title == "state", justify=justify)
    for node in watched:
        table.add_row(*_cells(node), style="dim" if node.problem else None)
    problems = [node.problem for node in watched if node.problem and node.status is not None]
    problems += [node.problem for node in watched if node.problem and node.status is None]
    if problems:
        table.caption = Text("\n".join(one_line(problem) for problem in problems))
        table.caption_justify = "left"
    return table


def _cells(node: Watched) -> list[Text]:
    status: dict[str, Any] = node.status or {}
    name = Text(one_line(str(status.get("name") or node.line.url.removeprefix("http://"))))
    if node.problem:
        state = Text(node.problem if node.problem == "asking" else "unreachable")
    else:
        state = shown_as_text(status.get("state"))
    peers = _objects(status.get("peers"))
    rejected = status.get("rejected")
    refused = sum(_numbers(rejected.values())) if isinstance(rejected, dict) else None
    traffic = [sum(_numbers(peer.get(way) for peer in peers)) / 1e6 for way in ("bytes_in", "bytes_out")]
    return [
        name,
        state,
        shown_as_text(status.get("round")),
        _figure(status.get("accuracy"), 3),
        _figure(status.get("loss"), 3),
        _figure(status.get("age"), 0),
        Text(_standings(status, peers)) if node.status else Text("-"),
        Text("{:.1f}/{:.1f}".format(*traffic)) if node.status else Text("-"),
        shown_as_text(refused),
    ]


def _standings(status: Status, peers: Sequence[dict[str, Any]]) -> str:
    """How many there are of each standing, as this node holds of them: `3 alive, 1 dead`."""
    members = [*peers, *_objects(status.get("callers")), *_objects(status.get("gone"))]
    counts = Counter(str(member.get("standing")) for member in members)
    return ", ".join(f"{counts[standing]} {standing}" for standing in STANDINGS if counts[standing]) or "none"


def _objects(values: object) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _numbers(values: Any) -> list[float]:
    return [value for value in values if isinstance(value, int | float)]


def _figure(value: object, digits: int) -> Text:
    """A number with so many digits behind the point; `-` for what is none."""
    return Text(f"{value:.{digits}f}" if isinstance(value, int | float) else "-")

"""Runs of the process engine with stub nodes, and how to see that nothing is left of them."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from netsim.config import SimConfig
from netsim.journal import Journal
from netsim.population import Outcome
from netsim.processes import ProcessEngine
from netsim.scenario import Scenario
from netsim.scenario_file import scenario_of
from p2pfl.config import build
from p2pfl.events import Event

STUB = (sys.executable, str(Path(__file__).with_name("stub_node.py")))
LONG = 60.0  # seconds that a healthy machine never needs: a test fails then instead of hanging

Tables = Mapping[str, Sequence[Mapping[str, object]]]


def scenario(nodes: int, tables: Tables | None = None, **values: object) -> Scenario:
    config = {"nodes": nodes, "engine": "process", "rounds": 1, **values}
    return scenario_of(build(SimConfig, config), tables)


def run(
    what: Scenario,
    folder: Path,
    watch: Callable[[float, Event], None] = lambda time, event: None,
    command: Sequence[str] = STUB,
) -> Outcome:
    with Journal(folder / "journal.jsonl") as journal:
        return ProcessEngine(what, journal, watch, folder, command).run()


def lines(folder: Path, *kinds: str) -> list[dict[str, Any]]:
    """Of the run's journal; of these events, or of all."""
    found = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    return [line for line in found if not kinds or line["event"] in kinds]


def processes_of(folder: Path) -> list[int]:
    """Ids of the processes whose command line names something in the folder; zombies have none."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # it has just ended
    return [pid for pid in found if pid != os.getpid()]


@contextmanager
def fifo(folder: Path, monkeypatch: pytest.MonkeyPatch | None = None) -> Iterator[int]:
    """The reading end of STUB_ALIVE."""
    path = folder / "alive"
    os.mkfifo(path)
    if monkeypatch is not None:
        monkeypatch.setenv("STUB_ALIVE", str(path))
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield fd
    finally:
        os.close(fd)


def read_lines(fd: int, count: int) -> list[str]:
    """The next so many lines that stubs write to STUB_ALIVE."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    said = b""
    while said.count(b"\n") < count:
        assert poll.poll(LONG * 1000), "the nodes do not start"
        said += os.read(fd, 4096)
    return said.decode().splitlines()


def await_gone(fd: int) -> bytes:
    """What stubs wrote to STUB_ALIVE; returns when the kernel has closed it for the last of them."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    said = b""
    while poll.poll(LONG * 1000):
        chunk = os.read(fd, 4096)
        if not chunk:
            return said
        said += chunk
    pytest.fail("a node is left behind")

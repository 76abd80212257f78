"""Real node processes on loopback: started, read, asked, stopped. Each is ended by its own pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import httpx

# Seconds after which a process that should have spoken or ended is taken for hung. Not a performance figure:
# it is many times what the slowest machine needs.
HUNG = 120.0

NODE = (sys.executable, "-m", "cli.main", "node", "start")
SKLEARN_NODE = (sys.executable, str(Path.cwd() / "examples" / "sklearn_node.py"))
ANY_PORT = ("--listen", "127.0.0.1:0")


class RealNode:
    """A running `p2pfl node start`. url: from the first line of its stdout."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url = ""

    def wait_listening(self) -> str:
        """The first line on stdout, which must say where it listens."""
        line = _within(HUNG, self.process, lambda: cast(IO[str], self.process.stdout).readline())
        assert line.startswith("listening on http://127.0.0.1:"), line
        self.url = line.split()[-1]
        return self.url

    def status(self) -> dict[str, Any]:
        answer = httpx.get(f"{self.url}/v1/status", timeout=HUNG, trust_env=False)
        answer.raise_for_status()
        return cast(dict[str, Any], answer.json())

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(HUNG)


def _within(seconds: float, process: subprocess.Popen[str], read: Any) -> str:
    """What `read` returns; a process that says nothing for so long is killed, which ends the reading."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        return cast(str, read())
    finally:
        timer.cancel()
        timer.join()


@contextmanager
def nodes(folder: Path, *flags: tuple[str, ...], command: tuple[str, ...] = NODE) -> Iterator[list[RealNode]]:
    """One process for each tuple of flags, all started at once; all gone at the end, whatever happens."""
    started: list[RealNode] = []
    try:
        for own in flags:
            started.append(start(folder, command, *own))
        yield started
    finally:
        for node in started:
            node.process.kill()
            node.process.communicate()


def start(folder: Path, command: tuple[str, ...], *flags: str) -> RealNode:
    process = subprocess.Popen(
        [*command, *ANY_PORT, *flags],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())},
    )
    return RealNode(process)


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """A node that is expected to end by itself."""
    return subprocess.run(
        [*NODE, *ANY_PORT, *flags], cwd=folder, capture_output=True, text=True, timeout=HUNG, check=False
    )

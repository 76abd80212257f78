"""Real node processes without the seconds that imports take: forked by soak/warm.py."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from typing import Any, cast

# Seconds after which a process that should have spoken or ended is taken for hung.
HUNG = 120.0

ENDED = "a node ended by itself; its log says why"


class WarmNodes:
    """Starts nodes, one after the other is ready or gone; none is left at the end. A context manager."""

    def __enter__(self) -> WarmNodes:
        self._warm = subprocess.Popen(
            [sys.executable, "-m", "soak.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._lines = _Lines(cast(Any, self._warm.stdout).fileno())
        return self

    def __exit__(self, *_: object) -> None:
        self._warm.kill()  # the kernel kills the nodes with it
        self._warm.communicate()

    def start(self, keys: dict[str, Any]) -> WarmNode:
        """keys: of a node's configuration, and `log`, the file that gets its stderr."""
        assert self._warm.stdin is not None
        self._warm.stdin.write(json.dumps(keys).encode() + b"\n")
        self._warm.stdin.flush()
        while not (line := self._lines.next()).startswith("forked "):
            pass  # the last words of one that was killed before anybody listened
        return WarmNode(int(line.split()[1]), self._lines)


class WarmNode:
    """One life of one node."""

    def __init__(self, pid: int, lines: _Lines) -> None:
        try:
            self._process = os.pidfd_open(pid)
        except ProcessLookupError as error:
            raise RuntimeError(ENDED) from error
        self._lines = lines

    def wait_listening(self) -> str:
        """Its URL, once it answers. RuntimeError if it ends or hangs before."""
        while not (line := self._lines.next(self._process)).startswith("listening on "):
            pass
        return line.split()[-1]

    def gone(self, seconds: float) -> bool:
        """Whether it has ended, or does within so many seconds."""
        return bool(select.select([self._process], [], [], seconds)[0])

    def kill(self) -> None:
        """SIGKILL; returns when it is gone. RuntimeError if it had ended by itself."""
        ended = self.gone(0)
        signal.pidfd_send_signal(self._process, signal.SIGKILL)
        if ended or not self.gone(HUNG):
            raise RuntimeError(ENDED if ended else "a node survives SIGKILL")
        os.close(self._process)


class _Lines:
    """What all of them say, line by line."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""

    def next(self, node: int | None = None) -> str:
        """The next line; RuntimeError if `node` (a pidfd) ends before, or nothing is said for too long."""
        while b"\n" not in self._rest:
            watched = [self._descriptor] if node is None else [self._descriptor, node]
            ready = select.select(watched, [], [], HUNG)[0]
            if not ready:
                raise RuntimeError("a node says nothing; does it hang?")
            if self._descriptor not in ready:
                raise RuntimeError(ENDED)
            more = os.read(self._descriptor, 4096)
            if not more:
                raise RuntimeError("the process that forks the nodes is gone")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

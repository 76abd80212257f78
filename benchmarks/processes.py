"""Real node processes, started, watched from outside and ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sysconfig
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

STOPPING = 10.0  # seconds that a node may take to stop before it is killed


def p2pfl() -> str:
    """The `p2pfl` command that belongs to this interpreter."""
    found = Path(sysconfig.get_path("scripts")) / "p2pfl"
    if not found.exists():
        raise SystemExit(f"{found} is missing; install the package, as make bench does")
    return str(found)


class NodeProcess:
    """Context manager: one `p2pfl node start` on a free port of loopback.

    before: what the command line begins with.  journal: the file it writes.
    started: time.perf_counter() when it was started.
    """

    def __init__(self, folder: Path, name: str, *flags: str, before: tuple[str, ...] = ()) -> None:
        self.journal = folder / f"{name}.jsonl"
        self._listens = threading.Event()
        self._line = ""
        self._listens_at = 0.0
        start = (p2pfl(), "node", "start", "--listen", "127.0.0.1:0", "--journal", str(self.journal))
        line = [*before, *start, *flags]
        self.started = time.perf_counter()
        with (folder / f"{name}.log").open("wb") as log:
            self._process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=log, env=os.environ)
        self._reader = threading.Thread(target=self._read, name=f"{name}-reader", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def listening(self) -> tuple[str, float]:
        """Its URL, and time.perf_counter() when it printed it, which is its journal's time 0."""
        self._listens.wait()
        if not self._line.startswith("listening on "):
            raise SystemExit(f"a node did not start; it said {self._line!r}")
        return self._line.removeprefix("listening on ").strip(), self._listens_at

    def events(self) -> list[dict[str, Any]]:
        """What its journal holds now; a line that is still being written is left out."""
        if not self.journal.exists():
            return []
        lines = self.journal.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def entered(self, state: str) -> float | None:
        """time.perf_counter() when it entered the state; None if it has not."""
        for event in self.events():
            if event["event"] == "state-changed" and event["state"] == state:
                return self._listens_at + float(event["t"])
        return None

    def wait_until(self, state: str, seconds: float) -> float:
        """As `entered`, once it has. SystemExit if that takes longer than `seconds`, or if it ends."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end and self._process.poll() is None:
            entered = self.entered(state)
            if entered is not None:
                return entered
            time.sleep(0.1)
        raise SystemExit(f"a node was not {state} after {seconds:.0f} seconds")

    def cpu_seconds(self) -> float:
        """User and system time that it has taken so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _read(self) -> None:
        assert self._process.stdout is not None
        self._line = self._process.stdout.readline().decode(errors="replace")
        self._listens_at = time.perf_counter()
        self._listens.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOPPING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

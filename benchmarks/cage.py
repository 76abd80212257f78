"""A control group of Linux that a process is put in: so much memory, and a part of a core."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PERIOD = 100_000  # microseconds in which a part of a core is given out
LEAVING = 5.0  # seconds that the kernel may take to see that a group is empty


@dataclass(frozen=True)
class Cage:
    """version: of the kernel's control groups.  before: what a command line begins with to run inside.

    peak: file with the most bytes that were taken, if the kernel tells.
    """

    version: int
    before: tuple[str, ...]
    peak: Path

    def most_bytes(self) -> int | None:
        try:
            return int(self.peak.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None


@contextmanager
def cage(memory: int, cores: float, name: str = "p2pfl-bench") -> Iterator[Cage | None]:
    """memory: bytes.  cores: of which it gets so many.  None where this user may make no such group."""
    name = f"{name}-{os.getpid()}"
    with contextlib.ExitStack() as made:
        found = None
        with contextlib.suppress(OSError):
            found = _version_2(made, name, memory, cores) or _version_1(made, name, memory, cores)
        yield found


def _version_2(made: contextlib.ExitStack, name: str, memory: int, cores: float) -> Cage | None:
    controllers = ROOT / "cgroup.subtree_control"
    if not controllers.exists() or not {"memory", "cpu"} <= set(controllers.read_text().split()):
        return None
    folder = _make(made, ROOT / name)
    (folder / "memory.max").write_text(str(memory))
    with contextlib.suppress(OSError):  # where there is no swap
        (folder / "memory.swap.max").write_text("0")
    (folder / "cpu.max").write_text(f"{round(cores * PERIOD)} {PERIOD}")
    return Cage(2, _inside([folder]), folder / "memory.peak")


def _version_1(made: contextlib.ExitStack, name: str, memory: int, cores: float) -> Cage | None:
    if not (ROOT / "memory" / "cgroup.procs").exists() or not (ROOT / "cpu" / "cgroup.procs").exists():
        return None
    room, time_ = _make(made, ROOT / "memory" / name), _make(made, ROOT / "cpu" / name)
    (room / "memory.limit_in_bytes").write_text(str(memory))
    (time_ / "cpu.cfs_period_us").write_text(str(PERIOD))
    (time_ / "cpu.cfs_quota_us").write_text(str(round(cores * PERIOD)))
    return Cage(1, _inside([room, time_]), room / "memory.max_usage_in_bytes")


def _make(made: contextlib.ExitStack, folder: Path) -> Path:
    folder.mkdir()
    made.callback(_remove, folder)
    return folder


def _remove(folder: Path) -> None:
    """Once nobody is in it any more."""
    end = time.monotonic() + LEAVING
    while True:
        try:
            return folder.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _inside(folders: list[Path]) -> tuple[str, ...]:
    enter = "; ".join(f"echo $$ > {folder}/cgroup.procs" for folder in folders)
    return ("/bin/sh", "-c", f'set -e; {enter}; exec "$@"', "cage")

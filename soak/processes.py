"""What a process holds: memory, files, threads and their time, as /proc tells. Linux only."""

from __future__ import annotations

import os
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int) -> int:
    """Bytes of memory that a process has in use."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE


def own(pid: int) -> int:
    """Bytes of memory that a process has for itself: shared pages (torch's code) are not counted."""
    size, shared = (int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[i]) for i in (1, 2))
    return (size - shared) * PAGE


def open_files(pid: int) -> dict[str, int]:
    """How many files of each kind a process has open: "socket", "pipe", "anon_inode", "file"."""
    found: dict[str, int] = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue  # closed since
        kind = "file" if target.startswith("/") else target.partition(":")[0]
        found[kind] = found.get(kind, 0) + 1
    return found


class Threads:
    """Processor time of those threads of a process that have ever had a name that begins so.

    A thread's name tells what it does now, and trio's idle threads lose theirs; but as long as there is work
    for one, the same thread gets it.
    """

    def __init__(self, pid: int, name: str) -> None:
        self._tasks = Path(f"/proc/{pid}/task")
        self._name = name
        self._known: dict[str, float] = {}  # seconds of each, also of those that have ended

    def seconds(self) -> float:
        """Look now; what those threads have taken so far, all together."""
        for task in sorted(self._tasks.iterdir()):
            try:
                if task.name not in self._known:
                    named = (task / "comm").read_text(encoding="utf-8", errors="replace")
                    if not named.startswith(self._name):
                        continue
                taken = (task / "schedstat").read_text(encoding="ascii").split()[0]
            except (FileNotFoundError, ProcessLookupError):
                continue
            self._known[task.name] = int(taken) / 1e9
        return sum(self._known.values())

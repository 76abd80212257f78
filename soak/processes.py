"""What a process holds: memory, files, children, processor time, as /proc tells. Linux only."""

from __future__ import annotations

import os
import select
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int) -> int:
    """Bytes of memory that a process has in use."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE


def own(pid: int) -> int:
    """Bytes of memory that a process and its children have for themselves: files' pages (torch's code) and
    memory that was made to be shared are not counted; what a child has not changed since, is for each.
    """
    total = 0
    for each in (pid, *children(pid)):
        fields = Path(f"/proc/{each}/statm").read_text(encoding="ascii").split()
        total += (int(fields[1]) - int(fields[2])) * PAGE
    return total


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


def children(pid: int) -> list[int]:
    """The processes that its threads have started and that live."""
    tasks = sorted(Path(f"/proc/{pid}/task").iterdir())
    return [int(child) for task in tasks for child in (task / "children").read_text("ascii").split()]


def seconds(pid: int) -> float:
    """Processor time that the first thread of a process has taken."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9


def outlasts(pid: int, seconds: float) -> bool:
    """Whether a process is still there after so many seconds; waits no longer than it lives."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        waiting = select.poll()
        waiting.register(handle, select.POLLIN)
        return not waiting.poll(1000 * seconds)
    finally:
        os.close(handle)

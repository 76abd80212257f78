"""What a run costs in memory, and how to make the allocator give it back to us instead of to the kernel."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

INTERVAL = 0.4  # seconds between samples, if they are cheap
# A sample reads every page table: tens of milliseconds for gigabytes, in which the simulation cannot get
# memory. It waits so many times what the last one took: 1 % of the time goes into sampling.
PAUSE = 100

# malloc.h of glibc
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP = 1 << 30  # bytes: more than any model's vector

_COLLECTIONS = 50_000, 20, 50  # new objects; collections of the youngest; of the middle generation


def keep_freed_memory() -> bool:
    """Let malloc keep freed vectors for the next one. False, and no effect, where libc is not glibc.

    By default glibc hands large blocks back at every free, and the kernel clears the pages anew at the next
    allocation: that costs several times what copying a model into them does. Forked workers inherit the
    setting. The price: the process keeps its largest extent until it ends.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return bool(libc.mallopt(_M_MMAP_THRESHOLD, _KEEP) and libc.mallopt(_M_TRIM_THRESHOLD, _KEEP))


@contextmanager
def frozen_heap() -> Iterator[None]:
    """Collect garbage, and keep the collector away from what is left meanwhile.

    What is frozen already stays so, also afterwards, and then no more is: nothing could tell later which of
    both was whose, for all that is frozen thaws at once. So whoever runs many simulations freezes once.
    """
    gc.collect()
    ours = gc.get_freeze_count() == 0
    if ours:
        gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


@contextmanager
def rare_collections() -> Iterator[None]:
    """Let the garbage collector look seldom meanwhile, and never at what exists already.

    By default it looks after every 700 new objects; a large simulation spends a fifth of its time on that.
    An exchange leaves no cycle behind; what there is are caught exceptions, whose tracebacks may hold a
    vector.
    """
    before = gc.get_threshold()
    with frozen_heap():
        gc.set_threshold(*_COLLECTIONS)
        try:
            yield
        finally:
            gc.set_threshold(*before)


class PeakMemory:
    """Context manager: the largest sum of PSS over this process and its descendants.

    Sampled above 2 Hz, or as often as takes 1 % of the time, and at the end.

    PSS counts a page shared by n processes as 1/n in each, so that the sum is what the tree really takes.
    Samples in a thread, which reads /proc and nothing else; it cannot influence a simulation. Enter after
    WorkerPool has forked (a fork copies no thread, but may copy a lock that one holds).

    peak_bytes: None where /proc/PID/smaps_rollup cannot be read.
    """

    def __init__(self) -> None:
        self.peak_bytes: int | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="peak-memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _sample(self) -> None:
        """The first sample at once, the last one at the end."""
        while True:
            ended = self._end.is_set()
            began = time.perf_counter()
            total = tree_pss(os.getpid())
            took = time.perf_counter() - began
            if total is None:
                return
            self.peak_bytes = max(total, self.peak_bytes or 0)
            if ended:
                return
            self._end.wait(max(INTERVAL, PAUSE * took))


def tree_pss(root: int) -> int | None:
    """Bytes: the sum of PSS over process `root` and its descendants; None if root's cannot be read."""
    total = _pss(root)
    if total is None:
        return None
    # A process that has ended since counts nothing.
    return total + sum(_pss(pid) or 0 for pid in descendants(root))


def descendants(root: int) -> list[int]:
    """Ids of all processes below `root`, in ascending order, from the parents in /proc/PID/stat."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (parent := _parent(entry)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    ahead = [root]
    while ahead:
        below = children.get(ahead.pop(), [])
        found += below
        ahead += below
    return sorted(found)


def _parent(process: Path) -> int | None:
    try:
        stat = (process / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # pid (name) state ppid ...; the name may hold spaces and parentheses
    return int(stat[stat.rindex(b")") + 1 :].split()[1])


def _pss(pid: int) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    for line in lines:
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024  # "Pss:    334 kB"
    return 0  # a zombie: it has no memory

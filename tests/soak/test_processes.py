"""What /proc tells of a process: this one."""

from __future__ import annotations

import mmap
import os
import socket
import sys
import threading
from pathlib import Path

import pytest

from soak import processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


def test_open_files_are_counted_by_kind(tmp_path: Path) -> None:
    before = processes.open_files(os.getpid())
    with socket.socket(), (tmp_path / "file").open("wb"):
        during = processes.open_files(os.getpid())
    assert during["socket"] == before.get("socket", 0) + 1
    assert during["file"] == before.get("file", 0) + 1
    assert processes.open_files(os.getpid()) == before


def test_memory_that_is_touched_counts() -> None:
    before = processes.own(os.getpid()), processes.resident(os.getpid())
    with mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.write(bytes(64 << 20))
        after = processes.own(os.getpid()), processes.resident(os.getpid())
    assert all(now - then > 32 << 20 for then, now in zip(before, after, strict=True))


def test_a_thread_is_known_by_its_name_and_counted_for_good() -> None:
    work, done, end = threading.Event(), threading.Event(), threading.Event()

    def run() -> None:
        work.wait()
        sum(range(2_000_000))
        Path("/proc/thread-self/comm").write_text("idle", encoding="ascii")
        done.set()
        end.wait()

    thread = threading.Thread(target=run)
    thread.start()
    task = Path(f"/proc/self/task/{thread.native_id}/comm")
    task.write_text("put from a test", encoding="ascii")
    threads = processes.Threads(os.getpid(), "put from")
    before = threads.seconds()
    work.set()
    done.wait()
    after = threads.seconds()
    end.set()
    thread.join()
    assert 0 <= before < after
    assert threads.seconds() == pytest.approx(after, abs=0.01)  # though it has ended
    assert processes.Threads(os.getpid(), "no such name").seconds() == 0

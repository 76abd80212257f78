"""What /proc tells of a process: this one."""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
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


def test_a_child_is_known_with_its_memory_and_its_time() -> None:
    alone = processes.own(os.getpid())
    used = "x = bytes(range(256)) * 262144; sum(range(2_000_000)); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", used], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in processes.children(os.getpid())
        assert processes.own(os.getpid()) - alone > 32 << 20
        assert processes.seconds(child.pid) > 0
        child.communicate(b"\n")
    assert child.pid not in processes.children(os.getpid())


def test_who_lives_outlasts_and_who_ends_does_not() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert processes.outlasts(child.pid, 0.0)
        child.kill()
        assert not processes.outlasts(child.pid, 30.0)
    assert not processes.outlasts(child.pid, 0.0)  # reaped

"""A crash between any two steps of a start or a save leaves the state of the last save, or of this one.

What happens on disk is stopped at each operation in turn, as kill -9 would; a file that is being written is
there in part. What a power cut may undo besides (what was not synced) is told from the order of operations.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from p2pfl.storage.directory import StateDirectory
from tests.p2pfl.storage.states import checkpoint, checkpoints, same

# What a start and a save do to a folder, in the functions that pathlib and open() end in.
OPERATIONS = ("open", "fsync", "replace", "rename", "unlink", "close", "posix_fallocate", "mkdir")


class Killed(BaseException):
    """Nothing handles it, as nothing handles kill -9."""


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[list[str]]:
    """The `step`-th operation is not done any more, nor is any after it. Gives what was done."""
    done: list[str] = []

    def stopping(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def either(*arguments: Any, **options: Any) -> Any:
            if len(done) >= step:
                if name == "fsync" and os.path.isfile(f"/proc/self/fd/{arguments[0]}"):  # noqa: PTH113
                    os.truncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
                raise Killed
            done.append(name)
            return operation(*arguments, **options)

        return either

    with monkeypatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, stopping(name, getattr(os, name)))
        yield done


def killed_after(monkeypatch: pytest.MonkeyPatch, step: int, work: Callable[[], object]) -> bool:
    """Whether `work` was cut short at its `step`-th operation."""
    with killed_at(monkeypatch, step):
        try:
            work()
        except Killed:
            return True
    return False


def release(state: StateDirectory) -> None:
    """What the kernel does when a process is gone: its files are closed, nothing more."""
    state._lock.close()


def test_a_kill_at_any_step_of_a_save_leaves_the_old_state_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, found = 0, []
    while True:
        folder = tmp_path / str(step)
        state = StateDirectory(folder)
        for round in (1, 2):
            state.save(checkpoint(round=round, seed=round))
        cut = killed_after(monkeypatch, step, lambda: state.save(checkpoint(round=3, seed=3)))  # noqa: B023
        release(state)
        again = StateDirectory(folder)
        loaded = again.load()
        assert loaded is not None
        assert same(loaded, checkpoint(round=loaded.round, seed=loaded.round))
        assert again.damage == []
        again.save(checkpoint(round=4, seed=4))
        assert same(again.load(), checkpoint(round=4, seed=4))
        assert len(checkpoints(folder)) == 2
        again.close()
        state.close()
        found.append(loaded.round)
        step += 1
        if not cut:
            break
    assert set(found) == {2, 3}
    assert found == sorted(found)
    assert step > 5


def test_a_kill_at_any_step_of_a_start_changes_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, cut = 0, True
    while cut:
        folder = tmp_path / str(step)
        state = StateDirectory(folder)
        for round in (1, 2, 3):
            state.save(checkpoint(round=round, seed=round))
        state.close()
        (folder / "checkpoint-3.safetensors").write_bytes(b"spoilt")  # so that it has something to do
        begun: list[StateDirectory] = []

        def start() -> None:
            begun.append(StateDirectory(folder))  # noqa: B023
            begun[0].load()  # noqa: B023

        held = open_files()
        cut = killed_after(monkeypatch, step, start)
        for state in begun:
            release(state)
        for descriptor in open_files() - held:  # of a start that did not get so far as to give them to us
            os.close(descriptor)
        again = StateDirectory(folder)
        assert same(again.load(), checkpoint(round=2, seed=2))
        again.close()
        step += 1
    assert step > 5


def open_files() -> set[int]:
    """Descriptors of locks that this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            if os.readlink(f"/proc/self/fd/{name}").endswith("/lock"):  # noqa: PTH115
                found.add(int(name))
        except FileNotFoundError:
            continue
    return found


def test_data_is_on_the_disk_before_its_name_is_and_both_before_the_oldest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateDirectory(tmp_path)
    for round in (1, 2):
        state.save(checkpoint(round=round))
    steps: list[str] = []

    def noting(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def both(*arguments: Any, **options: Any) -> Any:
            folder = name == "fsync" and os.path.isdir(f"/proc/self/fd/{arguments[0]}")  # noqa: PTH112
            steps.append("sync folder" if folder else name)
            return operation(*arguments, **options)

        return both

    for name in ("fsync", "replace", "unlink"):
        monkeypatch.setattr(os, name, noting(name, getattr(os, name)))
    state.save(checkpoint(round=3))
    monkeypatch.undo()
    assert steps == ["fsync", "replace", "sync folder", "unlink"]
    state.close()

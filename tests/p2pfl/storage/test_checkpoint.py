"""Checkpoints: what was saved comes back bit for bit or is refused; a crash loses one save at most."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save as to_bytes

from p2pfl.errors import StorageError
from p2pfl.storage.checkpoint import Checkpoint, StateDirectory


def checkpoint(round: int = 3, seed: int = 0, optimiser: int = 5) -> Checkpoint:
    rng = np.random.default_rng(seed)
    return Checkpoint(
        id="0123456789abcdef",
        round=round,
        age=1234.1 + round,
        weights=rng.standard_normal(7, dtype=np.float32),
        optimiser=rng.standard_normal(optimiser, dtype=np.float32),
        task_digest="a" * 32,
        fingerprint="b" * 32,
        version=17,
    )


def same(left: Checkpoint | None, right: Checkpoint) -> bool:
    assert left is not None
    scalars = ("id", "round", "age", "task_digest", "fingerprint", "version")
    return all(getattr(left, name) == getattr(right, name) for name in scalars) and (
        left.weights.tobytes() == right.weights.tobytes()
        and left.optimiser.tobytes() == right.optimiser.tobytes()
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A saved checkpoint's path."""
    StateDirectory(tmp_path).save(checkpoint())
    return tmp_path / "checkpoint.safetensors"


@pytest.fixture
def store(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path / "new" / "state")


def test_nothing_saved_is_none(store: StateDirectory) -> None:
    assert store.load() is None


def test_last_save_comes_back(store: StateDirectory) -> None:
    store.save(checkpoint(round=1, seed=1))
    store.save(checkpoint(round=2, seed=2))
    assert same(store.load(), checkpoint(round=2, seed=2))


def test_stateless_optimiser_comes_back(store: StateDirectory) -> None:
    store.save(checkpoint(optimiser=0))
    assert same(store.load(), checkpoint(optimiser=0))


def test_another_process_reads_what_was_saved(file: Path) -> None:
    assert same(StateDirectory(file.parent).load(), checkpoint())


def test_weights_that_diverged_come_back(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    diverged = checkpoint()
    diverged.weights[:3] = np.nan, np.inf, -0.0
    state.save(diverged)
    assert same(state.load(), diverged)


def test_loaded_vectors_are_float32_and_writable(file: Path) -> None:
    loaded = StateDirectory(file.parent).load()
    assert loaded is not None
    assert loaded.weights.dtype == np.float32
    assert loaded.weights.flags.c_contiguous
    loaded.weights[:] = 0
    assert same(StateDirectory(file.parent).load(), checkpoint())


def test_vectors_that_are_views_are_saved(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    whole = np.arange(14, dtype=np.float32)
    every_other = checkpoint()
    object.__setattr__(every_other, "weights", whole[::2])
    state.save(every_other)
    assert same(state.load(), every_other)


def test_folder_holds_one_private_file(file: Path) -> None:
    assert list(file.parent.iterdir()) == [file]
    assert file.stat().st_mode & 0o777 == 0o600


def test_every_truncation_is_refused(file: Path) -> None:
    state, whole = StateDirectory(file.parent), file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(StorageError, match="damaged"):
            state.load()


def test_trailing_bytes_are_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(StorageError, match="damaged"):
        StateDirectory(file.parent).load()


def test_every_flipped_bit_is_refused(file: Path) -> None:
    state, whole = StateDirectory(file.parent), file.read_bytes()
    for position in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << (position % 8)
        file.write_bytes(damaged)
        with pytest.raises(StorageError):
            state.load()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0" * 64, id="zeros"),
        pytest.param(b"\xff" * 64, id="absurd-header-length"),
        pytest.param(to_bytes({"weights": np.zeros(3, np.float32)}), id="another-safetensors-file"),
        pytest.param(to_bytes({}, {"format": "1"}), id="no-tensors"),
    ],
)
def test_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    state = StateDirectory(tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(content)
    with pytest.raises(StorageError, match="damaged") as caught:
        state.load()
    assert "--state-dir" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_format_is_named(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"format":"1"', b'"format":"2"'))
    with pytest.raises(StorageError, match="has format '2', this p2pfl reads '1'"):
        StateDirectory(file.parent).load()


def test_failed_rename_keeps_the_old_state(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    state = StateDirectory(file.parent)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(StorageError, match="No space left on device; the state of the last save is kept"):
            state.save(checkpoint(round=9, seed=9))
    assert same(state.load(), checkpoint())
    state.save(checkpoint(round=9, seed=9))
    assert same(state.load(), checkpoint(round=9, seed=9))


def test_failed_sync_keeps_the_old_state(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    state = StateDirectory(file.parent)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StorageError, match="Input/output error"):
            state.save(checkpoint(round=9, seed=9))
    assert same(state.load(), checkpoint())


def test_leftover_of_a_killed_save_is_ignored(file: Path) -> None:
    leftover = file.with_name("checkpoint.safetensors.new")
    leftover.write_bytes(file.read_bytes()[:50])
    state = StateDirectory(file.parent)
    assert same(state.load(), checkpoint())
    state.save(checkpoint(round=4, seed=4))
    assert same(state.load(), checkpoint(round=4, seed=4))
    assert not leftover.exists()


def test_data_is_on_the_disk_before_its_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateDirectory(tmp_path)
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        steps.append("sync folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "sync file")  # noqa: PTH112
        fsync(descriptor)

    def note_rename(old: Path, new: Path) -> None:
        steps.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_rename)
    state.save(checkpoint())
    assert steps == ["sync file", "rename", "sync folder"]


def test_state_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")
    with pytest.raises(StorageError, match="cannot be written to") as caught:
        StateDirectory(place)
    assert str(place) in str(caught.value)


def test_state_directory_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="choose another with --state-dir"):
        StateDirectory(tmp_path / "file" / "state")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_unwritable_state_directory_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="cannot be written to: Permission denied"):
        StateDirectory(tmp_path)


def test_checkpoint_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    (tmp_path / "checkpoint.safetensors").mkdir()
    with pytest.raises(StorageError, match=r"checkpoint\.safetensors"):
        state.load()
    with pytest.raises(StorageError, match="cannot be written"):
        state.save(checkpoint())

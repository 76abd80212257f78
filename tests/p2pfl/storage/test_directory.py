"""A state directory: what was saved comes back; damage costs one save at most, and is never silent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save as to_bytes

from p2pfl.errors import StorageError
from p2pfl.storage.checkpoint import Checkpoint, encode
from p2pfl.storage.directory import StateDirectory, newest
from tests.p2pfl.storage.states import checkpoint, checkpoints, file_limit, same

FIRST, SECOND, THIRD = (f"checkpoint-{number}.safetensors" for number in (1, 2, 3))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateDirectory]:
    state = StateDirectory(tmp_path / "new" / "state")
    yield state
    state.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds the checkpoints of rounds 1 and 2, and nobody uses it."""
    state = StateDirectory(tmp_path)
    for round in (1, 2):
        assert state.save(checkpoint(round=round, seed=round)) == ""
    state.close()
    return tmp_path


def loaded(folder: Path) -> tuple[Checkpoint | None, list[tuple[str, str]]]:
    """What a node that starts in `folder` gets, and what was set aside for it."""
    state = StateDirectory(folder)
    try:
        return state.load(), [tuple(damage) for damage in state.damage]
    finally:
        state.close()


def refused(folder: Path) -> str:
    """Why a node cannot start in `folder`; it gives back the lock, and changes nothing but that."""
    before = contents(folder)
    for _ in range(2):
        with pytest.raises(StorageError) as caught:
            loaded(folder)
    assert contents(folder) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("checkpoint*") if path.is_file()}


def test_nothing_saved_is_none(store: StateDirectory) -> None:
    assert store.load() is None


def test_last_save_comes_back(store: StateDirectory) -> None:
    for round in range(1, 5):
        store.save(checkpoint(round=round, seed=round))
        assert same(store.load(), checkpoint(round=round, seed=round))
    assert store.damage == []


def test_the_last_two_are_kept(folder: Path) -> None:
    state = StateDirectory(folder)
    for round in range(3, 12):
        state.save(checkpoint(round=round))
    assert checkpoints(folder) == ["checkpoint-10.safetensors", "checkpoint-11.safetensors"]
    assert same(state.load(), checkpoint(round=11))
    state.close()


def test_another_process_reads_what_was_saved(folder: Path) -> None:
    assert same(loaded(folder)[0], checkpoint(round=2, seed=2))


def test_everything_is_private(folder: Path) -> None:
    state = StateDirectory(folder)
    state.save(checkpoint())
    names = sorted(path.name for path in folder.iterdir())
    assert names == [SECOND, THIRD, "lock", "state.db", "state.db-shm", "state.db-wal"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    state.close()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "header", id="empty"),
        pytest.param(encode(checkpoint())[:-1], "", id="one-byte-short"),
        pytest.param(encode(checkpoint())[:300], "", id="half"),
        pytest.param(encode(checkpoint()).replace(b'"round":"3"', b'"round":"9"'), "checksum", id="checksum"),
        pytest.param(b"\xff" * 64, "", id="garbage"),
        pytest.param(to_bytes({"w": np.zeros(3, np.float32)}), "not a p2pfl", id="another-safetensors-file"),
    ],
)
def test_damaged_newest_falls_back_loudly_and_is_kept_aside(
    folder: Path, content: bytes, reason: str
) -> None:
    (folder / SECOND).write_bytes(content)
    found, ((file, why),) = loaded(folder)
    assert same(found, checkpoint(round=1, seed=1))
    assert file == SECOND
    assert reason in why
    assert checkpoints(folder) == [FIRST, f"{SECOND}.damaged"]
    assert (folder / f"{SECOND}.damaged").read_bytes() == content


def test_damaged_again_and_again_all_are_kept_aside(folder: Path) -> None:
    for count in range(3):
        (folder / SECOND).write_bytes(b"%d" % count)
        found, (damage,) = loaded(folder)
        assert same(found, checkpoint(round=1, seed=1))
        assert damage[0] == SECOND
    aside = sorted(folder.glob("*.damaged*"))
    assert [path.read_bytes() for path in aside] == [b"0", b"1", b"2"]


def test_after_a_fall_back_both_of_the_next_saves_are_kept(folder: Path) -> None:
    (folder / SECOND).write_bytes(b"")
    state = StateDirectory(folder)
    state.load()
    state.save(checkpoint(round=2, seed=8))
    assert checkpoints(folder) == [FIRST, SECOND, f"{SECOND}.damaged"]
    state.save(checkpoint(round=3, seed=9))
    assert checkpoints(folder) == [SECOND, f"{SECOND}.damaged", THIRD]
    state.close()
    (folder / THIRD).write_bytes(b"")
    assert same(loaded(folder)[0], checkpoint(round=2, seed=8))


def test_no_whole_one_is_an_error_and_nothing_is_changed(folder: Path) -> None:
    for name in (FIRST, SECOND):
        (folder / name).write_bytes(b"spoilt")
    said = refused(folder)
    assert FIRST in said
    assert SECOND in said
    assert "delete them to start afresh" in said


def test_a_folder_or_a_broken_link_in_its_place_is_damage_too(folder: Path) -> None:
    (folder / THIRD).mkdir()
    (folder / "checkpoint-4.safetensors").symlink_to("nowhere")
    found, damages = loaded(folder)
    assert same(found, checkpoint(round=2, seed=2))
    assert [file for file, _ in damages] == ["checkpoint-4.safetensors", THIRD]


def test_another_format_is_named_and_left_alone(folder: Path) -> None:
    content = (folder / SECOND).read_bytes()
    (folder / SECOND).write_bytes(content.replace(b'"format":"2"', b'"format":"3"'))
    assert "has format '3'" in refused(folder)


def test_a_state_of_an_earlier_version_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"whatever it holds")
    assert "of an earlier p2pfl" in refused(tmp_path)


def test_leftovers_of_a_crash_are_removed_and_other_files_are_not(folder: Path) -> None:
    leftovers = [folder / f"{THIRD}.new", folder / "probe.new"]
    others = [
        folder / "my.new",
        folder / "checkpoint-x.safetensors.new",
        folder / "checkpoint-04.safetensors",
    ]
    for path in leftovers + others:
        path.write_bytes(b"half")
    assert same(loaded(folder)[0], checkpoint(round=2, seed=2))
    assert not any(path.exists() for path in leftovers)
    assert all(path.read_bytes() == b"half" for path in others)


def test_a_second_process_is_told_who_holds_it(store: StateDirectory, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "state"
    with pytest.raises(StorageError, match=rf"{folder} is in use by process {os.getpid()}; "):
        StateDirectory(folder)
    store.close()
    loaded(folder)


def test_a_lock_whose_holder_was_killed_is_free(tmp_path: Path) -> None:
    program = (
        "import sys, time; from p2pfl.storage.directory import StateDirectory\n"
        f"state = StateDirectory({str(tmp_path)!r}); print(flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StorageError, match=f"in use by process {holder.pid}"):
            StateDirectory(tmp_path)
        holder.kill()
    assert loaded(tmp_path) == (None, [])


def test_a_lock_that_says_nothing_is_held_by_another_process(store: StateDirectory, tmp_path: Path) -> None:
    os.truncate(tmp_path / "new" / "state" / "lock", 0)
    with pytest.raises(StorageError, match="in use by another process"):
        StateDirectory(tmp_path / "new" / "state")


def test_a_save_that_is_too_big_for_the_disk_keeps_both(folder: Path) -> None:
    state = StateDirectory(folder)
    before = contents(folder)
    with (
        file_limit(100),
        pytest.raises(StorageError, match="File too large; the state of the last save is kept"),
    ):
        state.save(checkpoint(round=3))
    assert contents(folder) == before
    assert state.save(checkpoint(round=3)) == ""
    assert same(state.load(), checkpoint(round=3))
    state.close()


def test_what_has_no_room_for_another_checkpoint_is_refused_at_the_start(folder: Path) -> None:
    with file_limit(len(encode(checkpoint())) - 1):
        assert "cannot be written to: File too large; " in refused(folder)
    assert same(loaded(folder)[0], checkpoint(round=2, seed=2))


def test_state_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")
    with pytest.raises(StorageError, match=rf"{place} cannot be written to: File exists"):
        StateDirectory(place)


def test_state_directory_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="choose another with --state-dir"):
        StateDirectory(tmp_path / "file" / "state")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_unwritable_state_directory_is_refused(folder: Path) -> None:
    folder.chmod(0o500)
    assert "cannot be written to: Permission denied" in refused(folder)


def test_a_file_system_that_cannot_reserve_room_is_not_held_against_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    assert same(loaded(folder)[0], checkpoint(round=2, seed=2))


def test_damaged_database_costs_the_peers_alone(folder: Path) -> None:
    (folder / "state.db").write_bytes(b"no database at all, but long enough to be one" * 100)
    found, ((file, reason),) = loaded(folder)
    assert same(found, replace(checkpoint(round=2, seed=2), peers=()))
    assert (file, reason) == ("state.db", "file is not a database")
    assert (folder / "state.db.damaged").exists()


def test_a_database_that_cannot_be_written_costs_no_checkpoint(folder: Path) -> None:
    state = StateDirectory(folder)
    with file_limit(4096):  # its log is longer than that by now
        assert "state.db cannot be used: " in state.save(checkpoint(round=3))
    assert same(state.load(), checkpoint(round=3))
    state.close()


def test_newest_reads_beside_a_running_node_and_changes_nothing(folder: Path) -> None:
    state = StateDirectory(folder)
    (folder / SECOND).write_bytes(b"")
    before = contents(folder)
    found, ((file, _),) = newest(folder)
    assert same(found, checkpoint(round=1, seed=1), peers=False)
    assert file == SECOND
    assert contents(folder) == before
    state.close()


def test_newest_looks_again_if_a_running_node_has_just_removed_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_bytes
    state = StateDirectory(folder)

    def late(path: Path) -> bytes:
        monkeypatch.setattr(Path, "read_bytes", read)
        for round in (3, 4):
            state.save(checkpoint(round=round))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", late)
    found, damaged = newest(folder)
    assert same(found, checkpoint(round=4), peers=False)
    assert damaged == []
    state.close()


def test_newest_of_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read: No such file"):
        newest(tmp_path / "nowhere")

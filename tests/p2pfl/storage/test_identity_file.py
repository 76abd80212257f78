"""An identity is as the last start left it, or is refused: never silently another one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from p2pfl.errors import StorageError
from p2pfl.gossip.identity import Identity
from p2pfl.storage import atomic
from p2pfl.storage.identity import FILE_NAME, IdentityFile

SECRET = bytes(range(32))


def taken(folder: Path, secret: bytes = SECRET) -> Identity:
    return IdentityFile(folder).take(lambda: secret)


def test_each_start_has_the_same_key_and_a_higher_incarnation(tmp_path: Path) -> None:
    starts = [taken(tmp_path), taken(tmp_path, b"x" * 32), taken(tmp_path, b"y" * 32)]
    assert {start.id for start in starts} == {Identity(SECRET).id}
    assert [start.incarnation for start in starts] == [1, 2, 3]
    read = IdentityFile(tmp_path).read()
    assert (read.id, read.incarnation) == (Identity(SECRET).id, 3)
    assert taken(tmp_path).incarnation == 4  # reading raises nothing


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        taken(tmp_path)
    finally:
        os.umask(old)
    file = tmp_path / FILE_NAME
    assert file.stat().st_mode & 0o777 == 0o600
    for mode in (0o640, 0o604, 0o620, 0o660):
        file.chmod(mode)
        for open_it in (IdentityFile(tmp_path).read, lambda: taken(tmp_path)):
            with pytest.raises(StorageError, match=f"mode {mode:o}.*chmod 600"):
                open_it()


def test_incarnation_is_on_the_disk_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken(tmp_path)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    taken(tmp_path)
    assert len(synced) == 2  # the file, and the folder that names it

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "replace", full)
    with pytest.raises(StorageError, match="No space left on device; it is as it was"):
        taken(tmp_path)
    assert IdentityFile(tmp_path).read().incarnation == 2


def test_no_identity_is_an_error_for_who_only_reads(tmp_path: Path) -> None:
    assert not IdentityFile(tmp_path).exists
    with pytest.raises(StorageError, match="there is no identity in"):
        IdentityFile(tmp_path).read()


def test_no_bit_of_it_can_be_flipped(tmp_path: Path) -> None:
    """Any 32 bytes are a key: what is damaged must not become another node."""
    taken(tmp_path)
    file = tmp_path / FILE_NAME
    good = file.read_bytes()
    spaces = (ord(" "), ord("\n"))
    for place in range(len(good)):
        flipped = bytearray(good)
        flipped[place] ^= 1 << place % 7
        if good[place] in spaces and flipped[place] in b" \n\t\r":
            continue
        file.write_bytes(flipped)
        with pytest.raises(StorageError, match="damaged"):
            taken(tmp_path)
        assert file.read_bytes() == bytes(flipped)


@pytest.mark.parametrize("change", [{"key": None}, {"incarnation": None}, {"checksum": None}, {"more": 1}])
def test_what_lacks_a_part_or_has_another_is_damaged(tmp_path: Path, change: dict[str, Any]) -> None:
    taken(tmp_path)
    file = tmp_path / FILE_NAME
    fields = json.loads(file.read_text()) | change
    file.write_text(json.dumps({key: value for key, value in fields.items() if value is not None}))
    with pytest.raises(StorageError, match="a part of it is missing"):
        taken(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_anything_else_is_damaged(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / FILE_NAME
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(StorageError, match="damaged"):
        taken(tmp_path)
    assert file.read_bytes() == content


def test_what_cannot_be_read_is_no_first_start(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir(mode=0o700)
    with pytest.raises(StorageError, match="cannot be read"):
        taken(tmp_path)


def test_one_that_is_made_before_the_first_start_is_that_of_the_first_start(tmp_path: Path) -> None:
    made = IdentityFile(tmp_path).make(SECRET)
    first = taken(tmp_path, b"x" * 32)
    assert (first.id, first.incarnation) == (made.id, 1)
    with pytest.raises(StorageError, match="already"):
        IdentityFile(tmp_path).make(b"x" * 32)
    assert IdentityFile(tmp_path).read().id == made.id

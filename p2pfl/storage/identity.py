"""A node's identity on disk: its private key and its incarnation, in one file that is whole or is refused.

`identity.json` is readable by its owner alone. It is never replaced by a new identity because something is
wrong with it: others know the node by it. The incarnation is raised on the disk before the node says
anything, so that no two starts ever sign as the same one. The checksum is XXH3-128 over the other fields, for
any 32 bytes are a key, and one bit that flipped would be another node.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import xxhash

from p2pfl.errors import StorageError
from p2pfl.gossip.identity import SECRET_SIZE, Identity
from p2pfl.storage import atomic

FORMAT = 1  # raised whenever an older p2pfl could not read the file, or would read it wrongly
FILE_NAME = "identity.json"

_FIELDS = ("format", "key", "incarnation")


class IdentityFile:
    """The identity in a state directory, which must exist."""

    def __init__(self, folder: str | Path) -> None:
        self._file = Path(folder) / FILE_NAME

    @property
    def exists(self) -> bool:
        return self._file.exists()

    def read(self) -> Identity:
        """As the last start left it; it must not sign anything. StorageError if it cannot be had."""
        try:
            mode = self._file.stat().st_mode
            content = self._file.read_bytes()
        except FileNotFoundError:
            raise StorageError(
                f"there is no identity in {self._file.parent}; a node makes one at its first start"
            ) from None
        except OSError as error:
            raise StorageError(f"the identity {self._file} cannot be read: {error.strerror}") from error
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise StorageError(
                f"others may read or write the private key in {self._file} (mode {stat.S_IMODE(mode):o}); "
                f"if nobody has, run `chmod 600 {self._file}`"
            )
        try:
            return _decode(content)
        except ValueError as error:
            raise StorageError(
                f"the identity {self._file} is damaged ({error}); restore it from a copy, or move it away "
                "to start as a new node, which others will not know"
            ) from error

    def make(self, secret: bytes) -> Identity:
        """A new one, before the node's first start. StorageError if there is one."""
        if self.exists:
            raise StorageError(f"there is an identity in {self._file.parent} already; it is kept")
        self._write(secret, 0)
        return Identity(secret, 0)

    def take(self, new_secret: Callable[[], bytes]) -> Identity:
        """For one start: an incarnation that no start had before is on the disk when this returns.

        new_secret: gives SECRET_SIZE random bytes; asked if there is no identity yet. StorageError.
        """
        if self.exists:
            before = self.read()
            secret, incarnation = before.secret, before.incarnation + 1
        else:
            secret, incarnation = new_secret(), 1
        self._write(secret, incarnation)
        return Identity(secret, incarnation)

    def _write(self, secret: bytes, incarnation: int) -> None:
        try:
            atomic.replace(self._file, _encode(secret, incarnation))
        except OSError as error:
            raise StorageError(
                f"the identity {self._file} cannot be written: {error.strerror}; it is as it was"
            ) from error


def _encode(secret: bytes, incarnation: int) -> bytes:
    fields: dict[str, object] = {"format": FORMAT, "key": secret.hex(), "incarnation": incarnation}
    return (json.dumps({**fields, "checksum": _checksum(fields)}, indent=1) + "\n").encode()


def _decode(content: bytes) -> Identity:
    """ValueError says in a few words what is wrong with it."""
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(fields, dict) or set(fields) != {*_FIELDS, "checksum"}:
        raise ValueError("a part of it is missing")
    if fields["checksum"] != _checksum({name: fields[name] for name in _FIELDS}):
        raise ValueError("its checksum is wrong")
    if fields["format"] != FORMAT:
        raise ValueError(f"its format is {fields['format']!r}, this p2pfl reads {FORMAT}")
    secret, incarnation = bytes.fromhex(fields["key"]), fields["incarnation"]
    if len(secret) != SECRET_SIZE or type(incarnation) is not int or incarnation < 0:
        raise ValueError("its key or its incarnation is none")
    return Identity(secret, incarnation)


def _checksum(fields: dict[str, object]) -> str:
    """32 hex digits."""
    return xxhash.xxh3_128_hexdigest(json.dumps(fields, sort_keys=True).encode())

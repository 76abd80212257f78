"""The outside of a frame: finding its head in a stream of bytes, and taking it apart without trusting it.

A frame is one msgpack map. Its first entries are `v` and `kind`, its last `sum` and, in a model frame, `w`;
a signed one has `sig` right before `sum`.
Which value an entry may have is fields.py's business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgpack
import xxhash

from p2pfl.errors import (
    BadChecksum,
    BadField,
    DuplicateKey,
    Malformed,
    MissingField,
    TooLarge,
    WrongKind,
    WrongVersion,
)

PROTOCOL_VERSION = 1
MAX_HEAD = 64 * 1024
"""Bytes before the weights; a usual head has under 1 KiB, one with 1,000 class names some 12 KiB."""
MAX_HELLO = MAX_HEAD
MAX_ENTRIES = 64
"""Entries of the outer map, unknown ones included."""
MAX_DEPTH = 4
"""Containers within containers, the outer map included; ours are three deep (map, task, classes)."""

Kind = Literal["model", "hello", "pull"]
SIGNATURE_SIZE = 64

_PIECE = 4096  # bytes handed to the scanner at a time, so that it does not copy weights
_SUM = b"\xa3sum\xc4\x08"  # key, and the header of a bin of 8 bytes
_SIGNATURE = b"\xa3sig\xc4\x40"  # likewise, of 64 bytes
_WEIGHTS = b"\xa1w"
_BIN_HEADERS = {0xC4: 1, 0xC5: 2, 0xC6: 4}  # first byte of a bin -> bytes of its length


def seal(
    entries: dict[str, object], *, weights: int | None = None, sign: Callable[[bytes], bytes] | None = None
) -> bytes:
    """A frame's bytes up to and including `sum`, or, given the weights' length, up to their first byte.

    sign: gives the 64 bytes of `sig` for all that stands before it.
    """
    count = len(entries) + (1 if weights is None else 2) + (sign is not None)
    packed: bytes = msgpack.packb(entries, use_bin_type=True)
    covered = map_header(count) + packed[len(map_header(len(entries))) :]
    if sign is not None:
        covered += _SIGNATURE + sign(covered)
    tail = _SUM + xxhash.xxh3_64_digest(covered)
    return covered + tail + (b"" if weights is None else _WEIGHTS + _bin_header(weights))


def imprint(sealed: bytes, *, weights: int | None = None) -> bytes:
    """32 bytes, SHA-256 of what the `sum` of a sealed frame covers: an answer to it has them as `re`."""
    behind = len(_SUM) + 8 + (0 if weights is None else len(_WEIGHTS + _bin_header(weights)))
    return hashlib.sha256(memoryview(sealed)[:-behind]).digest()


def map_header(count: int) -> bytes:
    return bytes([0x80 | count]) if count < 16 else b"\xde" + count.to_bytes(2, "big")


def _bin_header(length: int) -> bytes:
    for first, width in _BIN_HEADERS.items():
        if length < 1 << 8 * width:
            return bytes([first]) + length.to_bytes(width, "big")
    raise ValueError(f"weights of {length} bytes are more than one msgpack bin can hold (4 GiB)")


class HeadScanner:
    """Collects a frame's head from chunks of any size. Sans-io; linear in the bytes, whatever the chunking.

    The scan skips over values without building them, so that a header that promises a million elements
    costs nothing; only a head that is complete, and therefore no bigger than its bytes, is decoded.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._last = 2 if kind == "model" else 1  # entries behind those that `sum` covers, itself included
        self._bytes = bytearray()
        self._scanner = msgpack.Unpacker(None, read_size=_PIECE, max_buffer_size=MAX_HEAD + _PIECE)
        self._header = 0  # bytes of the map's header, 0 until it is known
        self._entries = 0  # entries of the map
        self._skipped = 0  # keys and values passed
        self.weights_length: int | None = None  # bytes of `w`, known once the head is complete

    def feed(self, chunk: memoryview) -> memoryview | None:
        """None: more is needed. Otherwise the head is complete, and this is the part of `chunk` behind it."""
        while chunk:
            piece = chunk[: min(_PIECE, MAX_HEAD - len(self._bytes))]
            if not piece:
                raise TooLarge(f"the head has more than {MAX_HEAD} bytes")
            before = len(self._bytes)
            self._bytes += piece
            if self._header:
                self._scanner.feed(piece)
            end = self._scan()
            if end is not None:
                del self._bytes[end:]
                return chunk[end - before :]
            chunk = chunk[len(piece) :]
        return None

    def _scan(self) -> int | None:
        """The head's length if it is complete."""
        if not self._header and not self._read_map_header():
            return None
        last = self._last
        while True:
            if self._skipped >= 4 and self._skipped == 2 * (self._entries - last):
                return self._read_tail(self._header + self._scanner.tell())
            try:
                self._scanner.skip()
            except msgpack.OutOfData:
                return None
            except ValueError as error:
                raise Malformed(f"not msgpack: {_reason(error)}") from None
            self._skipped += 1
            if self._skipped == 2:
                self._check_version()
            elif self._skipped == 4:
                self._check_kind()

    def _read_map_header(self) -> bool:
        first = self._bytes[0]
        if first & 0xF0 == 0x80:
            width, self._entries = 1, first & 0x0F
        elif first in (0xDE, 0xDF):
            width = 3 if first == 0xDE else 5
            if len(self._bytes) < width:
                return False
            self._entries = int.from_bytes(self._bytes[1:width], "big")
        else:
            raise Malformed("the body is not a msgpack map")
        if not self._entries:
            raise MissingField("the frame is empty")
        self._header = width
        self._scanner.feed(memoryview(self._bytes)[width:])
        return True

    def _first_entries(self) -> list[Any]:
        """[key, value, ...] of the entries passed so far."""
        end = self._header + self._scanner.tell()
        head = bytes([0x90 | self._skipped]) + self._bytes[self._header : end]
        entries: list[Any] = _unpack(head)
        return entries

    def _check_version(self) -> None:
        key, version = self._first_entries()
        if key != "v":
            raise MissingField("v (the protocol version) must be the first entry")
        if type(version) is not int:
            raise BadField("v must be an integer")
        if version != PROTOCOL_VERSION:
            raise WrongVersion(f"protocol version {version} is not {PROTOCOL_VERSION}, which is spoken here")

        if self._entries < 2:
            raise MissingField("kind must be the second entry")

    def _check_kind(self) -> None:
        if self._entries > MAX_ENTRIES:
            raise Malformed(f"the frame has {self._entries} entries, more than {MAX_ENTRIES}")
        _, _, key, kind = self._first_entries()
        if key != "kind":
            raise MissingField("kind must be the second entry")
        if type(kind) is not str:
            raise BadField("kind must be a string")
        if kind != self._kind:
            raise WrongKind(f"this is a frame of kind {shown(kind)}; {self._kind!r} is taken here")
        if self._entries < 2 + self._last:
            raise MissingField(f"sum{' and w' if self._last == 2 else ''} must be the last of the entries")

    def _read_tail(self, at: int) -> int | None:
        """at: where the key `sum` must be."""
        tag = self._bytes[at : at + len(_SUM)]
        if tag[:4] != _SUM[: len(tag[:4])]:
            raise MissingField("sum must be the last entry" + (" before w" if self._last == 2 else ""))
        if tag != _SUM[: len(tag)]:
            raise BadField("sum must be 8 bytes (bin 8)")
        self._covered = at
        end = at + len(_SUM) + 8
        if self._last == 1:
            return end if len(self._bytes) >= end else None
        key = self._bytes[end : end + 2]
        if key != _WEIGHTS[: len(key)]:
            raise MissingField("w (the weights) must be the last entry")
        end += 2
        if len(self._bytes) <= end:
            return None
        width = _BIN_HEADERS.get(self._bytes[end])
        if width is None:
            raise BadField("w must be bytes (bin)")
        end += 1 + width
        if len(self._bytes) < end:
            return None
        self.weights_length = int.from_bytes(self._bytes[end - width : end], "big")
        return end

    def entries(self) -> dict[str, object]:
        """What the complete head says, without `sum` and `w`: unique keys, plain values, of small depth."""
        packed = self._bytes[self._header : self._covered]
        entries: dict[str, object] = _unpack(map_header(self._entries - self._last) + packed)
        _check_plain(entries, MAX_DEPTH)
        for key in ("sum", "w")[: self._last]:
            if key in entries:
                raise DuplicateKey(f"{key} occurs twice")
        return entries

    def check_sum(self) -> None:
        """Raises BadChecksum unless `sum` is that of all bytes before it."""
        covered = memoryview(self._bytes)[: self._covered]
        start = self._covered + len(_SUM)
        if xxhash.xxh3_64_digest(covered) != self._bytes[start : start + 8]:
            raise BadChecksum("the head's bytes are not those that its sum was made of")

    def imprint(self) -> bytes:
        """32 bytes, as imprint() has it."""
        return hashlib.sha256(memoryview(self._bytes)[: self._covered]).digest()

    def signed(self, entries: Mapping[str, object]) -> tuple[bytes, bytes]:
        """(what is signed, the signature) of a complete head that has `sig` among its entries.

        Raises BadField unless it stands at its place, in the one form that leaves no doubt what comes before.
        """
        at = self._covered - len(_SIGNATURE) - SIGNATURE_SIZE
        before, tag = bytes(self._bytes[: max(0, at)]), self._bytes[max(0, at) : self._covered]
        if list(entries)[-1] != "sig" or not tag.startswith(_SIGNATURE):
            raise BadField("sig must be 64 bytes (bin 8), the last entry before sum")
        return before, bytes(tag[len(_SIGNATURE) :])


def shown(value: object) -> str:
    """A peer's value for people to read: escaped, and not longer than a line."""
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _unpack(data: bytes | bytearray) -> Any:
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=True, object_pairs_hook=_unique)
    except ValueError as error:
        raise Malformed(f"not msgpack as docs/protocol.md has it: {_reason(error)}") from None


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise DuplicateKey(f"{shown(key)} occurs twice")
            seen.add(key)
    return entries


_STRINGS = frozenset({str})
_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})


def _check_plain(value: Any, depth: int) -> None:
    """Raises Malformed for extension types (timestamps too), keys that are not strings, too deep nesting."""
    kind = type(value)
    if kind in _SCALARS:
        return
    if kind is not list and kind is not dict:
        raise Malformed("msgpack's extension types are not taken")
    if not depth:
        raise Malformed(f"containers are nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        if not _STRINGS.issuperset(map(type, value)):
            raise Malformed("a key is not a string")
        value = value.values()
    for member in value:
        if type(member) not in _SCALARS:
            _check_plain(member, depth - 1)


def _reason(error: ValueError) -> str:
    return str(error)[:80] or type(error).__name__

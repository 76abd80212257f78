"""Signed frames that must be refused whoever receives them, and why; hostile_frames.py has the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import xxhash

from p2pfl.errors import (
    BadChecksum,
    BadField,
    BadSignature,
    DuplicateKey,
    FrameError,
    MissingField,
    MissingSignature,
    WrongKey,
)
from p2pfl.gossip.messages import Layout, Task

from .packing import (
    OTHER_SECRET,
    Raw,
    good_signed_hello,
    good_signed_model,
    hello,
    keyed,
    model,
    pack,
    public,
    signed,
)

Found = Iterator[tuple[str, bytes, type[FrameError]]]

ORDER = 2**252 + 27742317777372353535851937790883648493  # of Ed25519's base point, RFC 8032
NO_POINT = b"\x02" + bytes(31)  # no x fits this y


def frames(task: Task, layout: Layout) -> Found:
    """For POST /v1/exchange."""
    entries, payload = good_signed_model(task, layout)
    for name, body, error in [*_signatures(entries, payload), *_fields(entries, payload)]:
        yield f"signed, {name}", body, error
    good = signed(list(entries.items()), payload)
    swapped = bytes(len(payload))
    yield "signed, other weights under the same head", good[: -len(payload)] + swapped, BadChecksum
    unsigned = {key: value for key, value in entries.items() if key not in ("key", "to", "inc", "seq", "re")}
    yield "unsigned with a key's id", model(list(unsigned.items()), payload), MissingSignature
    without = [(key, value) for key, value in entries.items() if key != "sha256"]
    yield "signed, no sha256", signed(without, payload), MissingField
    for place, value in enumerate([b"", bytes(16), bytes(31), bytes(33), "x" * 32, None]):
        wrong = {**entries, "sha256": value}
        yield f"signed, sha256, case {place}", signed(list(wrong.items()), payload), BadField
    accidental = {**entries, "sha256": bytes(32)}  # its XXH3 alone is right
    yield "signed, another sha256", signed(list(accidental.items()), payload), BadChecksum


def hellos(task: Task, layout: Layout) -> Found:
    """For POST /v1/membership."""
    entries = good_signed_hello(task, layout)
    for name, body, error in [*_signatures(entries, None), *_fields(entries, None)]:
        yield f"signed, {name}", body, error
    unsigned = {key: value for key, value in entries.items() if key not in ("key", "to", "inc", "seq", "re")}
    yield "unsigned with a key's id", hello(list(unsigned.items())), MissingSignature


def resealed(body: bytes, payload: bytes | None) -> bytes:
    """The frame with the `sum` that is right for what stands before it."""
    tail = 14 if payload is None else 14 + len(pack("w") + pack(payload))
    covered = body[: len(body) - tail]
    rest = body[len(body) - tail + 14 :]
    return covered + pack("sum") + pack(xxhash.xxh3_64_digest(covered)) + rest


def _signatures(entries: dict[str, Any], payload: bytes | None) -> Found:
    pairs = list(entries.items())
    good = signed(pairs, payload)
    at = good.index(b"\xa3sig\xc4\x40") + 6
    signature = good[at : at + 64]

    def other(data: bytes) -> bytes:
        return signed(pairs, payload, sig=data)

    for byte in (0, 31, 32, 63):
        flipped = bytearray(signature)
        flipped[byte] ^= 1
        yield f"flipped bit in byte {byte} of the signature", other(bytes(flipped)), BadSignature
    yield "signature of nothing", other(bytes(64)), BadSignature
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    again = signature[:32] + scalar.to_bytes(32, "little")
    yield "the same signature written another way", other(again), BadSignature
    yield "signed with another key", signed(pairs, payload, secret=OTHER_SECRET), BadSignature
    stolen = {**entries, "key": public(OTHER_SECRET)}
    yield "key swapped", signed(list(stolen.items()), payload, sig=signature), WrongKey
    yield "key and signature swapped", signed(list(stolen.items()), payload, secret=OTHER_SECRET), WrongKey
    for id in ("mallory", entries["id"].upper(), entries["id"] + "0", keyed(public(OTHER_SECRET))):
        yield f"id {id}", signed([*{**entries, "id": id}.items()], payload), WrongKey
    bad = {**entries, "key": NO_POINT, "id": keyed(NO_POINT)}
    yield "key is no point", signed(list(bad.items()), payload, sig=bytes(64)), BadSignature
    for key, value in (("round", 4), ("name", "Malloru"), ("to", "eve"), ("inc", 8), ("seq", 22)):
        changed = {**entries, key: value}
        yield f"{key} changed", signed(list(changed.items()), payload, sig=signature), BadSignature
    more = [*pairs, ("x", 1)]
    yield "an entry more", signed(more, payload, sig=signature), BadSignature
    reordered = [*pairs[:2], pairs[3], pairs[2], *pairs[4:]]
    yield "two entries exchanged", signed(reordered, payload, sig=signature), BadSignature
    flipped_name = good.replace(b"Mallory", b"Malloru")
    yield "flipped byte", flipped_name, BadChecksum
    yield "flipped byte and the sum mended", resealed(flipped_name, payload), BadSignature


def _fields(entries: dict[str, Any], payload: bytes | None) -> Found:
    pairs = list(entries.items())
    pack_all = hello if payload is None else partial(model, payload=payload)
    for key in ("key", "to", "inc", "seq", "re"):
        short = [(name, value) for name, value in pairs if name != key]
        yield f"no {key}", signed(short, payload), MissingField
        yield f"only {key} of all", pack_all([*_unsigned(entries), (key, entries[key])]), MissingField
        yield f"{key} twice", signed([*pairs, (key, entries[key])], payload), DuplicateKey
    yield "no sig", pack_all(pairs), MissingField
    bad: dict[str, Sequence[object]] = {
        "key": [b"", bytes(31), bytes(33), "x" * 32, None, [0] * 32],
        "to": ["a b", "x" * 65, "n1\n", 7, None, b"bob"],
        "inc": [-1, 2**53 + 1, 1.0, True, "1", None],
        "seq": [-1, 2**53 + 1, 1.0, True, "1", None],
        "re": [bytes(1), bytes(16), bytes(31), bytes(33), "", "x" * 32, None, 0],
    }
    for key, values in bad.items():
        for place, value in enumerate(values):
            yield f"{key}, case {place}", signed([*{**entries, key: value}.items()], payload), BadField
    for place, value in enumerate(
        [b"", bytes(63), bytes(65), "x" * 64, 0, [], Raw(b"\xc5\0\x40" + bytes(64))]
    ):
        yield f"sig, case {place}", signed(pairs, payload, sig=value), BadField
    yield "an entry behind sig", signed(pairs, payload, behind=[("x", 1)]), BadField
    yield "a second sig", signed(pairs, payload, behind=[("sig", bytes(64))]), DuplicateKey
    decoy = [("x", pack("sig") + pack(bytes(64)))]
    yield "something like sig at its place", signed(pairs, payload, behind=decoy), BadField
    for place in (2, len(pairs) - 1):
        moved = [*pairs[:place], ("sig", bytes(64)), *pairs[place:]]
        yield f"sig moved to place {place}", pack_all(moved), BadField


def _unsigned(entries: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in entries.items() if key not in ("key", "to", "inc", "seq", "re")]

"""Frames packed by hand, so that every byte of them can be wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np
import xxhash
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfl.gossip.messages import Layout, Task

SECRET, OTHER_SECRET = bytes(range(32)), bytes(range(1, 33))
DOMAIN = b"p2pfl signed head 1\0"


class Raw(bytes):
    """Bytes that go into the frame as they are."""


Pairs = Sequence[tuple[object, object]]


def pack(value: object) -> bytes:
    return bytes(value) if isinstance(value, Raw) else bytes(msgpack.packb(value, datetime=True))


def pack_map(count: int) -> bytes:
    return bytes([0x80 | count]) if count < 16 else b"\xde" + count.to_bytes(2, "big")


def model(pairs: Pairs, payload: bytes, *, w: object = None, sum: object = None) -> bytes:
    """A frame of these entries and this payload. w, sum: in place of the right ones."""
    covered = pack_map(len(pairs) + 2) + b"".join(pack(key) + pack(value) for key, value in pairs)
    checksum = xxhash.xxh3_64_digest(covered) if sum is None else sum
    return covered + pack("sum") + pack(checksum) + pack("w") + pack(payload if w is None else w)


def hello(pairs: Pairs) -> bytes:
    covered = pack_map(len(pairs) + 1) + b"".join(pack(key) + pack(value) for key, value in pairs)
    return covered + pack("sum") + pack(xxhash.xxh3_64_digest(covered))


def signed(
    pairs: Pairs,
    payload: bytes | None = None,
    *,
    secret: bytes = SECRET,
    sig: object = None,
    behind: Pairs = (),
) -> bytes:
    """A signed frame. sig: in place of the right one.  behind: entries that wrongly follow it."""
    count = len(pairs) + 1 + len(behind) + (1 if payload is None else 2)
    covered = pack_map(count) + b"".join(pack(key) + pack(value) for key, value in pairs)
    if sig is None:
        sig = Ed25519PrivateKey.from_private_bytes(secret).sign(DOMAIN + covered)
    covered += b"".join(pack(key) + pack(value) for key, value in [("sig", sig), *behind])
    summed = covered + pack("sum") + pack(xxhash.xxh3_64_digest(covered))
    return summed if payload is None else summed + pack("w") + pack(payload)


def public(secret: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def keyed(key: bytes) -> str:
    return "k" + hashlib.blake2b(key, digest_size=16).hexdigest()


def envelope(to: str = "bob", *, secret: bytes = SECRET, **changes: object) -> dict[str, Any]:
    """The entries of a signed request but its signature."""
    return {"key": public(secret), "to": to, "inc": 7, "seq": 21, "re": b"", **changes}


def good_hello(task: Task, layout: Layout) -> dict[str, Any]:
    """The entries of a hello before `sum`."""
    return {
        "v": 1,
        "kind": "hello",
        "id": "mallory",
        "url": "http://192.0.2.66:8470",
        "name": "Mallory",
        "state": "training",
        "task": task.as_dict(),
        "layout": layout.fingerprint,
        "view": [["n2", "http://192.0.2.8:8470"]],
        "news": [["mallory", "http://192.0.2.66:8470", "alive", 1, 0, ""]],
        "accuracy": 0.5,
        "round": 3,
    }


def good_model(task: Task, layout: Layout) -> tuple[dict[str, Any], bytes]:
    """The entries of a model frame before `sum`, and its payload: all weights are 0.5."""
    payload = np.full(layout.size, 0.5, dtype="<f4").tobytes()
    entries = {
        **good_hello(task, layout),
        "kind": "model",
        "version": 4,
        "age": 1500.0,
        "samples": 500,
        "reply": False,
        "codec": "f32",
        "n": layout.size,
        "digest": xxhash.xxh3_128_digest(payload),
    }
    return entries, payload


def good_signed_model(task: Task, layout: Layout) -> tuple[dict[str, Any], bytes]:
    """The entries of a signed model frame before `sig`, and its payload."""
    entries, payload = good_model(task, layout)
    entries |= {"id": keyed(public(SECRET)), "sha256": hashlib.sha256(payload).digest()}
    return entries | envelope(), payload


def good_signed_hello(task: Task, layout: Layout) -> dict[str, Any]:
    """The entries of a signed hello before `sig`."""
    return {**good_hello(task, layout), "id": keyed(public(SECRET)), **envelope()}

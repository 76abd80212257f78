"""Frames packed by hand, so that every byte of them can be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np
import xxhash

from p2pfl.gossip.messages import Layout, Task


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

"""Frames that nobody sends by accident: good ones, changed by a seeded generator that knows their parts.

Most of what is drawn is packed with right checksums, so that it gets past them to what lies behind.
"""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import msgpack
import numpy as np
import xxhash
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfl.gossip.messages import Layout, Task
from tests.p2pfl.gossip.packing import (
    DOMAIN,
    SECRET,
    Raw,
    good_hello,
    good_model,
    good_signed_hello,
    good_signed_model,
    pack,
    pack_map,
)

Kind = Literal["model", "hello"]
Pairs = list[tuple[object, object]]

NUMBERS = (
    0,
    1,
    -1,
    127,
    128,
    255,
    256,
    65_535,
    2**31,
    2**32 - 1,
    2**53,
    2**53 + 1,
    2**63,
    2**64 - 1,
    -(2**63),
)
REALS = (0.0, -0.0, 1e18, 1.001e18, 5e-324, 1e308, float("nan"), float("inf"), float("-inf"))
TEXTS = (
    "",
    "x",
    "x" * 65,
    "x" * 300,
    "\x00",
    "a\nb",
    "\u202e",
    "é",
    "f32",
    "f16+deflate",
    "http://:1",
    "model",
)
# Headers that promise far more than comes: arrays, maps, strings, bytes, extensions; and the reserved byte.
PROMISES = (
    b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xde\xff\xff", b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01", b"\xc1",
    b"\x91" * 600, b"\x81\xa1x" * 300,
)  # fmt: skip
SIGNED = 0.25
"""Share of the frames that are signed: a signature costs as much as the rest of a frame."""
LARGE = 70_000  # bytes: more than a head may have


class Mutator:
    """Draws frames for this task and layout. The same seed gives the same frames."""

    def __init__(self, task: Task, layout: Layout, seed: int) -> None:
        self._random = random.Random(seed)
        self._hello: Pairs = list(good_hello(task, layout).items())
        entries, self._payload = good_model(task, layout)
        self._model: Pairs = list(entries.items())
        self._signed_hello: Pairs = list(good_signed_hello(task, layout).items())
        self._signed_model: Pairs = list(good_signed_model(task, layout)[0].items())
        self._signs = False  # the frame that is being made
        self._key = Ed25519PrivateKey.from_private_bytes(SECRET)
        self._count = layout.size
        self._changes: list[Callable[[Pairs], None]] = [
            self._replace, self._replace, self._replace_inner, self._drop, self._double, self._add,
            self._swap, self._rename, self._nest,
        ]  # fmt: skip

    def frame(self) -> tuple[Kind, bytes]:
        """The decoder that gets it, and its bytes."""
        kind: Kind = "hello" if self._random.random() < 0.25 else "model"
        self._signs = self._random.random() < SIGNED
        plain, signed = (
            (self._hello, self._signed_hello) if kind == "hello" else (self._model, self._signed_model)
        )
        pairs = list(signed if self._signs else plain)
        for _ in range(self._random.choice((0, 0, 1, 1, 1, 2, 3))):
            self._random.choice(self._changes)(pairs)
        body = self._pack_hello(pairs) if kind == "hello" else self._pack_model(pairs)
        if self._random.random() < 0.4:
            body = self._damage(body)
        if self._random.random() < 0.02:
            kind = "model" if kind == "hello" else "hello"
        return kind, body

    def pieces(self, body: bytes) -> list[memoryview]:
        """The body as it might arrive: whole, or cut anywhere."""
        view = memoryview(body)
        if self._random.random() < 0.6:
            return [view]
        step = self._random.choice((1, 7, 30, 30, 100, 100, 100, 300)) if len(body) < 2000 else 4096
        return [view[start : start + step] for start in range(0, len(view), step)]

    # -- changes of the entries

    def _at(self, pairs: Pairs) -> int:
        return self._random.randrange(len(pairs))

    def _replace(self, pairs: Pairs) -> None:
        if pairs:
            at = self._at(pairs)
            pairs[at] = (pairs[at][0], self._odd(pairs[at][1]))

    def _replace_inner(self, pairs: Pairs) -> None:
        """Something inside the task or the view."""
        for at, (key, value) in enumerate(pairs):
            if key == "task" and isinstance(value, dict) and value:
                inner = dict(value)
                name = self._random.choice([*inner, "loss"])
                inner[name] = self._odd(inner.get(name))
                if self._random.random() < 0.2:
                    del inner[name]
                pairs[at] = (key, inner)
            elif key == "view" and self._random.random() < 0.3:
                entries = [["n2", self._odd("http://192.0.2.8:8470")], [self._odd("n3"), "http://a:1"]]
                pairs[at] = (key, entries * self._random.choice((1, 1, 4, 5)))

    def _drop(self, pairs: Pairs) -> None:
        if pairs:
            del pairs[self._at(pairs)]

    def _double(self, pairs: Pairs) -> None:
        if pairs:
            pairs.insert(self._at(pairs), pairs[self._at(pairs)])

    def _add(self, pairs: Pairs) -> None:
        for _ in range(self._random.choice((1, 1, 2, 60))):
            pairs.append((self._odd_key(), self._odd(None)))

    def _swap(self, pairs: Pairs) -> None:
        if pairs:
            first, second = self._at(pairs), self._at(pairs)
            pairs[first], pairs[second] = pairs[second], pairs[first]

    def _rename(self, pairs: Pairs) -> None:
        if pairs:
            at = self._at(pairs)
            pairs[at] = (self._odd_key(), pairs[at][1])

    def _nest(self, pairs: Pairs) -> None:
        value: object = self._odd(None)
        for _ in range(self._random.choice((1, 3, 4, 5, 40))):
            value = [value] if self._random.random() < 0.5 else {"x": value}
        pairs.append(("x", value))

    # -- values

    def _odd_key(self) -> object:
        return self._random.choice(
            ("sum", "w", "v", "kind", "id", "digest", "sig", "key", "", "x", "y" * 300, 7, None, b"x", 1.5)
        )

    def _odd(self, value: object) -> object:
        match self._random.randrange(11):
            case 0:
                return self._random.choice(NUMBERS)
            case 1:
                return self._random.choice(REALS)
            case 2:
                return self._random.choice(TEXTS)
            case 3:
                return self._random.choice((None, True, False, [], {}, b"", bytes(16)))
            case 4:
                return Raw(self._random.choice(PROMISES))
            case 5:
                return self._random.choice((msgpack.ExtType(42, b"x"), datetime(2020, 1, 1, tzinfo=UTC)))
            case 6:
                return self._random.randbytes(self._random.choice((1, 8, 15, 16, 17, 200)))
            case 7:
                return [value] * self._random.choice((1, 2, 9))
            case 8 if isinstance(value, int) and abs(value) < 2**62:
                return value + self._random.choice((-1, 1, 2**20))
            case 8 if isinstance(value, str):
                return value[: self._random.randrange(len(value) + 1)] + self._random.choice(TEXTS)
            case 9 if self._random.random() < 0.05:
                return "y" * LARGE
            case _:
                return Raw(self._damage(pack(value)))

    # -- packing

    def _pack_hello(self, pairs: Pairs) -> bytes:
        covered = self._covered(pairs, 1)
        return covered + pack("sum") + pack(self._sum(covered))

    def _pack_model(self, pairs: Pairs) -> bytes:
        payload = self._weights(pairs)
        covered = self._covered(pairs, 2)
        return covered + pack("sum") + pack(self._sum(covered)) + pack("w") + pack(payload)

    def _covered(self, pairs: Pairs, more: int) -> bytes:
        count = len(pairs) + more + self._signs
        if self._random.random() < 0.03:
            count += self._random.choice((-1, 1, 20))
        covered = pack_map(max(0, count)) + b"".join(_packed(key) + _packed(value) for key, value in pairs)
        if not self._signs:
            return covered
        signature: object = self._key.sign(DOMAIN + covered)
        if self._random.random() < 0.1:
            other = self._key.sign(covered)  # of something else
            signature = self._random.choice((other, self._odd(signature)))
        return covered + pack("sig") + _packed(signature)

    def _sum(self, covered: bytes) -> object:
        if self._random.random() < 0.04:
            return self._random.choice((b"", bytes(8), bytes(9), 1, "x" * 8, None))
        return xxhash.xxh3_64_digest(covered)

    def _weights(self, pairs: Pairs) -> object:
        """The payload, at times another one; its digest and codec are put right in most of the frames."""
        payload: object = self._payload
        if self._random.random() < 0.3:
            return payload
        codec = self._random.choice(("f32", "f16", "f32+deflate", "f16+deflate"))
        values = np.full(self._count, 0.5, np.float32)
        if self._count and self._random.random() < 0.3:
            values[self._random.randrange(self._count)] = self._random.choice((np.nan, np.inf, 1e30, -np.inf))
        with np.errstate(over="ignore"):
            data = values.astype("<f4" if codec.startswith("f32") else "<f2").tobytes()
        if self._random.random() < 0.2:
            data = data[: self._random.randrange(len(data) + 1)] if self._random.random() < 0.5 else data * 2
        if codec.endswith("+deflate"):
            data = zlib.compress(bytes(100 * len(data)) if self._random.random() < 0.05 else data)
            if self._random.random() < 0.2:
                data = self._damage(data)
        sha256 = hashlib.sha256(data).digest()
        right = {"codec": codec, "digest": xxhash.xxh3_128_digest(data), "sha256": sha256}
        for at, (key, value) in enumerate(pairs):
            if type(key) is str and self._random.random() < 0.95:
                pairs[at] = (key, right.get(key, value))
        if self._random.random() < 0.03:
            return self._random.choice(("x", [0.5], None, 7, Raw(b"\xc6\xff\xff\xff\xff")))
        return data

    # -- changes of the bytes

    def _damage(self, data: bytes) -> bytes:
        """A few bytes flipped, cut, doubled, put in, or exchanged for others."""
        body = bytearray(data)
        for _ in range(self._random.choice((1, 1, 1, 2, 5))):
            at = self._random.randrange(len(body) + 1)
            match self._random.randrange(6):
                case 0 if at < len(body):
                    body[at] ^= 1 << self._random.randrange(8)
                case 1 if at < len(body):
                    body[at] = self._random.choice((0x00, 0x80, 0x90, 0xC0, 0xC1, 0xC4, 0xC7, 0xDF, 0xFF))
                case 2:
                    del body[at:]
                case 3:
                    body[at:at] = self._random.randbytes(self._random.choice((1, 2, 16)))
                case 4:
                    body[at:at] = self._random.choice(PROMISES[:8])
                case _:
                    end = min(len(body), at + self._random.randrange(1, 33))
                    body += body[at:end] if self._random.random() < 0.5 else b""
                    del body[at:end]
        return bytes(body)


def _packed(value: Any) -> bytes:
    """Also of containers that hold raw bytes, for which msgpack has no way."""
    if isinstance(value, dict):
        return pack_map(len(value)) + b"".join(
            _packed(key) + _packed(member) for key, member in value.items()
        )
    if type(value) is list and len(value) < 16:
        return bytes([0x90 | len(value)]) + b"".join(map(_packed, value))
    return pack(value)


# -- frames as they ought to be


def valid_pairs(kind: Kind, task: Task, layout: Layout) -> tuple[Pairs, bytes]:
    """A good frame's entries before `sum`, and its payload, b"" of a hello."""
    if kind == "hello":
        return list(good_hello(task, layout).items()), b""
    entries, payload = good_model(task, layout)
    return list(entries.items()), payload


def packed_hello(pairs: Pairs) -> bytes:
    covered = pack_map(len(pairs) + 1) + b"".join(_packed(key) + _packed(value) for key, value in pairs)
    return sealed(covered)


def packed_model(pairs: Pairs, payload: bytes) -> bytes:
    """With right sums for these entries and this payload."""
    digest = xxhash.xxh3_128_digest(payload)
    pairs = [(key, digest if key == "digest" and type(value) is bytes else value) for key, value in pairs]
    covered = pack_map(len(pairs) + 2) + b"".join(_packed(key) + _packed(value) for key, value in pairs)
    return sealed(covered) + pack("w") + pack(payload)


def sealed(covered: bytes) -> bytes:
    """These bytes and their sum."""
    return covered + pack("sum") + pack(xxhash.xxh3_64_digest(covered))

"""Frames that must be refused, at least one for each rule of docs/protocol.md, and why.

Pure functions of a task and a layout, so that the codec's tests and the HTTP tests share them. Frames are
packed by hand here, with right checksums unless the checksum is the point: each breaks one rule only.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgpack
import numpy as np
import xxhash

from p2pfl.errors import (
    BadChecksum,
    BadField,
    DuplicateKey,
    FrameError,
    Malformed,
    MissingField,
    NotFinite,
    TooLarge,
    Truncated,
    UnknownCodec,
    WrongKind,
    WrongLayout,
    WrongLength,
    WrongTask,
    WrongVersion,
)
from p2pfl.gossip.messages import Layout, Task
from tests.p2pfl.odd_paths import ODD_PATHS

from . import hostile_signatures
from .packing import Raw, good_hello, good_model, hello, model, pack, pack_map


class Hostile(NamedTuple):
    name: str
    body: bytes
    error: type[FrameError]


MISSING = object()
NAN, INF = float("nan"), float("inf")


def model_frames(task: Task, layout: Layout) -> list[Hostile]:
    """What POST /v1/exchange must refuse."""
    entries, payload = good_model(task, layout)
    good = model(list(entries.items()), payload)
    found = [
        *_encodings(entries, payload, good),
        *_first_entries(entries, payload),
        *_places(entries, payload),
        *_fields(entries, payload),
        *_checksums(entries, payload, good),
        *_tasks(entries, payload),
        *_lengths(entries, payload),
        *_deflates(entries, payload),
        *_numbers(entries, payload, layout.size),
        *hostile_signatures.frames(task, layout),
    ]
    return [Hostile(*one) for one in found]


def hello_frames(task: Task, layout: Layout) -> list[Hostile]:
    """What POST /v1/membership must refuse."""
    entries = good_hello(task, layout)
    good = hello(list(entries.items()))
    with_model = model([*good_model(task, layout)[0].items()], good_model(task, layout)[1])
    found: list[tuple[str, bytes, type[FrameError]]] = [
        ("empty", b"", Truncated),
        ("cut", good[:-1], Truncated),
        ("trailing byte", good + b"\x00", Malformed),
        ("model", with_model, WrongKind),
        ("huge", hello([*entries.items(), ("x", "y" * 70_000)]), TooLarge),
        ("flipped", good.replace(b"Mallory", b"Malloru"), BadChecksum),
        ("twice", hello([*entries.items(), ("id", "x")]), DuplicateKey),
        ("version 2", _with(entries, v=2), WrongVersion),
        ("round missing", _with(entries, round=MISSING), MissingField),
        ("round negative", _with(entries, round=-1), BadField),
        ("other task", _with(entries, task={**entries["task"], "name": "another"}), WrongTask),
        ("other layout", _with(entries, layout="0" * 32), WrongLayout),
        ("view of nine", _with(entries, view=[["n", "http://a:1"]] * 9), BadField),
        ("unknown question", _with(entries, ask="shutdown"), BadField),
        ("question that is none", _with(entries, ask=["probe"]), BadField),
        ("probe of nobody", _with(entries, ask="probe"), BadField),
        ("target of no probe", _with(entries, target=["n2", "http://192.0.2.8:8470"]), BadField),
        ("target without id", _with(entries, ask="probe", target=["", "http://192.0.2.8:8470"]), BadField),
        ("target with a path", _with(entries, ask="probe", target=["n2", "http://a:1/x"]), BadField),
        ("target that is none", _with(entries, ask="probe", target=7), BadField),
        ("answer that is none", _with(entries, reached=1), BadField),
        ("accuracy above 1", _with(entries, accuracy=1.5), BadField),
        ("accuracy that is no number", _with(entries, accuracy=NAN), BadField),
        ("accuracy in words", _with(entries, accuracy="high"), BadField),
    ]
    found += hostile_signatures.hellos(task, layout)
    return [Hostile(f"hello, {name}", body, error) for name, body, error in found]


Found = Iterator[tuple[str, bytes, type[FrameError]]]


def _with(entries: dict[str, Any], payload: bytes | None = None, **changes: object) -> bytes:
    """The frame with changed or missing entries, and checksums that are right for them."""
    changed = {key: value for key, value in {**entries, **changes}.items() if value is not MISSING}
    if payload is None:
        return hello(list(changed.items()))
    if "digest" not in changes:
        changed["digest"] = xxhash.xxh3_128_digest(payload)
    return model(list(changed.items()), payload)


def _encodings(entries: dict[str, Any], payload: bytes, good: bytes) -> Found:
    pairs = list(entries.items())

    def extra(value: object, key: object = "x") -> bytes:
        return model([*pairs, (key, value)], payload)

    yield "empty", b"", Truncated
    yield "cut in the map's header", good[:2], Truncated
    yield "cut in the head", good[:50], Truncated
    yield "cut before the weights", good[: -len(payload)], Truncated
    yield "cut in the weights", good[:-1], Truncated
    yield "trailing byte", good + b"\x00", Malformed
    yield "two frames", good + good, Malformed
    yield "a list", pack([1, 2, 3]), Malformed
    yield "nil", b"\xc0", Malformed
    yield "json", b'{"v": 1, "kind": "model"}', Malformed
    yield "pickle", b"\x80\x04N.", MissingField
    yield "reserved byte", extra(Raw(b"\xc1")), Malformed
    yield "invalid utf-8", _with(entries, payload, name=Raw(b"\xa2\xff\xfe")), Malformed
    yield "surrogate in utf-8", _with(entries, payload, name=Raw(b"\xa3\xed\xa0\x80")), Malformed
    yield "extension", extra(msgpack.ExtType(42, b"x")), Malformed
    yield "timestamp", extra(datetime(2020, 1, 1, tzinfo=UTC)), Malformed
    yield "timestamp as age", _with(entries, payload, age=datetime(2020, 1, 1, tzinfo=UTC)), Malformed
    yield "integer key", extra(1, key=7), Malformed
    yield "nil key", extra(1, key=None), Malformed
    yield "bin key", extra(1, key=b"x"), Malformed
    yield "nested too deep", extra(Raw(b"\x91" * 5 + b"\x90")), Malformed
    yield "nested maps", extra(Raw(b"\x81\xa1x" * 100 + b"\x80")), Malformed
    yield "nested 60,000 deep", extra(Raw(b"\x91" * 60_000)), Malformed
    yield "list that promises 2^32", extra(Raw(b"\xdd\xff\xff\xff\xff"))[: -len(payload)], Truncated
    yield "map that promises 2^32", extra(Raw(b"\xdf\xff\xff\xff\xff"))[: -len(payload)], Truncated
    yield "lists that promise 2^16 each", extra(Raw(b"\xdc\xff\xff" * 500))[: -len(payload)], Truncated
    yield "string that promises 4 GiB", extra(Raw(b"\xdb\xff\xff\xff\xff")) + bytes(80_000), TooLarge
    yield "too many entries", model([*pairs, *((f"x{i}", i) for i in range(50))], payload), Malformed
    yield "head too large", extra("y" * 70_000), TooLarge
    yield (
        "million classes",
        _with(entries, payload, task={**entries["task"], "classes": ["c"] * 10**6}),
        TooLarge,
    )
    for key in ("v", "kind", "id", "task"):
        yield f"{key} twice", extra(entries[key], key=key), DuplicateKey
    yield "sum twice", extra(bytes(8), key="sum"), DuplicateKey
    yield "w twice", extra(b"", key="w"), DuplicateKey
    inner = b"".join(pack(key) + pack(value) for key, value in entries["task"].items())
    twice = Raw(b"\x86" + inner + pack("name") + pack("x"))
    yield "task's name twice", _with(entries, payload, task=twice), DuplicateKey
    yield "key twice in an unknown entry", extra(Raw(b"\x82\xa1a\x01\xa1a\x01")), DuplicateKey


def _first_entries(entries: dict[str, Any], payload: bytes) -> Found:
    pairs = list(entries.items())
    yield "empty map", b"\x80", MissingField
    yield "version 2", _with(entries, payload, v=2), WrongVersion
    yield "version 0", _with(entries, payload, v=0), WrongVersion
    yield "version 2 and nothing else", pack({"v": 2}), WrongVersion
    yield "version 1 and nothing else", pack({"v": 1}), MissingField
    yield (
        "version 2 with all else wrong",
        pack({"v": 2, "kind": 3, "sum": None, "x": [[[[[[]]]]]]}),
        WrongVersion,
    )
    yield "version as text", _with(entries, payload, v="1"), BadField
    yield "version as boolean", _with(entries, payload, v=True), BadField
    yield "version as float", _with(entries, payload, v=1.0), BadField
    yield "all but the version", model(pairs[1:], payload), MissingField
    yield "version second", model([pairs[1], pairs[0], *pairs[2:]], payload), MissingField
    yield "hello", hello([*{**entries, "kind": "hello"}.items()][:10]), WrongKind
    yield "unknown kind", _with(entries, payload, kind="gossip"), WrongKind
    yield "kind as number", _with(entries, payload, kind=1), BadField
    yield "no kind", model([pairs[0], *pairs[2:]], payload), MissingField
    yield "kind third", model([pairs[0], pairs[2], pairs[1], *pairs[3:]], payload), MissingField
    yield "version and kind only", pack({"v": 1, "kind": "model"}), MissingField


def _places(entries: dict[str, Any], payload: bytes) -> Found:
    pairs = list(entries.items())
    covered = pack_map(len(pairs) + 1) + b"".join(pack(key) + pack(value) for key, value in pairs)
    checksum = pack("sum") + pack(xxhash.xxh3_64_digest(covered))
    yield "no sum", covered + pack("w") + pack(payload), MissingField
    yield "no w", covered + checksum, MissingField
    yield "w before sum", covered[:2] + b"\x13" + covered[3:] + pack("w") + pack(b"") + checksum, MissingField
    yield "sum of 4 bytes", model(pairs, payload, sum=bytes(4)), BadField
    yield "sum as number", model(pairs, payload, sum=1), BadField
    yield "w as text", model(pairs, payload, w="x"), BadField
    yield "w as list", model(pairs, payload, w=[0.5]), BadField
    yield "w as extension", model(pairs, payload, w=msgpack.ExtType(1, payload[:8])), BadField
    for key, _ in pairs[2:]:
        if key not in ("news", "accuracy"):  # which need not be there
            yield f"no {key}", _with(entries, payload, **{key: MISSING}), MissingField


def _fields(entries: dict[str, Any], payload: bytes) -> Found:
    node = "http://192.0.2.8:8470"
    bad: dict[str, Sequence[object]] = {
        "id": ["", "x" * 65, "a b", "../up", "n1\n", "né", 7, None, b"n1"],
        "url": [
            "http://host:1/path",
            "http://host:1/",
            "http://user@host:1",
            "http://host:1?q",
            "http://host:1#f",
            "http://host",
            "http://host:",
            "http://host:0",
            "http://host:65536",
            "http://host:8\n",
            "http://" + "h" * 250 + ":1",
            "http://[::1:80",
            "http://[::::]:80",
            "http://999.1.1.1:80",
            "http://127.1:80",
            "http://.:80",
            "http://bücher.example:80",
            "HTTP://host:80",
            "ftp://host:21",
            "file:///etc/passwd",
            "//host:80",
            "host:80",
            *(f"http://host:1{path}" for path in ODD_PATHS),
            7,
        ],
        "name": ["x" * 65, "a\nb", "\x1b[2J", "a\u202eb", None, b"Ada"],
        "state": ["", "sleeping", "DONE", 1],
        "layout": ["", "0" * 31, "0" * 33, "G" * 32, "A" * 32, bytes(16), None],
        "news": [
            None,
            {},
            "n2",
            ["n2"],
            [["n2", node, "alive", 1, 0]],
            [["n2", node, "alive", 1, 0, "", 1]],
            [["n2", node, "alive", 1, 0, ""]] * 65,
            [["n 2", node, "alive", 1, 0, ""]],
            [["n2", "http://host:1/path", "alive", 1, 0, ""]],
            [["n2", None, "alive", 1, 0, ""]],
            [["n2", node, "undead", 1, 0, ""]],
            [["n2", node, ["alive"], 1, 0, ""]],
            [["n2", node, "alive", -1, 0, ""]],
            [["n2", node, "alive", 1, 2**53 + 1, ""]],
            [["n2", node, "alive", 1.0, 0, ""]],
            [["n2", node, "alive", True, 0, ""]],
            [["n2", node, "suspect", 1, 0, "a b"]],
            [["n2", node, "suspect", 1, 0, None]],
        ],
        "view": [
            None,
            {},
            "n2",
            ["n2"],
            [["n2"]],
            [["n2", node, 1]],
            [["n2", node]] * 9,
            [["n 2", node]],
            [[2, node]],
            [["n2", ""]],
            [["n2", "http://:8470"]],
            [["n2", "http://192.0.2.8:8470/v1/status"]],
            [["n2", "http://192.0.2.8:8470@evil:1"]],
            [["n2", None]],
        ],
        "round": [-1, 2**53 + 1, 2**64 - 1, 1.0, True, "3", None],
        "version": [-1, 2**53 + 1, 1.0],
        "age": [-1.0, -0.001, 1.001e18, 2**63, NAN, INF, -INF, "1", True, None],
        "samples": [-1, 2**53 + 1, 1.0, True],
        "reply": [0, 1, "true", None],
        "codec": [1, None, "x" * 257, b"f32"],
        "n": [-1, 2**53 + 1, "6", 6.0, None],
        "digest": [b"", bytes(15), bytes(17), "x" * 16, None],
    }
    for key, values in bad.items():
        for place, value in enumerate(values):
            yield f"{key}, case {place}: {value!r:.60}", _with(entries, payload, **{key: value}), BadField


def _checksums(entries: dict[str, Any], payload: bytes, good: bytes) -> Found:
    pairs = list(entries.items())
    yield "flipped byte in name", good.replace(b"Mallory", b"Malloru"), BadChecksum
    yield (
        "flipped byte in an unknown entry",
        model([*pairs, ("x", 1)], payload, sum=xxhash.xxh3_64_digest(model([*pairs, ("x", 2)], payload))),
        BadChecksum,
    )
    yield "sum of nothing", model(pairs, payload, sum=bytes(8)), BadChecksum
    yield "digest of nothing", _with(entries, payload, digest=bytes(16)), BadChecksum
    yield "flipped byte in the first weight", good[: -len(payload)] + _flipped(payload, 0), BadChecksum
    yield "flipped byte in the last weight", good[: -len(payload)] + _flipped(payload, -1), BadChecksum
    nan = payload[:-4] + np.array(NAN, dtype="<f4").tobytes()
    yield "weight turned NaN on the way", good[: -len(payload)] + nan, BadChecksum


def _flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def _tasks(entries: dict[str, Any], payload: bytes) -> Found:
    task = entries["task"]
    others: dict[str, object] = {
        "name": task["name"] + "-2",
        "classes": [*task["classes"], "one more"],
        "input_shape": [*task["input_shape"], 1],
        "mean": [*task["mean"], 0.1],
        "std": [*task["std"], 0.1],
    }
    for key, value in others.items():
        yield f"task of other {key}", _with(entries, payload, task={**task, key: value}), WrongTask
        short = {k: v for k, v in task.items() if k != key}
        yield f"task without {key}", _with(entries, payload, task=short), MissingField
    bad: dict[str, Sequence[object]] = {
        "name": ["", "x" * 257, "a\0", 1],
        "classes": [[], "ab", [1], [""], ["x" * 257], ["c"] * 10_001, {}],
        "input_shape": [[], [0], [-1], [1.0], [2**31 + 1], [1] * 9, 28],
        "mean": [[NAN], [INF], ["0"], [True], 0.5],
        "std": [[-1.0], [NAN], [None]],
    }
    for key, values in bad.items():
        for value in values:
            body = _with(entries, payload, task={**task, key: value})
            yield f"task with {key} {value!r:.30}", body, BadField
    yield "task with a sixth entry", _with(entries, payload, task={**task, "loss": "l2"}), BadField
    yield "task as list", _with(entries, payload, task=list(task)), BadField
    yield "task as digest", _with(entries, payload, task="0" * 32), BadField
    yield "other layout", _with(entries, payload, layout="0" * 32), WrongLayout
    both = _with(entries, payload, layout="0" * 32, task={**task, "name": "another"})
    yield "other task and layout", both, WrongTask


def _lengths(entries: dict[str, Any], payload: bytes) -> Found:
    count = entries["n"]
    for codec in ("", "F32", "f64", "i8", "pickle", "f32+gzip", "f32+deflate+deflate", "deflate"):
        yield f"codec {codec!r}", _with(entries, payload, codec=codec), UnknownCodec
    yield "n one more", _with(entries, payload, n=count + 1), WrongLength
    yield "n one less", _with(entries, payload, n=count - 1), WrongLength
    yield "n zero", _with(entries, payload, n=0), WrongLength
    yield "one weight less", _with(entries, payload[:-4]), WrongLength
    yield "one weight more", _with(entries, payload + bytes(4)), WrongLength
    yield "one byte less", _with(entries, payload[:-1]), WrongLength
    yield "no weights", _with(entries, b""), WrongLength
    yield "f32 called f16", _with(entries, payload, codec="f16"), WrongLength
    yield "f16 called f32", _with(entries, payload[: len(payload) // 2]), WrongLength
    yield "more weights than any codec makes", _with(entries, payload * 2 + bytes(64)), TooLarge
    pairs = list(entries.items())
    yield "4 GiB promised", model(pairs, b"", w=Raw(b"\xc6\xff\xff\xff\xff")), TooLarge


def _deflates(entries: dict[str, Any], payload: bytes) -> Found:
    packed = zlib.compress(payload)

    def deflated(data: bytes) -> bytes:
        return _with(entries, data, codec="f32+deflate")

    yield "deflate, nothing", deflated(b""), WrongLength
    yield "deflate, raw bytes", deflated(payload), Malformed
    yield "deflate, a bomb", deflated(zlib.compress(bytes(100 * len(payload)), 9)), WrongLength
    yield "deflate, one byte more", deflated(zlib.compress(payload + b"\0")), WrongLength
    yield "deflate, one byte less", deflated(zlib.compress(payload[:-1])), WrongLength
    yield "deflate, stream cut", deflated(packed[:-1]), Malformed
    yield "deflate, byte behind", deflated(packed + b"\0"), Malformed
    yield "deflate, two streams", deflated(packed + packed), Malformed
    yield "deflate, wrong adler", deflated(_flipped(packed, -1)), Malformed
    raw = zlib.compressobj(wbits=-15)
    yield "deflate, no zlib header", deflated(raw.compress(payload) + raw.flush()), Malformed
    dictionary = zlib.compressobj(zdict=b"dictionary")
    yield "deflate, dictionary", deflated(dictionary.compress(payload) + dictionary.flush()), Malformed


def _numbers(entries: dict[str, Any], payload: bytes, count: int) -> Found:
    for value in (NAN, INF, -INF):
        for at in (0, count // 2, count - 1):
            weights = np.frombuffer(payload, dtype="<f4").copy()
            weights[at] = value
            for codec, data in (("f32", weights.tobytes()), ("f16", weights.astype("<f2").tobytes())):
                yield f"{value} at {at}, {codec}", _with(entries, data, codec=codec), NotFinite
                body = _with(entries, zlib.compress(data), codec=f"{codec}+deflate")
                yield f"{value} at {at}, {codec}+deflate", body, NotFinite

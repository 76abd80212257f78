"""A foreign client's frames, written from docs/protocol.md alone: nothing of p2pfl is imported here."""

from __future__ import annotations

import zlib
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt
import xxhash

MODEL_KEYS = ("version", "age", "samples", "reply", "codec", "n", "digest", "w")


def build_frame(
    task: dict[str, Any],
    fingerprint: str,
    weights: npt.NDArray[np.float32],
    *,
    id: str = "foreign",
    url: str = "",
    name: str = "",
    state: str = "training",
    view: tuple[tuple[str, str], ...] = (),
    round: int = 0,
    version: int = 0,
    age: float = 0.0,
    samples: int = 0,
    reply: bool = False,
    codec: str = "f32",
) -> bytes:
    """A model frame; weights: (P,). task: as in /v1/layout's "task", fingerprint likewise."""
    payload = weights.astype("<f4" if codec.startswith("f32") else "<f2").tobytes()
    if codec.endswith("+deflate"):
        payload = zlib.compress(payload)
    entries = {
        **_common("model", task, fingerprint, id, url, name, state, view, round),
        "version": version,
        "age": age,
        "samples": samples,
        "reply": reply,
        "codec": codec,
        "n": weights.size,
        "digest": xxhash.xxh3_128_digest(payload),
    }
    return _pack(entries, payload)


def build_hello(
    task: dict[str, Any],
    fingerprint: str,
    *,
    id: str = "foreign",
    url: str = "",
    name: str = "",
    state: str = "waiting",
    view: tuple[tuple[str, str], ...] = (),
    round: int = 0,
) -> bytes:
    return _pack(_common("hello", task, fingerprint, id, url, name, state, view, round), None)


def read_frame(body: bytes) -> dict[str, Any]:
    """The entries of a frame whose checksums hold; a model's also has "weights": (n,) float32.

    Raises ValueError for a frame that is not as docs/protocol.md has it.
    """
    pairs: list[tuple[str, Any]] = msgpack.unpackb(body, object_pairs_hook=list)
    entries = dict(pairs)
    keys = [key for key, _ in pairs]
    expect(len(entries) == len(pairs), "a key twice")
    expect(keys[:2] == ["v", "kind"] and entries["v"] == 1, "version 1 and the kind come first")
    entries["task"] = dict(entries["task"])
    if entries["kind"] == "hello":
        expect(keys[-1] == "sum", "sum comes last")
        tail = len(_packed("sum", entries["sum"]))
    else:
        expect(keys[-2:] == ["sum", "w"], "sum and w come last")
        tail = len(_packed("sum", entries["sum"], "w", entries["w"]))
        expect(xxhash.xxh3_128_digest(entries["w"]) == entries["digest"], "digest of the weights")
        payload = entries["w"]
        if entries["codec"].endswith("+deflate"):
            payload = zlib.decompress(payload)
        element = "<f4" if entries["codec"].startswith("f32") else "<f2"
        entries["weights"] = np.frombuffer(payload, dtype=element).astype(np.float32)
        expect(entries["weights"].size == entries["n"], "n elements")
    expect(xxhash.xxh3_64_digest(body[:-tail]) == entries["sum"], "sum of the bytes before it")
    return entries


def expect(holds: bool, rule: str) -> None:
    if not holds:
        raise ValueError(f"not a good frame: {rule}")


def _common(
    kind: str,
    task: dict[str, Any],
    fingerprint: str,
    id: str,
    url: str,
    name: str,
    state: str,
    view: tuple[tuple[str, str], ...],
    round: int,
) -> dict[str, Any]:
    return {
        "v": 1,
        "kind": kind,
        "id": id,
        "url": url,
        "name": name,
        "state": state,
        "task": task,
        "layout": fingerprint,
        "view": [list(entry) for entry in view],
        "round": round,
    }


def _pack(entries: dict[str, Any], payload: bytes | None) -> bytes:
    packer = msgpack.Packer(autoreset=False)
    packer.pack_map_header(len(entries) + (1 if payload is None else 2))
    for key, value in entries.items():
        packer.pack(key)
        packer.pack(value)
    covered: bytes = packer.bytes()
    tail = _packed("sum", xxhash.xxh3_64_digest(covered))
    return covered + tail + (b"" if payload is None else _packed("w", payload))


def _packed(*items: object) -> bytes:
    return b"".join(msgpack.packb(item) for item in items)

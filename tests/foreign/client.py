"""A foreign client's frames, written from docs/protocol.md alone: nothing of p2pfl is imported here."""

from __future__ import annotations

import base64
import hashlib
import zlib
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt
import xxhash
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MODEL_KEYS = ("version", "age", "samples", "reply", "codec", "n", "digest", "w")
SIGNED_KEYS = ("key", "to", "inc", "seq", "re", "sig")
DOMAIN = b"p2pfl signed head 1\0"


@dataclass
class Key:
    """Who signs: its counter grows with each frame. inc: to be raised whenever the client starts anew."""

    private: Ed25519PrivateKey
    inc: int = 1
    seq: int = 0

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    @property
    def id(self) -> str:
        return id_of(self.public)

    def envelope(self, to: str) -> dict[str, Any]:
        """The entries of a signed request to node `to`, but for the signature."""
        self.seq += 1
        return {"key": self.public, "to": to, "inc": self.inc, "seq": self.seq, "re": b""}


def id_of(public: bytes) -> str:
    return "k" + hashlib.blake2b(public, digest_size=16).hexdigest()


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
    key: Key | None = None,
    to: str = "",
) -> bytes:
    """A model frame; weights: (P,). task: as in /v1/layout's "task", fingerprint likewise.

    key: signs it for the node `to`; its id stands in place of `id`.
    """
    payload = weights.astype("<f4" if codec.startswith("f32") else "<f2").tobytes()
    if codec.endswith("+deflate"):
        payload = zlib.compress(payload)
    entries = {
        **_common("model", task, fingerprint, key.id if key else id, url, name, state, view, round),
        "version": version,
        "age": age,
        "samples": samples,
        "reply": reply,
        "codec": codec,
        "n": weights.size,
        "digest": xxhash.xxh3_128_digest(payload),
    }
    if key:
        entries |= {"sha256": hashlib.sha256(payload).digest(), **key.envelope(to)}
    return _pack(entries, payload, key)


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
    key: Key | None = None,
    to: str = "",
) -> bytes:
    """A hello; key, to: as of a model, but that `to` may be unknown."""
    entries = _common("hello", task, fingerprint, key.id if key else id, url, name, state, view, round)
    return _pack(entries | (key.envelope(to) if key else {}), None, key)


def build_pull(nonce: bytes, key: Key, to: str) -> tuple[str, bytes]:
    """The header P2pfl-Pull of a signed pull, and the frame in it."""
    frame = _pack({"v": 1, "kind": "pull", "id": key.id, "nonce": nonce, **key.envelope(to)}, None, key)
    return base64.urlsafe_b64encode(frame).rstrip(b"=").decode(), frame


def imprint(frame: bytes) -> bytes:
    """What the answer to this request has as `re`."""
    entries = msgpack.unpackb(frame)
    tail = _packed("sum", entries["sum"], *(("w", entries["w"]) if "w" in entries else ()))
    return hashlib.sha256(frame[: -len(tail)]).digest()


def expect_answer(entries: dict[str, Any], request: bytes, key: Key, id: str) -> None:
    """ValueError unless these entries, already read, are node `id`'s signed answer to our signed request."""
    expect("sig" in entries and entries["id"] == id, "signed by whom was asked")
    expect(entries["to"] == key.id, "for us")
    expect(entries["re"] == imprint(request), "an answer to this request")


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
        expect("sig" not in entries or hashlib.sha256(entries["w"]).digest() == entries["sha256"], "sha256")
        payload = entries["w"]
        if entries["codec"].endswith("+deflate"):
            payload = zlib.decompress(payload)
        element = "<f4" if entries["codec"].startswith("f32") else "<f2"
        entries["weights"] = np.frombuffer(payload, dtype=element).astype(np.float32)
        expect(entries["weights"].size == entries["n"], "n elements")
    expect(xxhash.xxh3_64_digest(body[:-tail]) == entries["sum"], "sum of the bytes before it")
    expect(id_like(entries["id"]) <= ("sig" in entries), "who has a key's id signs")
    if "sig" in entries:
        _expect_signature(entries, keys[keys.index("sum") - 1], body[:-tail])
    return entries


def id_like(id: str) -> bool:
    """Whether this is the id of a key."""
    return len(id) == 33 and id[0] == "k" and set(id[1:]) <= set("0123456789abcdef")


def _expect_signature(entries: dict[str, Any], last: str, covered: bytes) -> None:
    expect(all(key in entries for key in SIGNED_KEYS), "all entries of a signed frame")
    expect(last == "sig" and covered[-70:-64] == b"\xa3sig\xc4\x40", "sig is the last before sum")
    expect(id_of(entries["key"]) == entries["id"], "the key is the sender's")
    try:
        Ed25519PublicKey.from_public_bytes(entries["key"]).verify(covered[-64:], DOMAIN + covered[:-70])
    except InvalidSignature:
        expect(False, "signature")


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


def _pack(entries: dict[str, Any], payload: bytes | None, key: Key | None = None) -> bytes:
    packer = msgpack.Packer(autoreset=False)
    packer.pack_map_header(len(entries) + (1 if payload is None else 2) + (key is not None))
    for name, value in entries.items():
        packer.pack(name)
        packer.pack(value)
    covered: bytes = packer.bytes()
    if key:
        covered += _packed("sig", key.private.sign(DOMAIN + covered))
    tail = _packed("sum", xxhash.xxh3_64_digest(covered))
    return covered + tail + (b"" if payload is None else _packed("w", payload))


def _packed(*items: object) -> bytes:
    return b"".join(msgpack.packb(item) for item in items)

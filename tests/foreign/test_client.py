"""A client written from docs/protocol.md alone and p2pfl understand each other's frames."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xxhash
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfl.gossip.admission import Admission
from p2pfl.gossip.codec import (
    ModelDecoder,
    decode_hello,
    decode_pull,
    encode_hello,
    encode_model,
    encode_weights,
)
from p2pfl.gossip.identity import Identity
from tests.p2pfl.gossip.samples import HEAD, HELLO, LAYOUT, SENDER, TASK, weights_of

from . import client

CODECS = ["f32", "f16", "f32+deflate", "f16+deflate"]


def test_it_imports_nothing_of_p2pfl() -> None:
    tree = ast.parse(Path(client.__file__).read_text(encoding="utf-8"))
    froms = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    ours = {"__future__", "base64", "dataclasses", "hashlib", "typing", "zlib"}
    others = {"msgpack", "numpy", "numpy.typing", "xxhash"}
    signing = {"cryptography.exceptions", "cryptography.hazmat.primitives.asymmetric.ed25519"}
    assert froms | names == ours | others | signing


@pytest.mark.parametrize("codec", CODECS)
def test_its_model_is_accepted(codec: str) -> None:
    weights = weights_of(LAYOUT).astype(np.float16).astype(np.float32)
    body = client.build_frame(
        TASK.as_dict(),
        LAYOUT.fingerprint,
        weights,
        id="f1",
        url="http://:9000",
        view=(("n2", "http://192.0.2.8:8470"),),
        round=2,
        age=10.5,
        samples=5,
        reply=True,
        codec=codec,
    )
    decoder = ModelDecoder(TASK, LAYOUT)
    decoder.feed(body)
    model = decoder.finish()
    np.testing.assert_array_equal(model.weights, weights)
    assert (model.head.sender.id, model.head.sender.url, model.head.round) == ("f1", "http://:9000", 2)
    assert (model.head.age, model.head.samples, model.head.wants_reply) == (10.5, 5, True)
    assert [entry.id for entry in model.head.view] == ["n2"]


@pytest.mark.parametrize("codec", CODECS)
def test_it_reads_our_model(codec: str) -> None:
    weights = weights_of(LAYOUT).astype(np.float16).astype(np.float32)
    entries = client.read_frame(b"".join(encode_model(HEAD, encode_weights(weights, codec))))
    np.testing.assert_array_equal(entries["weights"], weights)
    assert entries["task"] == TASK.as_dict()
    assert entries["view"] == [[entry.id, entry.url] for entry in HEAD.view]
    assert (entries["id"], entries["version"], entries["round"]) == (HEAD.sender.id, HEAD.version, HEAD.round)


def test_hellos_are_understood_both_ways() -> None:
    body = client.build_hello(TASK.as_dict(), LAYOUT.fingerprint, id="f1", round=1)
    hello = decode_hello(body, TASK, LAYOUT)
    assert (hello.sender.id, hello.sender.url, hello.round) == ("f1", "", 1)
    assert client.read_frame(encode_hello(HELLO))["id"] == HELLO.sender.id


def key() -> client.Key:
    return client.Key(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), inc=3)


def test_what_it_signs_is_accepted() -> None:
    task, them = TASK.as_dict(), Identity(bytes(32))
    signing, admission = key(), Admission(them.id, require_signed=True)
    hello = decode_hello(client.build_hello(task, LAYOUT.fingerprint, key=signing), TASK, LAYOUT)
    body = client.build_frame(task, LAYOUT.fingerprint, weights_of(LAYOUT), key=signing, to=them.id)
    decoder = ModelDecoder(TASK, LAYOUT, admission.request)
    decoder.feed(body)
    head = decoder.finish().head
    header, frame = client.build_pull(bytes(16), signing, them.id)
    pull = decode_pull(header)
    for message in (hello, head, pull):
        admission.accept(message)
    assert hello.sender.id == head.sender.id == pull.sender_id == signing.id == Identity(bytes(range(32))).id
    assert (client.imprint(body), client.imprint(frame)) == (head.imprint, pull.imprint)


def test_it_verifies_what_we_answer() -> None:
    signing, us = key(), Identity(bytes(32))
    request = client.build_hello(TASK.as_dict(), LAYOUT.fingerprint, key=signing)
    asked = decode_hello(request, TASK, LAYOUT).imprint
    sender = replace(SENDER, id=us.id)
    for to, re, good in ((signing.id, asked, True), ("n1", asked, False), (signing.id, bytes(32), False)):
        head = replace(HEAD, sender=sender, envelope=us.envelope(to, re))
        answer = b"".join(encode_model(head, encode_weights(weights_of(LAYOUT)), us.sign))
        entries = client.read_frame(answer)
        if good:
            client.expect_answer(entries, request, signing, us.id)
        else:
            with pytest.raises(ValueError, match="not a good frame"):
                client.expect_answer(entries, request, signing, us.id)


def test_it_notices_a_forgery() -> None:
    us = Identity(bytes(32))
    hello = replace(HELLO, sender=replace(SENDER, id=us.id), envelope=us.envelope(""))
    good = encode_hello(hello, us.sign)
    client.read_frame(good)
    forged = good[:-14].replace(b"Ada", b"Eve")
    with pytest.raises(ValueError, match="not a good frame: signature"):
        client.read_frame(forged + good[-14:-8] + xxhash.xxh3_64_digest(forged))
    with pytest.raises(ValueError, match="not a good frame: who has a key's id signs"):
        client.read_frame(encode_hello(replace(hello, envelope=None)))


def test_it_notices_damage() -> None:
    good = b"".join(encode_model(HEAD, encode_weights(weights_of(LAYOUT))))
    for damaged in (good.replace(b"Ada", b"Adb"), good[:-1] + bytes([good[-1] ^ 1])):
        with pytest.raises(ValueError, match="not a good frame"):
            client.read_frame(damaged)

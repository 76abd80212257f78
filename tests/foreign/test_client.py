"""A client written from docs/protocol.md alone and p2pfl understand each other's frames."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from p2pfl.gossip.codec import ModelDecoder, decode_hello, encode_hello, encode_model, encode_weights
from tests.p2pfl.gossip.samples import HEAD, HELLO, LAYOUT, TASK, weights_of

from . import client

CODECS = ["f32", "f16", "f32+deflate", "f16+deflate"]


def test_it_imports_nothing_of_p2pfl() -> None:
    tree = ast.parse(Path(client.__file__).read_text(encoding="utf-8"))
    froms = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert froms | names == {"__future__", "typing", "zlib", "msgpack", "numpy", "numpy.typing", "xxhash"}


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


def test_it_notices_damage() -> None:
    good = b"".join(encode_model(HEAD, encode_weights(weights_of(LAYOUT))))
    for damaged in (good.replace(b"Ada", b"Adb"), good[:-1] + bytes([good[-1] ^ 1])):
        with pytest.raises(ValueError, match="not a good frame"):
            client.read_frame(damaged)

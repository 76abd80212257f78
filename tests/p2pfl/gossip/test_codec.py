"""Frames made here come back as they were, in any pieces; damaged ones never do."""

from __future__ import annotations

import dataclasses

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings

from p2pfl.errors import DataError, FrameError, Malformed, Truncated, WrongKind
from p2pfl.gossip import fields
from p2pfl.gossip.codec import (
    MAX_HEAD,
    ModelDecoder,
    decode_hello,
    encode_hello,
    encode_model,
    encode_weights,
    largest_model,
)
from p2pfl.gossip.messages import (
    NODE_STATES,
    Hello,
    Layout,
    ModelHead,
    Sender,
    Task,
    TensorSpec,
    ViewEntry,
)
from tests.p2pfl.odd_paths import ODD_PATHS

from . import packing
from .samples import HEAD, HELLO, LAYOUT, TASK, decode, frame, quick, refusal, weights_of

CODECS = ("f32", "f16", "f32+deflate", "f16+deflate")

ids = st.from_regex(r"[0-9A-Za-z._-]{1,64}", fullmatch=True)
hosts = st.from_regex(r"[a-z0-9]{1,10}(\.[a-z]{1,5}){1,2}", fullmatch=True) | st.ip_addresses().map(
    lambda address: str(address) if address.version == 4 else f"[{address}]"
)
ports = st.integers(1, 65535)
schemes = st.sampled_from(["http", "https"])
urls = st.builds("{}://{}:{}".format, schemes, hosts, ports)
counts = st.integers(0, 2**53)
names = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=64)
senders = st.builds(
    Sender,
    id=ids,
    url=st.just("") | urls | st.builds("{}://:{}".format, schemes, ports),
    state=st.sampled_from(NODE_STATES),
    name=names,
)
views = st.lists(st.builds(ViewEntry, ids, urls), max_size=8).map(tuple)
heads = st.builds(
    ModelHead,
    sender=senders,
    task=st.just(TASK),
    fingerprint=st.just(LAYOUT.fingerprint),
    version=counts,
    round=counts,
    age=st.floats(0, 1e18),
    samples=counts,
    wants_reply=st.booleans(),
    view=views,
)
hellos = st.builds(
    Hello,
    sender=senders,
    task=st.just(TASK),
    fingerprint=st.just(LAYOUT.fingerprint),
    round=counts,
    view=views,
)


@quick
@given(head=heads, codec=st.sampled_from(CODECS), sizes=st.lists(st.integers(0, 400), max_size=20))
def test_model_survives_any_chunking(head: ModelHead, codec: str, sizes: list[int]) -> None:
    weights = weights_of(LAYOUT)
    first, second = encode_model(head, encode_weights(weights, codec))
    body = first + bytes(second)
    decoder = ModelDecoder(TASK, LAYOUT)
    at = 0
    for size in [*sizes, len(body)]:
        decoder.feed(memoryview(body)[at : at + size])
        at += size
    model = decoder.finish()
    assert model.head == head == decoder.head
    assert decoder.size == len(body) <= largest_model(LAYOUT)
    expected = weights if codec.startswith("f32") else weights.astype(np.float16).astype(np.float32)
    assert model.weights.dtype == np.float32
    np.testing.assert_array_equal(model.weights, expected)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [1, 2**15 - 1, 2**15, 2**16 + 1, 200_000])
def test_block_borders_lose_nothing(codec: str, size: int) -> None:
    layout = Layout("wide", (TensorSpec("weight", (size,)),))
    weights = weights_of(layout)
    body = frame(dataclasses.replace(HEAD, fingerprint=layout.fingerprint), weights, codec)
    expected = weights if codec.startswith("f32") else weights.astype(np.float16).astype(np.float32)
    for step in (None, 4099, 65_536):
        np.testing.assert_array_equal(decode(body, step, layout=layout).weights, expected)


@quick
@given(hello=hellos)
def test_hello_survives(hello: Hello) -> None:
    assert decode_hello(encode_hello(hello), TASK, LAYOUT) == hello


def test_weights_are_not_copied_and_hashed_once() -> None:
    weights = weights_of(LAYOUT)
    payload = encode_weights(weights)
    _, second = encode_model(HEAD, payload)
    assert second is payload.data
    assert np.shares_memory(np.frombuffer(second, dtype=np.float32), weights)
    assert decode(frame()).digest == payload.digest


def test_the_same_task_is_the_same_object() -> None:
    assert decode(frame()).head.task is TASK


def test_decoded_weights_are_the_receivers_own() -> None:
    body = bytearray(frame())
    model = decode(bytes(body))
    body[-36:] = bytes(36)
    np.testing.assert_array_equal(model.weights, weights_of(LAYOUT))
    assert model.weights.flags.writeable


def test_refused_as_soon_as_the_head_tells() -> None:
    first, _ = encode_model(
        dataclasses.replace(HEAD, fingerprint="0" * 32), encode_weights(weights_of(LAYOUT))
    )
    decoder = ModelDecoder(TASK, LAYOUT)
    decoder.feed(first[:-1])
    with pytest.raises(FrameError):
        decoder.feed(first[-1:])
    with pytest.raises(Truncated):
        decoder.finish()


def test_first_byte_too_many_is_refused() -> None:
    decoder = ModelDecoder(TASK, LAYOUT)
    decoder.feed(frame())
    with pytest.raises(Malformed):
        decoder.feed(b"\0")


@pytest.mark.parametrize("codec", CODECS)
def test_every_prefix_is_truncated(codec: str) -> None:
    body = frame(codec=codec)
    assert {refusal(body[:length]) for length in range(len(body))} == {Truncated}


@pytest.mark.parametrize("codec", CODECS)
def test_every_flipped_bit_is_refused(codec: str) -> None:
    body = bytearray(frame(codec=codec))
    accepted = []
    for at in range(len(body)):
        for bit in range(8):
            body[at] ^= 1 << bit
            if refusal(bytes(body)) is None:
                accepted.append((at, bit))
            body[at] ^= 1 << bit
    assert not accepted


def test_every_flipped_bit_of_a_hello_is_refused() -> None:
    body = bytearray(encode_hello(HELLO))
    for at in range(len(body)):
        for bit in range(8):
            body[at] ^= 1 << bit
            with pytest.raises(FrameError):
                decode_hello(bytes(body), TASK, LAYOUT)
            body[at] ^= 1 << bit


@quick
@given(body=st.binary(max_size=300))
@example(b"\xdf")
def test_arbitrary_bytes_raise_only_frame_errors(body: bytes) -> None:
    assert refusal(body) is not None
    with pytest.raises(FrameError):
        decode_hello(body, TASK, LAYOUT)


@settings(quick, max_examples=300)
@given(
    at=st.integers(0, 600),
    cut=st.integers(0, 20),
    splice=st.binary(max_size=30),
    codec=st.sampled_from(CODECS),
    step=st.integers(1, 50),
)
def test_mutations_raise_only_frame_errors_whatever_the_chunking(
    at: int, cut: int, splice: bytes, codec: str, step: int
) -> None:
    good = frame(codec=codec)
    body = good[:at] + splice + good[at + cut :]
    assert refusal(body) == refusal(body, step)
    assert (refusal(body) is None) == (body == good)


def test_model_posted_as_hello_and_the_other_way_round() -> None:
    with pytest.raises(WrongKind):
        decode_hello(frame(), TASK, LAYOUT)
    assert refusal(encode_hello(HELLO)) is WrongKind


def test_entries_of_later_versions_are_ignored_but_covered() -> None:
    entries, payload = packing.good_model(TASK, LAYOUT)
    pairs = [*entries.items(), ("signature", b"x" * 64), ("trace", {"id": [1, 2.5, None, True]})]
    assert decode(packing.model(pairs, payload), 1).head.round == 3


@pytest.mark.parametrize("round", [0, 2**53])
@pytest.mark.parametrize("age", [0.0, 5e-324, 1e18])
def test_limits_are_within_range(round: int, age: float) -> None:
    head = dataclasses.replace(HEAD, round=round, version=round, samples=round, age=age)
    assert decode(frame(head)).head == head


def test_whole_age_may_come_as_integer() -> None:
    entries, payload = packing.good_model(TASK, LAYOUT)
    head = decode(packing.model(list({**entries, "age": 7}.items()), payload)).head
    assert isinstance(head.age, float)


def test_a_thousand_classes_fit_and_a_task_that_does_not_is_our_error() -> None:
    def with_classes(count: int) -> ModelHead:
        task = Task("wide", tuple(f"class {i:05d}" for i in range(count)), (1, 8, 8), (0.5,), (0.5,))
        return dataclasses.replace(HEAD, task=task)

    head = with_classes(1000)
    assert decode(frame(head), task=head.task).head == head
    with pytest.raises(DataError, match=f"more than the {MAX_HEAD}"):
        frame(with_classes(10_000))


def test_an_address_that_peers_would_refuse_is_not_passed_on() -> None:
    entry = ViewEntry("n9", "http://bücher.example:80")
    head = dataclasses.replace(HEAD, view=(entry, *HEAD.view))
    assert decode(frame(head)).head.view == HEAD.view


@pytest.mark.parametrize(
    "url",
    [
        "http://a:1",
        "https://a.b-c.example:65535",
        "http://n_1:80",
        "http://127.0.0.1:8470",
        "http://[::1]:80",
        "http://a:1/tasks/digits",
        "https://[::1]:80/tasks/" + "x" * 32,
    ],
)
def test_address_is_taken(url: str) -> None:
    assert fields.is_url(url)


def test_address_without_host_only_where_it_is_allowed() -> None:
    assert fields.is_url("http://:80", empty_host=True)
    assert fields.is_url("http://:80/tasks/digits", empty_host=True)
    assert not fields.is_url("http://:80")
    assert not fields.is_url("http://:80/tasks/digits")


@pytest.mark.parametrize("path", ODD_PATHS)
def test_address_with_another_path_is_refused(path: str) -> None:
    assert not fields.is_url(f"http://a:1{path}", empty_host=True)

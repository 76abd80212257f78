"""A snapshot that reaches its receiver in memory is taken as it is, and nothing else is."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from p2pfl.errors import BadChecksum, FrameError, Malformed, NotFinite
from p2pfl.gossip import snapshot
from p2pfl.gossip.codec import ModelDecoder, encode_model, encode_weights
from p2pfl.gossip.messages import Model, Vector
from p2pfl.gossip.snapshot import all_finite, whole_snapshot

from .samples import HEAD, LAYOUT, TASK, weights_of


def chunks_of(weights: Vector) -> tuple[bytes, memoryview]:
    return encode_model(HEAD, encode_weights(weights))


def fed(*chunks: bytes | memoryview) -> Model:
    decoder = ModelDecoder(TASK, LAYOUT)
    for chunk in chunks:
        decoder.feed(chunk)
    return decoder.finish()


def refusal(*chunks: bytes | memoryview) -> type[FrameError]:
    with pytest.raises(FrameError) as caught:
        fed(*chunks)
    return caught.type


def test_whole_snapshot_is_not_copied_and_cannot_be_written() -> None:
    weights = weights_of(LAYOUT)
    model = fed(*chunks_of(weights))
    assert np.shares_memory(model.weights, weights)
    assert type(model.weights) is np.ndarray
    with pytest.raises(ValueError, match="read-only"):
        model.weights[0] = 0
    weights[0] += 1  # whose it is may still do what it likes with it, and has promised not to
    assert model.weights[0] == weights[0]


def test_it_is_looked_at_once_however_often_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def finite(values: Vector) -> bool:
        looks.append(values.size)
        return all_finite(values)

    monkeypatch.setattr(snapshot, "all_finite", finite)
    head, weights = chunks_of(weights_of(LAYOUT))
    models = [fed(head, weights) for _ in range(3)]
    assert looks == [LAYOUT.size]
    assert models[0].weights is models[2].weights


def test_pieces_and_copies_are_copied_and_checked() -> None:
    weights = weights_of(LAYOUT)
    head, data = chunks_of(weights)
    for chunks in (
        (head, data[:8], data[8:]),
        (head, bytes(data)),
        (head, memoryview(bytearray(data))),
        (head + bytes(data),),
        (head, memoryview(np.frombuffer(data, np.uint8))),
    ):
        model = fed(*chunks)
        assert not np.shares_memory(model.weights, weights)
        assert model.weights.flags.writeable
        np.testing.assert_array_equal(model.weights, weights)


@pytest.mark.parametrize("codec", ["f16", "f16+deflate", "f32+deflate"])
def test_other_codecs_are_decoded(codec: str) -> None:
    weights = np.zeros(LAYOUT.size, np.float32)
    model = fed(*encode_model(HEAD, encode_weights(weights, codec)))
    assert not np.shares_memory(model.weights, weights)
    np.testing.assert_array_equal(model.weights, weights)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad: float) -> None:
    weights = weights_of(LAYOUT)
    weights[3] = bad
    chunks = chunks_of(weights)
    assert [refusal(*chunks), refusal(*chunks)] == [NotFinite, NotFinite]


def test_finite_values_may_overflow_in_sum() -> None:
    weights = np.full(LAYOUT.size, 3e38, np.float32)
    np.testing.assert_array_equal(fed(*chunks_of(weights)).weights, weights)


def test_another_snapshot_than_the_head_says() -> None:
    head, _ = chunks_of(weights_of(LAYOUT, 1))
    _, data = chunks_of(weights_of(LAYOUT, 2))
    assert refusal(head, data) is BadChecksum


def test_bytes_after_it() -> None:
    head, data = chunks_of(weights_of(LAYOUT))
    assert refusal(head, data, b"!") is Malformed
    assert refusal(head, data, data) is Malformed


def test_snapshot_of_another_size() -> None:
    head, _ = chunks_of(weights_of(LAYOUT))
    longer = replace(LAYOUT, tensors=LAYOUT.tensors * 2)
    _, data = chunks_of(weights_of(longer))
    assert refusal(head, data) is Malformed
    assert fed(head, chunks_of(weights_of(LAYOUT))[1]).head == HEAD


def test_backwards_is_not_whole() -> None:
    _, data = chunks_of(weights_of(LAYOUT))
    assert whole_snapshot(data) is not None
    assert whole_snapshot(data[::-1]) is None
    assert whole_snapshot(data[4:]) is None


def test_small_part_of_something_large_is_copied() -> None:
    large = np.zeros(100 * LAYOUT.size, np.float32)
    model = fed(*chunks_of(large[: LAYOUT.size]))
    assert not np.shares_memory(model.weights, large)
    assert model.weights.base is None


def test_receivers_keep_it_alive_and_nobody_else() -> None:
    weights = weights_of(LAYOUT)
    alive = weakref.ref(weights)
    model = fed(*chunks_of(weights))
    expected = weights.copy()
    del weights
    gc.collect()
    np.testing.assert_array_equal(model.weights, expected)
    del model
    gc.collect()
    assert alive() is None

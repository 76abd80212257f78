"""A checkpoint's bytes: what was encoded comes back bit for bit, anything else is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as to_bytes

from p2pfl.storage.checkpoint import Damaged, OtherFormat, decode, encode
from tests.p2pfl.storage.states import checkpoint, same


def test_what_was_encoded_comes_back() -> None:
    assert same(decode(encode(checkpoint())), replace(checkpoint(), peers=()))


def test_stateless_optimiser_comes_back() -> None:
    assert same(decode(encode(checkpoint(optimiser=0))), checkpoint(optimiser=0), peers=False)


def test_weights_that_diverged_come_back() -> None:
    diverged = checkpoint()
    diverged.weights[:3] = np.nan, np.inf, -0.0
    assert same(decode(encode(diverged)), diverged, peers=False)


def test_vectors_that_are_views_are_encoded() -> None:
    every_other = replace(checkpoint(), weights=np.arange(14, dtype=np.float32)[::2])
    assert same(decode(encode(every_other)), every_other, peers=False)


def test_decoded_vectors_are_float32_and_the_callers_own() -> None:
    content = encode(checkpoint())
    loaded = decode(content)
    assert loaded.weights.dtype == loaded.optimiser.dtype == np.float32
    assert loaded.weights.flags.c_contiguous
    loaded.weights[:] = 0
    assert same(decode(content), checkpoint(), peers=False)


def test_every_truncation_is_refused() -> None:
    whole = encode(checkpoint())
    for length in range(len(whole)):
        with pytest.raises(Damaged):
            decode(whole[:length])


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(Damaged):
        decode(encode(checkpoint()) + b"\0")


def test_every_flipped_bit_is_refused() -> None:
    whole = bytearray(encode(checkpoint()))
    for position in range(8 * len(whole)):
        whole[position // 8] ^= 1 << (position % 8)
        with pytest.raises((Damaged, OtherFormat)):
            decode(bytes(whole))
        whole[position // 8] ^= 1 << (position % 8)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 2000), st.integers(0, 2000))
def test_whatever_a_part_is_overwritten_with_is_refused(part: bytes, start: int, cut: int) -> None:
    whole = encode(checkpoint())
    start, cut = start % len(whole), cut % len(whole)
    changed = whole[:start] + part + whole[min(start + cut, len(whole)) :]
    if changed != whole:
        with pytest.raises((Damaged, OtherFormat)):
            decode(changed)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0" * 64, id="zeros"),
        pytest.param(b"\xff" * 64, id="absurd-header-length"),
        pytest.param(to_bytes({"weights": np.zeros(3, np.float32)}), id="another-safetensors-file"),
        pytest.param(to_bytes({"weights": np.zeros(3, np.int64)}), id="integers"),
        pytest.param(to_bytes({}, {"format": "2"}), id="no-tensors"),
    ],
)
def test_bytes_that_are_no_checkpoint_are_refused_on_one_line(content: bytes) -> None:
    with pytest.raises(Damaged) as caught:
        decode(content)
    assert "\n" not in str(caught.value)


def test_another_format_is_named() -> None:
    with pytest.raises(OtherFormat, match="3"):
        decode(encode(checkpoint()).replace(b'"format":"2"', b'"format":"3"'))

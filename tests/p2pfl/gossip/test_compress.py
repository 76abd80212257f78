"""Each codec gives back what went in, and says which it really used."""

from __future__ import annotations

import zlib

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from p2pfl.errors import FrameError, Malformed, UnknownCodec, WrongLength
from p2pfl.gossip import compress
from p2pfl.gossip.messages import Vector
from p2pfl.gossip.snapshot import all_finite

from .samples import quick

vectors = hnp.arrays(
    np.float32, st.integers(1, 200), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
)


def through(spec: str, weights: Vector, piece: int = 1 << 16) -> tuple[str, Vector]:
    used, data = compress.encode(spec, weights)
    codec = compress.parse(used)
    assert codec.length_fits(len(data), weights.size)
    assert len(data) <= compress.most_bytes(weights.size)
    vector = np.full(weights.size, np.nan, dtype=np.float32)
    sink = compress.sink(codec, vector)
    for start in range(0, len(data), piece):
        sink.write(data[start : start + piece])
    sink.finish()
    return used, vector


@quick
@given(weights=vectors, deflate=st.sampled_from(["", "+deflate"]), piece=st.integers(1, 300))
def test_f32_is_exact(weights: Vector, deflate: str, piece: int) -> None:
    _, vector = through("f32" + deflate, weights, piece)
    assert vector.tobytes() == weights.tobytes()


@quick
@given(weights=vectors, deflate=st.sampled_from(["", "+deflate"]), piece=st.integers(1, 300))
def test_f16_rounds_to_nearest_or_falls_back(weights: Vector, deflate: str, piece: int) -> None:
    used, vector = through("f16" + deflate, weights, piece)
    if np.abs(weights).max() > compress.F16_MAX:
        assert used.startswith("f32")
        assert vector.tobytes() == weights.tobytes()
    else:
        assert used.startswith("f16")
        np.testing.assert_array_equal(vector, weights.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(
    ("value", "used"),
    [(65504.0, "f16"), (-65504.0, "f16"), (65505.0, "f32"), (-65505.0, "f32"), (3e38, "f32")],
)
def test_f16_falls_back_beyond_its_range(value: float, used: str) -> None:
    weights = np.array([0.0, value], dtype=np.float32)
    assert compress.encode("f16", weights)[0] == used


def test_nan_goes_out_as_f32_for_the_receiver_to_refuse() -> None:
    assert compress.encode("f16", np.array([1.0, np.nan], dtype=np.float32))[0] == "f32"


def test_deflate_is_dropped_when_it_saves_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 2**31, 100, dtype=np.int32).view(np.float32)
    assert compress.encode("f32+deflate", noise)[0] == "f32"
    assert compress.encode("f32+deflate", np.zeros(100, dtype=np.float32))[0] == "f32+deflate"


def test_bytes_that_zlib_cannot_shrink_fit_all_the_same() -> None:
    noise = np.random.default_rng(0).bytes(4 * 100_000)
    for level in range(1, 10):
        assert compress.parse("f32+deflate").length_fits(len(zlib.compress(noise, level)), 100_000)


def test_strided_weights_are_taken_in_order() -> None:
    weights = np.arange(10, dtype=np.float32)[::2]
    np.testing.assert_array_equal(through("f32", weights)[1], weights)


def test_encoded_bytes_are_little_endian_and_read_only() -> None:
    _, data = compress.encode("f32", np.array([1.0], dtype=np.float32))
    assert bytes(data) == b"\x00\x00\x80\x3f"
    assert data.readonly


@pytest.mark.parametrize(
    "spec", ["", "F32", "f32+", "+deflate", "deflate", "f16+f16", "f32+deflate ", "pickle"]
)
def test_unknown_codec_is_named(spec: str) -> None:
    with pytest.raises(UnknownCodec, match="f32, f32\\+deflate, f16, f16\\+deflate"):
        compress.parse(spec)


def test_specs_are_their_own_names() -> None:
    for spec in ("f32", "f32+deflate", "f16", "f16+deflate"):
        assert compress.parse(spec).spec == spec


def test_bomb_inflates_no_further_than_the_vector() -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)
    vector = np.empty(1000, dtype=np.float32)
    sink = compress.sink(compress.parse("f32+deflate"), vector)
    with pytest.raises(WrongLength):
        sink.write(memoryview(bomb))


@pytest.mark.parametrize("count", [10, 32_767, 32_768, 32_769, 50_000])
def test_bytes_behind_the_stream_end_it(count: int) -> None:
    """Once an endless loop: after more than one block of output, zlib goes on offering the bytes behind."""
    packed = zlib.compress(bytes(4 * count))
    for behind in (b"\0", packed):
        sink = compress.sink(compress.parse("f32+deflate"), np.empty(count, dtype=np.float32))
        with pytest.raises(Malformed, match="after the deflate stream"):
            sink.write(memoryview(packed + behind))


def test_all_finite_finds_one_bad_element_anywhere() -> None:
    for bad in (np.nan, np.inf, -np.inf):
        for at in range(70):
            values = np.full(70, 3e38, dtype=np.float32)  # large enough for their sum to overflow
            assert all_finite(values)
            values[at] = bad
            assert not all_finite(values)


def test_sink_that_is_not_full_is_refused() -> None:
    for spec in ("f32", "f16"):
        sink = compress.sink(compress.parse(spec), np.empty(4, dtype=np.float32))
        sink.write(memoryview(b"1234"))
        with pytest.raises(FrameError):
            sink.finish()

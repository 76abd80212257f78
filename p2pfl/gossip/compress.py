"""How weights travel: a codec's name -> bytes, and bytes -> the flat vector, decoded as if attacked.

A codec is an element type, `f32` or `f16`, and optionally `+deflate`, which packs the elements' bytes into
one zlib stream. Elements are little-endian, in the order of the layout.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from p2pfl.errors import Malformed, NotFinite, UnknownCodec, WrongLength
from p2pfl.gossip.messages import Vector
from p2pfl.gossip.snapshot import all_finite, snapshot

BLOCK = 128 * 1024
"""Bytes handled at a time: what was just copied is hashed and checked while it is still in a core's cache."""

F16_MAX = 65504.0
"""The largest finite binary16."""

ElementType = Literal["f32", "f16"]
_DTYPES: dict[ElementType, np.dtype[np.float32] | np.dtype[np.float16]] = {
    "f32": np.dtype("<f4"),
    "f16": np.dtype("<f2"),
}


@dataclass(frozen=True)
class Codec:
    """A parsed codec name."""

    element: ElementType
    deflate: bool

    @property
    def spec(self) -> str:
        return self.element + ("+deflate" if self.deflate else "")

    def raw_length(self, count: int) -> int:
        """Bytes of `count` elements before deflate."""
        return count * _DTYPES[self.element].itemsize

    def length_fits(self, length: int, count: int) -> bool:
        """Whether `length` bytes can hold `count` elements: exactly so many, or with deflate at most
        the raw length and zlib's overhead."""
        raw = self.raw_length(count)
        return 1 <= length <= _with_overhead(raw) if self.deflate else length == raw >= 1


def _with_overhead(raw: int) -> int:
    """What zlib may make of bytes that it cannot shrink: it adds 0.03 % and a few bytes; we allow 0.1 %."""
    return raw + raw // 1000 + 64


def most_bytes(count: int) -> int:
    """The longest payload that any codec makes of `count` elements."""
    return _with_overhead(4 * count)


PLAIN = Codec("f32", deflate=False)
"""The one whose bytes are the vector's own."""

_CODECS = {codec.spec: codec for codec in (Codec(e, d) for e in _DTYPES for d in (False, True))}


def parse(spec: str) -> Codec:
    """The codec of that name. Raises UnknownCodec, which names the ones there are."""
    try:
        return _CODECS[spec]
    except KeyError:
        raise UnknownCodec(f"codec {spec[:40]!r} is not one of {', '.join(_CODECS)}") from None


def encode(spec: str, weights: Vector) -> tuple[str, memoryview]:
    """weights: (P,) float32, contiguous -> (the codec really used, its bytes).

    `f32` copies nothing: the bytes are those of a Snapshot of `weights`. `f16` becomes `f32` when a value is
    beyond binary16's range, and `+deflate` is dropped when it saves nothing. Raises UnknownCodec.
    """
    codec = parse(spec)
    element = codec.element
    # Written so that a NaN, too, goes out as f32: it is the receiver who refuses it, by name.
    if element == "f16" and not max(float(weights.max()), -float(weights.min())) <= F16_MAX:
        element = "f32"
    values: npt.NDArray[Any] = np.ascontiguousarray(weights, dtype=_DTYPES[element])
    raw = values.data.cast("B").toreadonly()
    if codec.deflate:
        packed = zlib.compress(raw, level=1)
        if len(packed) < len(raw):
            return Codec(element, True).spec, memoryview(packed)
    return element, snapshot(values).data.cast("B") if element == "f32" else raw


class Sink(Protocol):
    """Takes an encoded payload piece by piece and fills a vector of known size."""

    def write(self, piece: memoryview) -> None:
        """At most BLOCK bytes. Raises FrameError as soon as the payload cannot be good any more."""
        ...

    def finish(self) -> None:
        """After the last piece. Raises FrameError unless the vector is full and finite."""
        ...


def sink(codec: Codec, vector: Vector) -> Sink:
    """vector: (P,) float32 little-endian, filled by the sink; undefined until finish() returns."""
    plain = _Float32Sink(vector) if codec.element == "f32" else _Float16Sink(vector)
    return _InflateSink(plain, codec.raw_length(vector.size)) if codec.deflate else plain


class _Float32Sink:
    """Bytes are the vector's own: copied into it, checked a block at a time."""

    def __init__(self, vector: Vector) -> None:
        self._vector = vector
        self._bytes = vector.data.cast("B")
        self._at = 0  # bytes written
        self._checked = 0  # elements known to be finite

    def write(self, piece: memoryview) -> None:
        end = self._at + len(piece)
        self._bytes[self._at : end] = piece
        self._at = end
        if end - 4 * self._checked >= BLOCK or end == len(self._bytes):
            whole = end // 4
            if not all_finite(self._vector[self._checked : whole]):
                raise NotFinite("a weight is NaN or infinite")
            self._checked = whole

    def finish(self) -> None:
        if self._at != len(self._bytes):
            raise WrongLength(f"the weights are {self._at} bytes, not {len(self._bytes)}")


class _Float16Sink:
    """Gathers a block of half floats, widens it into the vector."""

    def __init__(self, vector: Vector) -> None:
        self._vector = vector
        self._block = bytearray(min(BLOCK, 2 * vector.size))
        self._halves = np.frombuffer(self._block, dtype="<f2")
        self._filled = 0  # bytes in the block
        self._at = 0  # elements written

    def write(self, piece: memoryview) -> None:
        while piece:
            end = min(self._filled + len(piece), len(self._block))
            taken = end - self._filled
            self._block[self._filled : end] = piece[:taken]
            self._filled = end
            piece = piece[taken:]
            if end == len(self._block) or 2 * self._at + end == 2 * self._vector.size:
                self._widen()

    def _widen(self) -> None:
        end = self._at + self._filled // 2
        wide = self._vector[self._at : end]
        with np.errstate(invalid="ignore"):
            wide[:] = self._halves[: self._filled // 2]
        if not all_finite(wide):
            raise NotFinite("a weight is NaN or infinite")
        self._at, self._filled = end, 0

    def finish(self) -> None:
        if self._at != self._vector.size:
            raise WrongLength(f"the weights are {self._at} elements, not {self._vector.size}")


class _InflateSink:
    """Inflates into another sink, never a byte more than the vector needs, whatever the stream promises."""

    def __init__(self, inner: Sink, raw_length: int) -> None:
        self._inner = inner
        self._left = raw_length
        self._stream = zlib.decompressobj()

    def write(self, piece: memoryview) -> None:
        if self._stream.eof:
            raise Malformed("there are bytes after the deflate stream")
        data: bytes | memoryview = piece
        while True:
            # One byte beyond the end tells a bomb from a stream with only its trailer left; 0 is "no limit".
            most = min(self._left + 1, BLOCK)
            try:
                raw = self._stream.decompress(data, most)
            except zlib.error as error:
                raise Malformed(f"the weights do not inflate: {error}") from None
            if len(raw) > self._left:
                raise WrongLength("the weights inflate to more bytes than the layout has")
            self._left -= len(raw)
            if raw:
                self._inner.write(memoryview(raw))
            # At the stream's end zlib may call bytes behind it unconsumed, for ever: the end is what counts.
            # A full answer may leave output inside zlib even when all input is consumed.
            data = self._stream.unconsumed_tail
            if self._stream.eof or (not data and len(raw) < most):
                break
        if self._stream.unused_data:
            raise Malformed("there are bytes after the deflate stream")

    def finish(self) -> None:
        if not self._stream.eof:
            raise Malformed("the deflate stream is not complete")
        if self._left:
            raise WrongLength(f"the weights inflate to {self._left} bytes too few")
        self._inner.finish()

"""Anonymous shared memory in which vectors pass between a process and its forked workers."""

from __future__ import annotations

import mmap
import os

import numpy as np
import numpy.typing as npt

from p2pfl.gossip.messages import Vector

# Bytes: a cache line, and no less than the widest vector register. Arithmetic on arrays that start off such a
# boundary may add in another order, and so differ in the last bit.
ALIGNMENT = 64


class Slot:
    """Anonymous shared memory that both sides can grow: [weights | optimiser | indices], each aligned.

    fd: of a slot of this size that somebody else made.
    """

    def __init__(self, size: int, fd: int | None = None) -> None:
        self.fd = memory(size) if fd is None else fd
        self.size = size
        self._map = mmap.mmap(self.fd, size)

    def grow(self, size: int) -> None:
        """At least `size` bytes. Arrays of before keep the old mapping of the same memory."""
        if size > self.size:
            if os.fstat(self.fd).st_size < size:
                os.ftruncate(self.fd, size)
            self._map, self.size = mmap.mmap(self.fd, size), size

    def vector(self, count: int, offset: int = 0) -> Vector:
        return np.frombuffer(self._map, np.float32, count, offset)

    def integers(self, count: int, offset: int = 0) -> npt.NDArray[np.int64]:
        return np.frombuffer(self._map, np.int64, count, offset)

    def text(self, count: int) -> bytes:
        return self._map[:count]

    def write_text(self, text: bytes) -> None:
        self._map[: len(text)] = text


def memory(size: int) -> int:
    """A descriptor of `size` zero bytes that nobody else knows; close-on-exec, forked processes keep it."""
    fd = os.memfd_create("p2pfl-slot")
    os.ftruncate(fd, size)
    return fd


def available() -> bool:
    """Whether this system has such memory (Linux)."""
    return hasattr(os, "memfd_create")


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def offsets(weights: int, optimiser: int, indices: int) -> tuple[int, int, int]:
    """Element counts -> byte offsets of optimiser and indices, and the bytes of all."""
    first = aligned(4 * weights)
    second = first + aligned(4 * optimiser)
    return first, second, second + aligned(8 * indices)

"""Encoded weights that will not change again, and what is known of them: looked at once, however often sent.

Where sender and receiver are one process (the simulator), what arrives is the very memory that the sender
encoded. Its hash is known and it needs no copy, since weights are never modified in place; only whether it is
finite is the receivers' to find out, and the first one's answer holds for all. Nothing that came over a real
wire, or was damaged or cut in pieces on its way, is such memory: it is copied and checked as ever.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import xxhash

from p2pfl.gossip.messages import Vector

# A vector that is a part of something larger would keep all of it alive at every receiver.
_MOST_KEPT = 2


class Snapshot(np.ndarray[Any, np.dtype[np.float32]]):
    """(P,) float32, read-only: its buffer is what travels, and leads back to it at the receiver.

    vector: the same memory as an ordinary array, read-only too.
    """

    vector: Vector
    _digest: bytes | None
    _sha256: bytes | None
    _finite: bool | None

    @property
    def digest(self) -> bytes:
        """16 bytes, XXH3-128: made once."""
        if self._digest is None:
            self._digest = xxhash.xxh3_128_digest(self.data)
        return self._digest

    @property
    def sha256(self) -> bytes:
        """32 bytes: made once."""
        if self._sha256 is None:
            self._sha256 = hashlib.sha256(self.data).digest()
        return self._sha256

    @property
    def is_finite(self) -> bool:
        """Whether every element is finite: looked at once."""
        if self._finite is None:
            self._finite = all_finite(self.vector)
        return self._finite


def snapshot(weights: Vector) -> Snapshot:
    """weights: (P,) float32, contiguous; not copied, so it must not be modified any more."""
    made = weights.view(Snapshot)
    made.flags.writeable = False
    made.vector = made.view(np.ndarray)
    made._digest = made._sha256 = made._finite = None
    return made


def whole_snapshot(chunk: memoryview) -> Snapshot | None:
    """The snapshot whose bytes, all of them, `chunk` is; None if it is anything else."""
    source: object = chunk.obj
    if not isinstance(source, Snapshot) or chunk.nbytes != source.nbytes or not chunk.c_contiguous:
        return None
    owner: object = source
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    alone = isinstance(owner, np.ndarray) and owner.nbytes <= _MOST_KEPT * source.nbytes
    return source if alone else None


def all_finite(values: Vector) -> bool:
    """True if no element is NaN or infinite: both survive addition, so that a finite sum proves it."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.add.reduce(values)) or np.isfinite(values).all())

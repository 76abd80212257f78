"""Small states to save, and surroundings that do not let them be saved."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from p2pfl.gossip.messages import KnownPeer, Layout, Task, TensorSpec
from p2pfl.storage.checkpoint import Checkpoint

TASK = Task("tiny", ("no", "yes"), (2,), (0.5,), (0.25,))
LAYOUT = Layout("small", (TensorSpec("weight", (2, 3)), TensorSpec("bias", ())))
PEERS = (
    KnownPeer("a" * 16, "http://127.0.0.1:8471", 3, 17),
    KnownPeer("b" * 16, "", 2**63 - 1, 0),
    KnownPeer("c" * 16, "http://[::1]:8470"),
)


def checkpoint(round: int = 3, seed: int = 0, optimiser: int = 5) -> Checkpoint:
    rng = np.random.default_rng(seed)
    return Checkpoint(
        id="0123456789abcdef",
        round=round,
        age=1234.1 + round,
        weights=rng.standard_normal(7, dtype=np.float32),
        optimiser=rng.standard_normal(optimiser, dtype=np.float32),
        task=TASK,
        layout=LAYOUT,
        version=17,
        peers=PEERS,
    )


def same(left: Checkpoint | None, right: Checkpoint, *, peers: bool = True) -> bool:
    assert left is not None
    scalars = ("id", "round", "age", "task", "layout", "version", *(["peers"] if peers else []))
    return all(getattr(left, name) == getattr(right, name) for name in scalars) and (
        left.weights.tobytes() == right.weights.tobytes()
        and left.optimiser.tobytes() == right.optimiser.tobytes()
    )


def checkpoints(folder: Path) -> list[str]:
    """The names of a folder's checkpoints, in their own order."""
    return sorted(path.name for path in folder.glob("checkpoint-*"))


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes; what would is an OSError (EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

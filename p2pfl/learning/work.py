"""One job's work, in whichever process it is done."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from p2pfl.gossip.messages import Vector
from p2pfl.learning.learner import FitPlan, FitResult, Learner
from p2pfl.learning.records import Failure


def fit(
    learner: Learner,
    weights: Vector,
    optimiser: Vector,
    plan: FitPlan,
    stop: Callable[[], bool] = lambda: False,
) -> FitResult:
    """learner.fit. Raises ValueError for weights of another shape, and what the learner raises."""
    fitted = learner.fit(weights, optimiser, plan, stop)
    if fitted.weights.shape != weights.shape:
        raise ValueError(f"fit returned weights of shape {fitted.weights.shape}, not {weights.shape}")
    return fitted


def use_one_thread() -> int:
    """Let torch compute on one thread from now on; returns how many it had, 0 if torch is not loaded.

    One per process, and one process per core: more would only fight for the cores. A sum's last bit may also
    depend on how many threads share it.
    """
    torch: Any = sys.modules.get("torch")  # whoever has a torch learner has imported it
    if torch is None:
        return 0
    before: int = torch.get_num_threads()
    if before != 1:
        torch.set_num_threads(1)
    return before


@contextmanager
def one_thread() -> Iterator[None]:
    """use_one_thread, and back."""
    before = use_one_thread()
    try:
        yield
    finally:
        if before > 1:
            sys.modules["torch"].set_num_threads(before)


def explain(error: Exception) -> Failure:
    """An error of a learner as one line, and where it was raised. Text, since it may have to travel."""
    summary = " ".join(f"{type(error).__name__}: {error}".split())
    return Failure(summary[:1000], "".join(traceback.format_exception(error))[-3000:])


def float32(vector: Vector) -> Vector:
    """As C-contiguous float32; a copy only where it is not."""
    return np.ascontiguousarray(vector, np.float32)

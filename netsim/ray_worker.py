"""What an actor on a Ray cluster does: it computes the jobs of one learner. Imports nothing of Ray.

Ray pickles what passes between its processes: the learner with its data, weights, plans and results. Those
are all processes of one user, on a cluster that runs whatever this user asks for. Nothing of it comes from a
peer: what nodes send each other is never pickled, on any engine.
"""

from __future__ import annotations

import os
import platform
import re
import socket
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from p2pfl.gossip.messages import Vector
from p2pfl.learning import work
from p2pfl.learning.forked import die_with_parent
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult, Learner
from p2pfl.learning.records import Failure

T = TypeVar("T", FitResult, Evaluation)


@dataclass(frozen=True)
class Surroundings:
    """Where a worker runs. processor, torch: if they differ the last bits of its results may."""

    host: str
    pid: int
    processor: str
    torch: str


class RayWorker:
    """One of them for each CPU; Ray runs the calls of one after another."""

    def __init__(self, learner: Learner) -> None:
        die_with_parent()  # Ray's own daemon; a stopped process would not notice its end
        # The data set lies in Ray's store, once for all workers of a machine, and is read-only there. torch
        # cannot mark a tensor as such and warns; nothing here writes to it.
        warnings.filterwarnings("ignore", "The given NumPy array is not writ", UserWarning)
        work.use_one_thread()
        self._learner = learner

    def surroundings(self) -> Surroundings:
        return surroundings()

    def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan) -> tuple[FitResult | Failure, float]:
        """The result, and the seconds it took."""
        return _timed(lambda: work.fit(self._learner, weights, optimiser, plan))

    def evaluate(self, weights: Vector, limit: int) -> tuple[Evaluation | Failure, float]:
        """The result, and the seconds it took."""
        return _timed(lambda: self._learner.evaluate(weights, limit))


def surroundings() -> Surroundings:
    """Of this process."""
    torch: Any = sys.modules.get("torch")
    version = "none" if torch is None else str(torch.__version__)
    return Surroundings(socket.gethostname(), os.getpid(), _processor(), version)


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return model[1].strip() if model else platform.machine()


def _timed(compute: Callable[[], T]) -> tuple[T | Failure, float]:
    start = time.perf_counter()
    try:
        result: T | Failure = compute()
    except Exception as error:  # noqa: BLE001  - whatever a learner raises is the parent's to report
        result = work.explain(error)
    return result, time.perf_counter() - start

"""When a worker that is waited for is taken for hung."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from netsim.jobs import Job
from p2pfl.errors import SimulationError

LIMIT = 600.0  # seconds that a job may take, if nobody says otherwise
_OVERSLEPT = 1.0  # seconds: a wait that ends so much too late was stopped itself, as by Ctrl-Z


class Patience:
    """One blocking wait for a job: how long it may go on, in real seconds.

    limit: of a job's work, from its beginning, or from that of the wait, whichever is later: while nobody
    waits nothing is lost. So time in which this process was stopped, or simulated, does not count.
    """

    def __init__(self, job: Job[Any], limit: float) -> None:
        self._job = job
        self._limit = limit
        self._began = self._progress = self._asked_at = time.monotonic()
        self._asked = 0.0

    def left(self, doing: Sequence[tuple[float, str, Job[Any]]]) -> float:
        """Seconds that may pass without any result. Raises SimulationError if a worker hangs.

        doing: since when (time.monotonic()) which worker works on which job.
        """
        now = time.monotonic()
        if doing:
            since, worker, job = min(doing, key=lambda entry: entry[0])
            left = max(since, self._began) + self._limit - now
            hangs = f"{worker} hangs: {job} has taken"
        else:  # all of them are between jobs, as a rule for some microseconds
            left = self._progress + self._limit - now
            hangs = f"the workers hang: none has begun {self._job} for"
        if left <= 0:
            raise SimulationError(
                f"{hangs} more than {self._limit:g} s; raise --job-limit if a job may take that long"
            )
        self._asked_at, self._asked = now, left
        return left

    def waited(self, *, progress: bool) -> None:
        """The wait for `left` seconds is over. progress: a result came."""
        now = time.monotonic()
        if progress:
            self._progress = now
        elif now - self._asked_at > self._asked + _OVERSLEPT:
            self._began = self._progress = now

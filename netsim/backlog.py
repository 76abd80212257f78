"""The order in which waiting jobs are started."""

from __future__ import annotations

import heapq
from typing import Any

from netsim.jobs import Job

_WANTED, _EVALUATION, _FIT = range(3)


class Backlog:
    """Waiting jobs: what somebody waits for, then evaluations, then fits, the one due first before others.

    The simulation stands still at a fit's modelled end until the fit is really done. So it is best done
    in the order of those ends: then the simulation waits least, and fewest results wait for it. A straggler's
    fit is due late and fills the gaps.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, float, int, Job[Any]]] = []

    def add(self, job: Job[Any]) -> None:
        kind = _EVALUATION if job.plan is None else _FIT
        heapq.heappush(self._heap, (kind, job.due, job.number, job))

    def prefer(self, job: Job[Any]) -> None:
        """Somebody waits for it now."""
        heapq.heappush(self._heap, (_WANTED, 0.0, job.number, job))

    def first(self) -> Job[Any] | None:
        """The next to be started; it stays here until it is no longer waiting."""
        heap = self._heap
        while heap and heap[0][3].state != "waiting":  # handed out, or discarded
            heapq.heappop(heap)
        return heap[0][3] if heap else None

    def clear(self) -> None:
        self._heap.clear()

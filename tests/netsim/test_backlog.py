"""The order of waiting jobs."""

from __future__ import annotations

import numpy as np

from netsim.backlog import Backlog
from netsim.jobs import Job
from tests.learners import plan

WEIGHTS = np.zeros(3, np.float32)


def fit(number: int, due: float) -> Job[object]:  # type: ignore[type-var]
    return Job(number, "", WEIGHTS, WEIGHTS, plan(), due=due)


def drain(backlog: Backlog) -> list[int]:
    order = []
    while (job := backlog.first()) is not None:
        assert backlog.first() is job
        job.state = "handed out"
        order.append(job.number)
    return order


def test_fits_come_by_due_time_then_in_the_order_of_submission() -> None:
    backlog = Backlog()
    for number, due in enumerate([2.0, 1.0, 3.0, 1.0, 0.0]):
        backlog.add(fit(number, due))
    assert drain(backlog) == [4, 1, 3, 0, 2]
    assert backlog.first() is None


def test_evaluations_overtake_fits_and_what_is_waited_for_overtakes_both() -> None:
    backlog = Backlog()
    wanted = fit(3, due=9.0)
    for job in (fit(1, due=0.0), wanted, Job(5, "", WEIGHTS), Job(4, "", WEIGHTS)):
        backlog.add(job)
    backlog.prefer(wanted)
    assert drain(backlog) == [3, 4, 5, 1]


def test_what_is_discarded_while_it_waits_is_passed_over() -> None:
    backlog = Backlog()
    jobs = [fit(number, due=0.0) for number in range(4)]
    for job in jobs:
        backlog.add(job)
    jobs[0].forget()
    jobs[2].forget()
    assert drain(backlog) == [1, 3]

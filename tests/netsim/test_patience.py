"""How long a blocking wait may last, on a clock of the test's own."""

from __future__ import annotations

import numpy as np
import pytest

from netsim import patience
from netsim.jobs import Job
from netsim.patience import Patience
from p2pfl.errors import SimulationError

JOB = Job(7, "node 3", np.zeros(3, np.float32))
OTHER = Job(8, "node 4", np.zeros(3, np.float32))
LIMIT = 10.0


class Watch:
    """Stands in for the module time."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr(patience, "time", watch)
    return watch


def test_a_job_may_take_the_limit_from_its_beginning(watch: Watch) -> None:
    wait = Patience(JOB, LIMIT)
    watch.now += 3
    assert wait.left([(watch.now, "worker 0", JOB)]) == 10
    watch.now += 10
    with pytest.raises(SimulationError, match=r"worker 0 hangs: job 7 \(evaluation, node 3\) .* 10 s; raise"):
        wait.left([(103.0, "worker 0", JOB)])


def test_what_began_before_the_wait_has_the_limit_from_the_beginning_of_the_wait(watch: Watch) -> None:
    assert Patience(JOB, LIMIT).left([(1.0, "worker 0", JOB)]) == 10


def test_the_worker_that_has_been_at_it_longest_is_judged(watch: Watch) -> None:
    wait = Patience(JOB, LIMIT)
    watch.now += 9
    doing = [(108.0, "worker 0", JOB), (101.0, "worker 1", OTHER)]
    assert wait.left(doing) == 2
    watch.now += 2
    with pytest.raises(SimulationError, match=r"worker 1 hangs: job 8"):
        wait.left(doing)


def test_many_jobs_in_front_of_ours_may_take_longer_together(watch: Watch) -> None:
    wait = Patience(JOB, LIMIT)
    for _ in range(5):
        assert wait.left([(watch.now, "worker 0", OTHER)]) == 10
        watch.now += 9
        wait.waited(progress=True)
        assert wait.left([]) == 10  # between two jobs


def test_workers_that_begin_nothing_hang(watch: Watch) -> None:
    wait = Patience(JOB, LIMIT)
    assert wait.left([]) == 10
    watch.now += 10
    wait.waited(progress=False)
    with pytest.raises(SimulationError, match=r"none has begun job 7 .* for more than 10 s"):
        wait.left([])


def test_time_in_which_we_were_stopped_ourselves_does_not_count(watch: Watch) -> None:
    wait = Patience(JOB, LIMIT)
    wait.left([(100.0, "worker 0", JOB)])
    watch.now += 3600  # Ctrl-Z, lunch, fg
    wait.waited(progress=False)
    assert wait.left([(100.0, "worker 0", JOB)]) == 10

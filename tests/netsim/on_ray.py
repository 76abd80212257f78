"""The pool on a real Ray cluster. Run by test_ray_pool.py in a process of its own: Ray leaves threads behind,
and the other tests fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from netsim import ray_cluster
from netsim.ray_pool import RayPool
from netsim.ray_worker import Surroundings
from p2pfl.errors import SetupError, SimulationError
from tests.learners import STATELESS, plan
from tests.netsim.pool_contract import LEARNER, PoolContract
from tests.netsim.watched import all_ended, watch

HEAD = """
import ray, sys
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=sys.argv[1])
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a cluster with two CPUs that somebody else has started."""
    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        subprocess.Popen(
            [sys.executable, "-c", HEAD, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "RAY_AUTH_MODE": "disabled",
            },  # otherwise new Rays ask those who come for a token
        ) as head,
    ):
        assert head.stdout is not None
        yield head.stdout.readline().strip()
        head.communicate()


@pytest.fixture(scope="class")
def pool(address: str) -> Iterator[RayPool]:
    with RayPool(LEARNER, address) as pool:
        assert len(pool.statistics.busy_seconds) == 2
        yield pool


class TestRayPool(PoolContract):
    def test_a_second_run_finds_no_free_cpu(self, pool: RayPool) -> None:
        with pytest.raises(SetupError, match="no free CPU"):
            pool._cluster._start_workers()


def test_a_killed_worker_ends_the_run_with_an_error_that_names_the_job(address: str) -> None:
    with RayPool(LEARNER, address) as pool:
        weights = LEARNER.initial_weights()
        pool.result(pool.submit_fit(weights, STATELESS, plan(1)))
        for there in pool._cluster.surroundings:
            os.kill(there.pid, signal.SIGKILL)
        job = pool.submit_fit(weights, STATELESS, plan(2), label="node 4")
        for _ in range(2):  # the pool stays broken
            with pytest.raises(
                SimulationError, match=r"worker 0 \(.*\) died during job 2 \(fit of 5 steps, node 4\)"
            ):
                pool.result(job)


def test_a_worker_that_hangs_ends_the_run_with_an_error_that_names_the_job(address: str) -> None:
    with RayPool(LEARNER, address, limit=0.5) as pool:
        weights = LEARNER.initial_weights()
        stopped = [there.pid for there in pool._cluster.surroundings]
        workers = watch(stopped)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        job = pool.submit_fit(weights, STATELESS, plan(2), label="node 4")
        for _ in range(2):
            with pytest.raises(
                SimulationError, match=r"worker 0 \(.*\) hangs: job 1 \(.*node 4\) has taken more than 0.5 s"
            ):
                pool.result(job)
    assert all_ended(workers)


def test_workers_of_another_kind_are_warned_of_in_one_line(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray_cluster, "surroundings", lambda: Surroundings("here", 1, "Abacus 9", "1.0"))
    with RayPool(LEARNER, address):
        pass
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "journal may differ" in record.getMessage()
    assert "this machine is Abacus 9 with torch 1.0" in record.getMessage()
    assert "\n" not in record.getMessage()

"""`--workers ray`: the contract of the pools on a real Ray, equal journals, errors, nothing left behind."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from netsim import memory, ray_cluster
from netsim.ray_cluster import RayCluster
from netsim.ray_pool import RayPool
from p2pfl.errors import SetupError
from p2pfl.learning.learner import FitPlan
from tests.learners import STATELESS, NumpyLearner, plan
from tests.netsim.watched import all_ended, watch
from tests.netsim.whole import simulate

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install -e '.[ray]'"
)
pytestmark = pytest.mark.xdist_group("ray")  # a cluster takes gigabytes: one at a time
ROOT = Path(__file__).parents[2]


def sim_run(folder: Path, *flags: str) -> list[str]:
    run = ["sim", "run", "--nodes", "4", "--model", "softmax", "--rounds", "2", "--no-report"]
    return [sys.executable, "-m", "cli.main", *run, "--out", str(folder), *flags]


@needs_ray
def test_the_contract_of_the_pools_holds_on_ray() -> None:
    """On a cluster of two workers that is reached by its address."""
    tests = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/netsim/on_ray.py"]
    done = subprocess.run(tests, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_ray
def test_the_journal_on_two_ray_workers_is_that_of_forked_ones(tmp_path: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))[:2]
    done = subprocess.run(
        sim_run(tmp_path / "ray", "--workers", "ray"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if not line.startswith("rounds ")]  # its progress
    assert not told, "Ray is to be quiet"
    ray = (tmp_path / "ray" / "journal.jsonl").read_bytes()
    forked = simulate(tmp_path / "forked", nodes=4, model="softmax", rounds=2, workers=2).journal
    assert ray == forked
    assert len(ray) > 1000


@needs_ray
def test_ctrl_c_ends_the_run_and_leaves_no_process(tmp_path: Path) -> None:
    pipe = tmp_path / "begun"
    os.mkfifo(pipe)
    with subprocess.Popen(
        [sys.executable, __file__, str(pipe)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    ) as run:
        with pipe.open("rb", buffering=0) as begun:
            assert begun.read(100) == b"at work"
        below = watch(memory.descendants(run.pid))
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to all of the group
        assert run.wait() == 130
    assert len(below) > 2  # Ray's own processes, and the worker
    assert all_ended(below)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ray://somewhere:10001", "Ray's client"),
        ("127.0.0.1:1", "no Ray cluster can be reached at 127.0.0.1:1: Connection refused"),
        ("127.0.0.1:123456", "no Ray cluster can be reached"),
    ],
)
@needs_ray
def test_addresses_without_a_cluster_are_errors_of_one_line(address: str, says: str) -> None:
    with pytest.raises(SetupError) as caught, RayCluster(NumpyLearner(), address, 1):
        pass
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@needs_ray
def test_what_listens_and_never_answers_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "CONNECT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with (
            pytest.raises(SetupError, match=f"no Ray cluster answers at {address} within 0.5 s"),
            RayCluster(NumpyLearner(), address, 1),
        ):
            pass


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"^Ray is not installed: pip install 'p2pfl-gossip\[ray\]'"):
        RayCluster(NumpyLearner(), None, 1)


def test_ray_is_not_imported_unless_asked_for() -> None:
    program = "import sys, netsim.run; sys.exit('ray' in sys.modules or 'netsim.ray_pool' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def be_interrupted(pipe: str) -> None:
    """What the test of Ctrl-C runs: one worker that never ends, and a parent that waits for it."""

    def before(todo: FitPlan) -> None:
        with Path(pipe).open("wb") as begun:
            begun.write(b"at work")
        signal.pause()

    learner = NumpyLearner(before=before)
    with Path(pipe).open("wb"), RayPool(learner, None, 1) as pool:  # open: our end would be the pipe's
        pool.result(pool.submit_fit(learner.initial_weights(), STATELESS, plan()))


if __name__ == "__main__":
    try:
        be_interrupted(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit(130)

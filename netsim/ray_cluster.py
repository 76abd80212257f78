"""A Ray cluster for the time of a run: one of our own on this machine, or a running one by its address."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Self

from netsim.ray_worker import RayWorker, Surroundings, surroundings
from p2pfl.errors import SetupError
from p2pfl.learning.learner import Learner

CONNECT = 30.0  # seconds in which a cluster has to answer
START = 300.0  # seconds in which its workers have to be ready: each imports torch and gets the data set

# Read by Ray, and by its processes when they start. What a user has set stays.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # leave CUDA_VISIBLE_DEVICES alone, and do not announce it
}
_TRY = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='CRITICAL')"

log = logging.getLogger(__name__)


class RayCluster:
    """Workers on a cluster, one for each free CPU. Use as a context manager: at its end none is left.

    address: HOST:PORT of a running cluster, or "auto" for the one of this machine; None starts one here,
    with `cores` CPUs, which ends with the context.

    Raises SetupError, in one line, if Ray is missing, if the cluster does not answer within CONNECT seconds,
    or if its workers do not start.
    """

    def __init__(self, learner: Learner, address: str | None, cores: int) -> None:
        if importlib.util.find_spec("ray") is None:
            raise SetupError("Ray is not installed: pip install 'p2pfl-gossip[ray]', or leave out --workers")
        self._learner = learner
        self._address = address
        self._cores = cores
        self._end = ExitStack()
        self.workers: list[Any] = []  # handles of RayWorker actors
        self.surroundings: list[Surroundings] = []  # of each worker

    def __enter__(self) -> Self:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        self.ray: Any = importlib.import_module("ray")
        with ExitStack() as undo:
            if self._address is None:
                # Not in $TMPDIR: Ray's sockets lie in this folder, and a socket's path has at most 107 bytes.
                folder = tempfile.TemporaryDirectory(prefix="p2pfl-", dir="/tmp", ignore_cleanup_errors=True)
                where = {"address": "local", "num_cpus": self._cores, "_temp_dir": undo.enter_context(folder)}
                where["include_dashboard"] = False
            else:
                _check_answers(self._address)
                where = {"address": self._address}
            handler = signal.getsignal(signal.SIGTERM)
            undo.callback(self.ray.shutdown)
            try:
                self.ray.init(**where, log_to_driver=False, logging_level=logging.CRITICAL)
            except Exception as error:  # its documentation names none
                raise SetupError(f"Ray does not start: {_line(error)}") from error
            finally:
                with suppress(ValueError):  # another thread than the main one: Ray has left the handler alone
                    signal.signal(signal.SIGTERM, handler)
            undo.callback(self._kill_workers)
            self._start_workers()
            self._warn_of_differences()
            self._end = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.close()

    def _start_workers(self) -> None:
        count = int(self.ray.available_resources().get("CPU", 0))
        if count < 1:
            raise SetupError("the Ray cluster has no free CPU; wait, or give it another machine")
        learner = self.ray.put(self._learner)
        # A worker that dies stays dead: the run ends with an error that names its job.
        remote = self.ray.remote(num_cpus=1, num_gpus=0, max_restarts=0, max_task_retries=0)(RayWorker)
        self.workers = [remote.remote(learner) for _ in range(count)]
        answers = [worker.surroundings.remote() for worker in self.workers]
        ready, _ = self.ray.wait(answers, num_returns=count, timeout=START)
        try:
            found = {index: self.ray.get(answer) for index, answer in enumerate(answers) if answer in ready}
        except self.ray.exceptions.RayError as error:
            raise SetupError(
                f"a Ray worker does not start: {_line(error)}; "
                "every machine of the cluster needs the same p2pfl as this one"
            ) from error
        if not found:
            raise SetupError(f"no Ray worker was ready after {START:g} s; is the cluster busy?")
        for index, worker in enumerate(self.workers):
            if index not in found:  # somebody else has taken its CPU meanwhile
                self.ray.kill(worker)
        self.workers = [self.workers[index] for index in found]
        self.surroundings = list(found.values())

    def _warn_of_differences(self) -> None:
        here = surroundings()
        own = (here.processor, here.torch)
        others = sorted({(there.processor, there.torch) for there in self.surroundings} - {own})
        if others:
            listed = "; ".join(f"{processor} with torch {torch}" for processor, torch in others)
            log.warning(
                "the journal may differ from that of other runs: this machine is %s with torch %s, "
                "but its training jobs also run on %s",
                *own,
                listed,
            )

    def _kill_workers(self) -> None:
        """At once, also in the middle of a job. One that is stopped dies with Ray's daemon, see RayWorker."""
        for worker in self.workers:
            self.ray.kill(worker)
        self.workers, self.surroundings = [], []


def _check_answers(address: str) -> None:
    """Raise SetupError unless a Ray cluster answers at `address` and can be used from this machine."""
    if "://" in address:
        raise SetupError(
            f"{address} is an address for Ray's client; run p2pfl on a machine of the cluster, "
            "with --workers ray:auto or ray:HOST:PORT"
        )
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT).close()
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise SetupError(f"no Ray cluster can be reached at {address}: {why}") from error
    # Ray itself gives up after minutes, and then ends the process that asked. So another process asks first.
    try:
        tried = subprocess.run(
            [sys.executable, "-c", _TRY, address],
            capture_output=True,
            text=True,
            timeout=CONNECT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SetupError(f"no Ray cluster answers at {address} within {CONNECT:g} s") from None
    if tried.returncode:
        said = [line for line in tried.stderr.splitlines() if line.strip()] or ["it does not say why"]
        if "AuthenticationError" in tried.stderr:
            said = ["it asks for a token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"]
        raise SetupError(f"the Ray cluster at {address} cannot be used: {said[-1].strip()[:500]}")


def _line(error: Exception) -> str:
    """What an error of Ray's says, on one line; the traceback of its remote processes left out."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (
        (lines[-1] if "Traceback" in str(error) else " ".join(lines))[:500] if lines else type(error).__name__
    )

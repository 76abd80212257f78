"""Equal programs take equal steps, whatever the workers, the hash seed and the garbage collector do.

The test runs this very file as a program in fresh interpreters: a small gossip with every tie there can be
(equal shards, constant latency, no jitter), random real delays in the workers, and a crash during training.
"""

from __future__ import annotations

import gc
import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import trio
import trio.testing
from trio._core import _run

from netsim.compute import SimulatedCompute
from netsim.determinism import deterministic_scheduling, run_deterministically
from netsim.network import SimulatedNetwork, UniformLinks
from netsim.workers import WorkerPool
from p2pfl.clock import Clock
from p2pfl.errors import SimulationError
from p2pfl.gossip.messages import Layout, Task, TensorSpec, Vector
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult

NODES = 7
ROUNDS = 4
SIZE = 256
Message = MutableMapping[str, Any]


def test_older_tasks_run_first_among_those_that_are_due_together() -> None:
    async def main() -> list[int]:
        order: list[int] = []

        async def due(number: int, at: float) -> None:
            await trio.sleep_until(at)
            order.append(number)

        async with trio.open_nursery() as nursery:
            at = trio.current_time() + 1
            for number in range(50):
                nursery.start_soon(due, number, at)
        return order

    for _ in range(2):
        assert run_deterministically(main, clock=trio.testing.MockClock(autojump_threshold=0)) == list(
            range(50)
        )


def test_trio_is_left_as_it_was() -> None:
    before = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r
    during = []

    async def main() -> None:
        during.append(_run._ALLOW_DETERMINISTIC_SCHEDULING)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_deterministically(main)
    assert during == [True]
    assert (_run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r) == before


@pytest.mark.parametrize("name", ["_ALLOW_DETERMINISTIC_SCHEDULING", "_r"])
def test_a_trio_without_the_switch_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delattr(_run, name)
    with pytest.raises(SimulationError, match=f"trio {trio.__version__}"), deterministic_scheduling():
        pass


def test_the_same_trace_with_any_workers_hash_seed_and_delays() -> None:
    program = Path(__file__)
    runs = [
        subprocess.Popen(
            [sys.executable, str(program), workers],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(program.parents[2])},
        )
        for workers, hash_seed in (("1", "0"), ("2", "1"), ("2", "0"))
    ]
    traces = [run.communicate(timeout=60)[0].decode().splitlines() for run in runs]
    assert [run.returncode for run in runs] == [0] * len(runs)
    assert sum("trained" in line for line in traces[0]) > NODES * (ROUNDS - 1)
    assert sum("heard" in line for line in traces[0]) > 2 * NODES * (ROUNDS - 1)
    assert any("failed ConnectError" in line for line in traces[0])
    for trace in traces[1:]:
        assert trace == traces[0]


class SlowNow:
    """Its results follow from its arguments; its real duration from nothing."""

    task = Task("numbers", ("a", "b"), (1,), (0.0,), (1.0,))
    layout = Layout("numbers", (TensorSpec("w", (SIZE,)),))

    def initial_weights(self, seed: int | None = None) -> Vector:
        return np.zeros(SIZE, np.float32)

    def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan, stop: Callable[[], bool]) -> FitResult:
        # Real, unseeded delays are what this test is about: in the worker, a few ms.
        time.sleep(random.SystemRandom().uniform(0, 0.004))
        noise = np.random.default_rng(plan.seed).normal(size=weights.size).astype(np.float32)
        return FitResult(weights * np.float32(0.9) + noise, optimiser, plan.steps, plan.samples, 1.0)

    def evaluate(
        self, weights: Vector, limit: int = 0, stop: Callable[[], bool] = lambda: False
    ) -> Evaluation:
        return Evaluation(float(weights.mean()), np.eye(2, dtype=np.int64))


class Gossiper:
    """Trains, tells the next two nodes, and takes the mean with what it hears, in the order it hears it."""

    def __init__(self, index: int, pool: WorkerPool, network: SimulatedNetwork, trace: list[str]) -> None:
        self._index = index
        self._trace = trace
        self._host = network.host(index)
        self._peers = [network.host((index + step) % NODES).url for step in (1, 2)]
        self._compute = SimulatedCompute(pool, Clock(), np.random.default_rng(index), jitter=0.0)
        self._weights: Vector = np.zeros(SIZE, np.float32)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._host.serve, self._answer)
            async with httpx.AsyncClient(transport=self._host.transport(), timeout=None) as http:
                for round in range(ROUNDS):
                    plan = FitPlan(np.arange(50), 5, 10, 0.1, 0.0, 0.0, 100 * self._index + round)
                    fitted = await self._compute.fit(self._weights, np.zeros(0, np.float32), plan)
                    self._weights = fitted.weights
                    self._note(f"trained {self._digest(self._weights)}")
                    async with trio.open_nursery() as calls:
                        for url in self._peers:
                            calls.start_soon(self._tell, http, url)
                    evaluation = await self._compute.evaluate(self._weights, 0)
                    self._note(f"evaluated {evaluation.loss!r}")
                    await litter()
            nursery.cancel_scope.cancel()

    async def _tell(self, http: httpx.AsyncClient, url: str) -> None:
        try:
            response = await http.post(url, content=self._weights.tobytes())
        except httpx.TransportError as error:
            self._note(f"failed {type(error).__name__} {url}")
        else:
            self._note(f"told {url} {self._digest(np.frombuffer(response.content, np.float32))}")

    async def _answer(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        body = (await receive())["body"]
        self._note(f"heard {scope['client'][0]} {self._digest(np.frombuffer(body, np.float32))}")
        await trio.lowlevel.checkpoint()
        self._weights = (self._weights + np.frombuffer(body, np.float32)) * np.float32(0.5)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self._weights.tobytes()})

    def _note(self, what: str) -> None:
        self._trace.append(f"{trio.current_time()!r} {self._index} {what}")

    def _digest(self, weights: Vector) -> str:
        return hashlib.blake2b(weights.tobytes(), digest_size=8).hexdigest()


async def litter() -> None:
    """An unfinished asynchronous generator that only the garbage collector can find, and it at random."""

    async def endless() -> AsyncIterator[object]:
        while True:
            try:
                yield ring
            finally:
                await trio.lowlevel.checkpoint()

    ring: list[object] = []
    generator = endless()
    ring.append(generator)
    await anext(generator)
    if random.SystemRandom().random() < 0.3:
        gc.collect()


def simulate(workers: int) -> list[str]:
    trace: list[str] = []

    async def crash_and_return(gossiper: Gossiper) -> None:
        with trio.move_on_after(0.14):  # during its third training
            await gossiper.run()
        await trio.sleep(0.1)
        await gossiper.run()

    async def main(pool: WorkerPool) -> None:
        network = SimulatedNetwork(UniformLinks(0.005))
        gossipers = [Gossiper(index, pool, network, trace) for index in range(NODES)]
        async with trio.open_nursery() as nursery:
            await nursery.start(network.run)
            async with trio.open_nursery() as nodes:
                nodes.start_soon(crash_and_return, gossipers[3])
                for gossiper in gossipers[:3] + gossipers[4:]:
                    nodes.start_soon(gossiper.run)
            nursery.cancel_scope.cancel()

    with WorkerPool(SlowNow(), workers) as pool:
        run_deterministically(main, pool, clock=trio.testing.MockClock(autojump_threshold=0))
    return trace


if __name__ == "__main__":
    print("\n".join(simulate(int(sys.argv[1]))))

"""Several nodes in one process: what happens to one is nothing to the others, and all of it is shown."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any

import httpx
import numpy as np
import pytest
import trio

from p2pfl.assembly import Training
from p2pfl.config import NodeConfig, build
from p2pfl.current_task import current_task
from p2pfl.errors import DataError, LearningError, NoSuchRoute, TasksFailed
from p2pfl.gossip.messages import Vector
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult
from p2pfl.learning.partition import Shard
from p2pfl.network.app import ASGIApp
from p2pfl.network.hourly import HourlyBudget
from p2pfl.network.security import Security
from p2pfl.network.splitting import Splitting
from p2pfl.network.tokens import Token
from p2pfl.seams import Compute
from p2pfl.tasks import Task, Tasks, learners, prepare
from tests.learners import NumpyLearner
from tests.p2pfl.network.sites import call

SHARD = Shard(30, (10, 10, 10), "ab" * 16, np.arange(30))
TOKEN = Token("operators-of-tests-01234")
OPERATED = Security(operator=TOKEN)
BASE = "http://127.0.0.1:8470"


class Port:
    """A network seam that serves nobody but the test."""

    app: ASGIApp

    def transport(self) -> httpx.AsyncBaseTransport | None:
        return None

    async def serve(
        self, app: ASGIApp, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
    ) -> None:
        self.app = Splitting(app)
        task_status.started(BASE)
        await trio.sleep_forever()

    async def get(self, path: str) -> Any:
        return json.loads((await call(self.app, "GET", path)).body)


class Inline:
    """The compute seam without threads, for virtual time."""

    def __init__(self, learner: NumpyLearner) -> None:
        self._learner = learner

    async def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan) -> FitResult:
        await trio.sleep(1.0)
        return self._learner.fit(weights, optimiser, plan, lambda: False)

    async def evaluate(self, weights: Vector, limit: int) -> Evaluation:
        await trio.sleep(0.1)
        return self._learner.evaluate(weights, limit)


class InlineTraining(Training):
    def compute(self, *, forks: bool, spawner: object = None) -> AbstractContextManager[Compute]:
        assert isinstance(self.learner, NumpyLearner)
        return nullcontext(Inline(self.learner))


def task(name: str, number: int, learner: NumpyLearner | None = None, **changed: object) -> Task:
    flat = {"settle": 0, "rounds": 2, "seed": number, "train_in": "thread", **changed}
    return Task(name, build(NodeConfig, flat), number, InlineTraining(learner or NumpyLearner(), SHARD))


def failing(plan: FitPlan) -> None:
    raise LearningError("training failed: a picture is missing")


def broken(plan: FitPlan) -> None:
    raise ValueError("a bug")


@asynccontextmanager
async def running(*tasks: Task, fails: str = "") -> AsyncIterator[tuple[Tasks, Port]]:
    """Ended by leave() at the end, if it runs still. fails: what it then says of those that failed."""
    port, said = Port(), ""
    process = Tasks(list(tasks), port, OPERATED, HourlyBudget(0, trio.current_time))
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(begin, process)
            yield process, port
            process.leave()
    except* TasksFailed as group:
        [error] = group.exceptions
        assert isinstance(error, TasksFailed)
        assert error.exit_code == 1
        said = str(error)
    assert said == fails


async def begin(process: Tasks, *, task_status: trio.TaskStatus[str]) -> None:
    await process.run(task_status.started)


async def until(process: Tasks, reached: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    """The states of all tasks by name, once they are as wanted; in virtual time."""
    with trio.fail_after(600):
        while True:
            states = {str(task["name"]): str(task["state"]) for task in process.listed()}
            if reached(states):
                return states
            await trio.sleep(0.1)


@pytest.mark.virtual
async def test_each_has_a_node_of_its_own_and_what_happened_to_it_is_listed() -> None:
    async with running(task("a", 0), task("b", 1, rounds=3)) as (process, port):
        await until(process, lambda states: set(states.values()) == {"done"})
        a, b = await port.get("/tasks")
        assert (a["name"], a["round"], a["url"]) == ("a", 2, f"{BASE}/tasks/a")
        assert (b["name"], b["round"], b["url"]) == ("b", 3, f"{BASE}/tasks/b")
        assert (a["running"], a["failure"]) == (True, "")
        assert a["accuracy"] is not None
        own = [(await port.get(f"/tasks/{name}/v1/status")) for name in "ab"]
        assert [status["url"] for status in own] == [f"{BASE}/tasks/a", f"{BASE}/tasks/b"]
        assert own[0]["id"] != own[1]["id"]
        assert await port.get("/readyz") == {"ready": True, "lacks": []}
    assert [entry["state"] for entry in process.listed()] == ["stopped", "stopped"]


@pytest.mark.virtual
async def test_a_task_that_fails_is_shown_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    bad, good = task("bad", 0, NumpyLearner(before=failing)), task("good", 1)
    why = "training failed: a picture is missing"
    async with running(bad, good, fails=f"task bad failed: {why}") as (process, port):
        await until(process, lambda states: states == {"bad": "failed", "good": "done"})
        entry = (await port.get("/tasks"))[0]
        assert (entry["running"], entry["failure"]) == (False, why)
        assert await port.get("/readyz") == {"ready": False, "lacks": ["bad: failed"]}
        assert (await call(port.app, "GET", "/tasks/bad/v1/status")).status == 503
        assert (await call(port.app, "GET", "/tasks/good/v1/status")).status == 200
    assert [r.levelno for r in caplog.records if why in r.getMessage()] == [logging.ERROR]


@pytest.mark.virtual
async def test_a_bug_in_one_node_is_logged_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    bad, good = task("bad", 0, NumpyLearner(before=broken)), task("good", 1)
    said = "ValueError: a bug; the log of this process has the details"
    async with running(bad, good, fails=f"task bad failed: {said}") as (process, _):
        await until(process, lambda states: states == {"bad": "failed", "good": "done"})
        assert process.listed()[0]["failure"] == said
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.virtual
async def test_one_is_stopped_and_started_again_while_the_other_goes_on() -> None:
    async with running(task("a", 0, rounds=0), task("b", 1, rounds=0)) as (process, port):
        await until(process, lambda states: set(states.values()) == {"training"})
        first = (await port.get("/tasks/a/v1/status"))["id"]
        other = (await port.get("/tasks/b/v1/status"))["id"]
        process.running()["a"].leave()
        states = await until(process, lambda states: states["a"] == "stopped")
        assert states["b"] == "training"
        assert (await call(port.app, "GET", "/tasks/a/v1/status")).status == 503
        assert process.start("b")["state"] == "training"  # it runs: nothing happens
        assert process.start("a")["state"] == "starting"
        await until(process, lambda states: set(states.values()) == {"training"})
        assert (await port.get("/tasks/a/v1/status"))[
            "id"
        ] != first  # it keeps nothing without a state directory
        assert (await port.get("/tasks/b/v1/status"))["id"] == other
        with pytest.raises(NoSuchRoute, match="there is no task c here"):
            process.start("c")


@pytest.mark.virtual
async def test_a_failed_task_is_started_again_once_its_cause_is_gone() -> None:
    causes = [failing]

    def before(plan: FitPlan) -> None:
        if causes:
            causes[0](plan)

    async with running(task("a", 0, NumpyLearner(before=before)), task("b", 1)) as (process, _):
        await until(process, lambda states: states["a"] == "failed")
        causes.clear()
        process.start("a")
        await until(process, lambda states: set(states.values()) == {"done"})
        assert process.listed()[0]["failure"] == ""


@pytest.mark.virtual
async def test_the_process_ends_once_all_tasks_have_ended_of_themselves() -> None:
    finishing = task("a", 0, exit_when_done=True), task("b", 1, exit_when_done=True)
    process = Tasks(list(finishing), Port(), OPERATED, HourlyBudget(0, trio.current_time))
    with trio.fail_after(60):
        await process.run(lambda url: None)
    assert [entry["state"] for entry in process.listed()] == ["finished", "finished"]


@pytest.mark.virtual
async def test_a_stopped_task_keeps_the_process_for_whoever_starts_it_again() -> None:
    async with running(task("a", 0, rounds=0)) as (process, port):
        await until(process, lambda states: states["a"] == "training")
        process.running()["a"].leave()
        await until(process, lambda states: states["a"] == "stopped")
        assert (await call(port.app, "GET", "/healthz")).status == 200
    assert process.start("a")["state"] == "stopped"  # too late


def test_data_that_cannot_be_had_fails_its_task_alone(tmp_path: Any) -> None:
    missing = build(NodeConfig, {"dataset": str(tmp_path / "missing.npz")})
    tasks = prepare({"a": missing, "b": build(NodeConfig, {"model": "softmax"})})
    assert [task.ended for task in tasks] == ["failed", ""]
    assert "there is no such folder or .npz file" in tasks[0].failure
    assert tasks[1].training is not None
    first, second = learners(tasks)
    assert second() is tasks[1].training.learner
    with pytest.raises(DataError):  # it is looked for again where the worker begins
        first()
    with pytest.raises(TasksFailed, match=r"^task a failed: data set .*; task c failed: data set"):
        prepare({"a": missing, "c": missing})
    assert current_task.get() == ""


def test_peers_of_a_task_that_does_not_run_hold_from_its_next_start() -> None:
    process = Tasks([task("a", 0)], Port(), OPERATED, HourlyBudget(0, lambda: 0.0))
    process.configure({"a": build(NodeConfig, {"peers": "http://a:1", "rounds": 9}), "z": NodeConfig()})
    [config] = [task.config for task in process._tasks.values()]
    assert (config.peers, config.training.rounds) == (("http://a:1",), 2)

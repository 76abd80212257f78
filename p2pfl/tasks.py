"""Several nodes in one process: each lives, fails, stops and is started again without the others."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import trio

from p2pfl import assembly
from p2pfl.assembly import Training, assembled
from p2pfl.clock import Clock
from p2pfl.config import NodeConfig
from p2pfl.current_task import current_task
from p2pfl.errors import NoSuchRoute, P2pflError, PeerError, TasksFailed, plain
from p2pfl.learning.learner import Learner
from p2pfl.learning.spawner import Spawner
from p2pfl.network.budget import Buckets
from p2pfl.network.hourly import HourlyBudget
from p2pfl.network.index import make_index
from p2pfl.network.mounts import MountedNetwork, Mounts
from p2pfl.network.problems import one_line
from p2pfl.network.security import Security
from p2pfl.node import Node
from p2pfl.seams import Network
from p2pfl.service import TOLD_BURST, TOLD_RATE, Score

log = logging.getLogger(__name__)


@dataclass
class Task:
    """One task: its node while it runs, and how it ended last.

    ended: "" while it starts or runs; "stopped" by somebody, "finished" by itself, or "failed".
    training: None if its data could not be read yet.  forks: whether it trains in a process of its own.
    """

    name: str
    config: NodeConfig
    number: int
    training: Training | None = None
    forks: bool = False
    node: Node | None = None
    ended: str = ""
    failure: str = ""
    exit_code: int = 0
    score: Score = field(default_factory=Score)

    def fail(self, error: P2pflError) -> None:
        self._fail(str(error), error.exit_code)
        log.error("failed: %s", error)

    def break_down(self, error: Exception) -> None:
        """A bug, in its code or in ours: the others go on."""
        first = error
        while isinstance(first, ExceptionGroup):
            first = first.exceptions[0]
        said = one_line(f"{type(first).__name__}: {first}")
        self._fail(f"{said}; the log of this process has the details", 1)
        log.exception("failed")

    def _fail(self, why: str, exit_code: int) -> None:
        self.ended, self.failure, self.exit_code = "failed", why, exit_code

    def as_dict(self, base: str) -> dict[str, object]:
        """An entry of GET /tasks. base: the URL of the process."""
        node = self.node
        score = node.service.score if node is not None else self.score
        return {
            "name": self.name,
            "state": self.ended or (node.service.state if node is not None else "starting"),
            "running": node is not None,
            "url": f"{base}/tasks/{self.name}",
            "round": score.round,
            "loss": score.loss,
            "accuracy": score.accuracy,
            "peers": len(node.gossip.view.live()) if node is not None else 0,
            "failure": self.failure,
        }


def prepare(configs: Mapping[str, NodeConfig]) -> list[Task]:
    """The tasks with their data, before any thread begins; one whose data cannot be had has failed.

    TasksFailed if all have.
    """
    tasks = [Task(name, config, number) for number, (name, config) in enumerate(configs.items())]
    for task in tasks:
        named = current_task.set(task.name)
        try:
            task.forks = assembly.check(task.config)
            task.training = Training.load(task.config)
        except P2pflError as error:
            task.fail(error)
        finally:
            current_task.reset(named)
    if all(task.ended for task in tasks):
        raise TasksFailed([(task.name, task.failure, task.exit_code) for task in tasks])
    return tasks


def learners(tasks: list[Task]) -> list[Callable[[], Learner]]:
    """What a Spawner's workers compute with: what is loaded by now, or is loaded there."""
    return [partial(_learner, task.config, task.training) for task in tasks]


def _learner(config: NodeConfig, loaded: Training | None) -> Learner:
    return (loaded or Training.load(config)).learner


class Tasks:
    """The tasks of a process. Implements network.index.Tasks.

    network, budget: of the whole.  security: with the token of whoever operates it.
    spawner: forks the processes that train; None where none does.
    """

    def __init__(
        self,
        tasks: list[Task],
        network: Network,
        security: Security,
        budget: HourlyBudget,
        spawner: Spawner | None = None,
    ) -> None:
        self._tasks = {task.name: task for task in tasks}
        assert security.operator is not None
        self.token = security.operator
        self._security = security
        self._budget = budget
        self._spawner = spawner
        self._network = network
        self._mounts = Mounts(self._tasks, make_index(self))
        self._base = ""
        self._clock = Clock()
        self._leaving = False
        self._changed = trio.Event()
        self._wanted: list[Task] = []
        self._rejected: Counter[str] = Counter()
        self._told = Buckets(TOLD_RATE, TOLD_BURST)

    async def run(self, began: Callable[[str], None]) -> None:
        """Until nothing runs and nobody stopped a task that might be started again.

        began: called with the URL of the process. Raises ListenError, and TasksFailed at the end.
        """
        async with trio.open_nursery() as serving:
            self._base = await serving.start(self._network.serve, self._mounts)
            began(self._base)
            async with trio.open_nursery() as nursery:
                for task in self._tasks.values():
                    if not task.ended:
                        nursery.start_soon(self._live, task)
                while not self._is_over():
                    await self._changed.wait()
                    self._changed = trio.Event()
                    wanted, self._wanted = self._wanted, []
                    for task in wanted:
                        nursery.start_soon(self._live, task)
            serving.cancel_scope.cancel()
        if failed := [task for task in self._tasks.values() if task.ended == "failed"]:
            raise TasksFailed([(task.name, task.failure, task.exit_code) for task in failed])

    def leave(self) -> None:
        """Stop all in good order; run() returns soon after."""
        self._leaving = True
        for task in self._tasks.values():
            if task.node is not None:
                task.node.leave()
        self._changed.set()

    def running(self) -> dict[str, Node]:
        return {task.name: task.node for task in self._tasks.values() if task.node is not None}

    def configure(self, configs: Mapping[str, NodeConfig]) -> None:
        """The peers of these hold from each task's next start."""
        for name, config in configs.items():
            if name in self._tasks:
                task = self._tasks[name]
                task.config = replace(task.config, peers=config.peers)

    def _is_over(self) -> bool:
        ends = {task.ended for task in self._tasks.values()}
        return "" not in ends and (self._leaving or "stopped" not in ends)

    async def _live(self, task: Task) -> None:
        """One life of a task, from its data to its end. Raises nothing of a task's making."""
        current_task.set(task.name)
        try:
            with plain():
                await self._attempt(task)
            task.exit_code = 0
            log.info("task ended: %s", task.ended)
        except P2pflError as error:
            task.fail(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other tasks go on
            task.break_down(error)
        finally:
            task.node = None
            self._changed.set()

    async def _attempt(self, task: Task) -> None:
        if task.training is None:
            task.forks = assembly.check(task.config)
            task.training = await trio.to_thread.run_sync(Training.load, task.config)
        network = MountedNetwork(self._network.transport, self._mounts, task.name, self._base)
        spawner = (self._spawner, task.number) if self._spawner is not None else None
        forks = task.forks and spawner is not None
        with (
            task.training.compute(forks=forks, spawner=spawner) as compute,
            assembled(
                task.config,
                task.training,
                compute,
                lambda: (network, self.token),
                self._budget,
                share=1 / len(self._tasks),
            ) as node,
        ):
            task.node = node
            if self._leaving:
                node.leave()
            try:
                await assembly.run(node, self._security, partial(log.info, "task at %s"))
            finally:
                task.score = node.service.score
        task.ended = "stopped" if node.leaving.is_set() else "finished"

    # -- network.index.Tasks

    def listed(self) -> list[dict[str, object]]:
        return [task.as_dict(self._base) for task in self._tasks.values()]

    def lacks(self) -> list[str]:
        """Of tasks that should run: failed ones, and what those that run lack."""
        lacking = []
        for task in self._tasks.values():
            if task.node is not None:
                lacking += [f"{task.name}: {what}" for what in task.node.service.lacks()]
            elif task.ended in ("", "failed"):
                lacking.append(f"{task.name}: {task.ended or 'starting'}")
        return lacking

    def start(self, name: str) -> dict[str, object]:
        task = self._tasks.get(name)
        if task is None:
            raise NoSuchRoute(f"there is no task {name} here")
        if task.ended and not self._leaving:
            log.info("the operator starts the task %s", name)
            task.ended = task.failure = ""
            self._wanted.append(task)
            self._changed.set()
        return task.as_dict(self._base)

    def reject(self, error: PeerError, source: str) -> None:
        self._rejected[error.reason] += 1
        if not self._told.wait(error.reason, self._clock.now()):
            self._told.spend(error.reason, 1.0, self._clock.now())
            log.info("rejected source=%s reason=%s: %s", source, error.reason, error)

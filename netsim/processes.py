"""The process engine: real `p2pfl node start` processes on loopback, watched from outside.

Each node has an address of 127.0.0.0/8 of its own, so that all know their peers' URLs before any is started.
They start to train once those peers are there; then the engine only looks: at their status through HTTP and
at the journals they write. When the last is done it fetches their models, ends them and merges the journals.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio

import netsim
from netsim.children import Child, Children, free_addresses
from netsim.collect import Observation, Tail
from netsim.config import SimConfig
from netsim.journal import SIMULATOR, Journal, RunEnded
from netsim.population import NODE_STREAM, Outcome, bootstrap, evaluated_nodes, node_config, stream
from p2pfl.config import NodeConfig, flatten, keys
from p2pfl.errors import FrameError, SimulationError, plain
from p2pfl.events import Event, Published, StateChanged
from p2pfl.gossip.codec import ModelDecoder
from p2pfl.gossip.messages import Layout, Task, TensorSpec, Vector

PORT = 8470
INTERVAL = 0.5  # seconds between looks
STATUS_DEADLINE = 5.0  # seconds for a status; a node that takes longer is asked again at the next look
MODEL_DEADLINE = 60.0  # seconds to fetch a model
# Seconds until all nodes listen: importing torch takes some of a core, for one node after the other.
START_DEADLINE, START_DEADLINE_PER_NODE = 60.0, 6.0

# -P: the folder in which the user happens to be holds none of our modules.
NODE_COMMAND = (sys.executable, "-P", "-m", "cli.main", "node", "start")


@dataclass
class _Member:
    """One node as seen from outside."""

    url: str
    child: Child
    tail: Tail
    done: bool = False


class ProcessEngine:
    """One run.

    watch: called with each event and its time, some time after it happened.  folder: gets a sub-folder
    `nodes` with each node's configuration, journal and log.  command: starts a node, with `--config FILE`.
    """

    def __init__(
        self,
        config: SimConfig,
        journal: Journal,
        watch: Callable[[float, Event], None],
        folder: Path,
        command: Sequence[str] = NODE_COMMAND,
    ) -> None:
        self._config = config
        self._journal = journal
        self._watch = watch
        self._folder = folder / "nodes"
        self._command = command
        self._origin = 0.0  # of the run's clock
        self._members: list[_Member] = []
        self._seen: list[Observation] = []
        self._weights: list[Vector] = []

    def run(self) -> Outcome:
        """Run until every node is done; none is left afterwards. Call from a thread that goes on to live.

        Outcome.virtual_seconds is real here. Raises SimulationError if a node does not start or ends early.
        """
        self._origin = time.perf_counter()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with Children() as children, plain():
                trio.run(self._main, children)
        except OSError as error:
            raise SimulationError(f"the node processes cannot be watched: {error}") from error
        except BaseExceptionGroup as group:
            if group.subgroup(KeyboardInterrupt) is not None:
                raise KeyboardInterrupt from None
            raise
        self._look()
        return self._conclude()

    def _now(self) -> float:
        return time.perf_counter() - self._origin

    # -- starting

    async def _main(self, children: Children) -> None:
        deadline = START_DEADLINE + START_DEADLINE_PER_NODE * self._config.nodes
        for index, node in enumerate(node_configs(self._config, self._folder, deadline)):
            self._members.append(self._start(children, index, node))
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(deadline):
                async with trio.open_nursery() as starting:
                    for member in self._members:
                        starting.start_soon(self._attend, nursery, member)
            late = [member.child.name for member in self._members if member.tail.listens_at is None]
            if late:
                raise SimulationError(f"{late[0]} does not listen after {deadline:.0f} seconds")
            # trust_env=False: no proxy stands between us and our own machine.
            async with httpx.AsyncClient(timeout=None, trust_env=False) as client:
                while not all([await self._is_done(client, member) for member in self._members]):
                    self._look()
                    await trio.sleep(INTERVAL)
                self._weights = await _fetch_models(client, [member.url for member in self._members])
            nursery.cancel_scope.cancel()

    def _start(self, children: Children, index: int, node: NodeConfig) -> _Member:
        file = self._folder / f"node-{index}.toml"
        file.write_text(to_toml(flatten(node)), encoding="utf-8")
        journal = Path(str(node.journal))
        journal.unlink(missing_ok=True)  # a node appends; this is another run's
        log = self._folder / f"node-{index}.log"
        command = [*self._command, "--config", str(file)]
        child = children.start(f"node {index}", command, log, environment(node))
        return _Member(f"http://{node.listen}", child, Tail(journal, index))

    async def _attend(self, nursery: trio.Nursery, member: _Member) -> None:
        line = await nursery.start(member.child.attend)
        if line != f"listening on {member.url}":
            raise SimulationError(f"{member.child.name} says {line!r} instead of where it listens")
        member.tail.listens_at = self._now()

    # -- watching

    async def _is_done(self, client: httpx.AsyncClient, member: _Member) -> bool:
        """Done nodes are not asked again: there is no way back."""
        if not member.done:
            with trio.move_on_after(STATUS_DEADLINE):
                try:
                    response = await client.get(f"{member.url}/v1/status")
                    member.done = response.json()["state"] == "done"
                except (httpx.TransportError, ValueError, KeyError, TypeError):
                    return False  # busy, or ending: then its attendant knows
        return member.done

    def _look(self) -> None:
        new = sorted((item for member in self._members for item in member.tail.look()), key=_place)
        for at, _, event in new:
            self._watch(at, event)
        self._seen += new

    # -- ending

    def _conclude(self) -> Outcome:
        """Write the nodes' journals as one, up to the moment at which the last of them was done."""
        self._seen.sort(key=_place)
        states = [
            (at, index, event.state) for at, index, event in self._seen if isinstance(event, StateChanged)
        ]
        done = {index: at for at, index, state in states if state == "done"}
        if len(done) < self._config.nodes:
            raise SimulationError("a node is done, but its journal does not say so")
        end = max(done.values())
        merges = [at for at, index, event in self._seen if isinstance(event, Published) and at <= done[index]]
        for at, index, event in self._seen:
            if at <= end:
                self._journal.write(at, index, event)
        self._journal.write(end, SIMULATOR, RunEnded(self._config.nodes))
        return Outcome(
            first_job=self._origin + min(at for at, _, state in states if state == "training"),
            last_merge=self._origin + max(merges, default=end),
            virtual_seconds=end,
            weights=self._weights,
        )


def _place(item: Observation) -> tuple[float, int]:
    return item[:2]


def node_configs(config: SimConfig, folder: Path, wait: float) -> list[NodeConfig]:
    """What each node is started with: the virtual engine's, and what only a process needs.

    wait: longest time for the peers that a node starts with, in seconds. It trains when they are there, as
    simulated ones do; with fewer than 10 nodes, when all are.
    """
    addresses = free_addresses(config.nodes, PORT)
    chosen = evaluated_nodes(config)
    nodes = []
    for index, address in enumerate(addresses):
        peers = tuple(f"http://{addresses[i]}:{PORT}" for i in bootstrap(config, index))
        evaluation = config.evaluation if index in chosen else replace(config.evaluation, evaluate_every=0)
        node = replace(
            node_config(config, f"n{index}", peers, evaluation),
            listen=f"{address}:{PORT}",
            shard=f"{index}/{config.nodes}",
            seed=int(stream(config.seed, index, NODE_STREAM).integers(2**63)),
            min_peers=min(len(peers), config.gossip.view_size),
            wait=wait,
            journal=str((folder / f"node-{index}.jsonl").absolute()),
            log_level="warning",
        )
        nodes.append(node)
    return nodes


def environment(node: NodeConfig) -> dict[str, str]:
    """Our own, on one thread, with these very packages, and without what would win over the node's file."""
    variables = dict(os.environ)
    for key in keys(NodeConfig):
        if key.env is not None and key.name.replace("_", "-") in flatten(node):
            variables.pop(key.env, None)
    packages = str(Path(netsim.__file__).parents[1])
    paths = [packages, *filter(None, [variables.get("PYTHONPATH")])]
    return variables | {"OMP_NUM_THREADS": str(node.threads), "PYTHONPATH": os.pathsep.join(paths)}


def to_toml(flat: dict[str, object]) -> str:
    """Flat keys with strings, numbers, booleans and lists of strings as TOML."""
    # JSON's literals are TOML's too, as long as characters beyond the first plane are not escaped.
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in flat.items())


# -- models


async def _fetch_models(client: httpx.AsyncClient, urls: Sequence[str]) -> list[Vector]:
    """(P,) float32 of each node. Raises SimulationError."""
    weights: list[Vector] = []
    for url in urls:
        try:
            with trio.fail_after(MODEL_DEADLINE):
                if not weights:
                    read = partial(ModelDecoder, *await _read_layout(client, url))
                weights.append(await _fetch_model(client, url, read()))
        except (
            httpx.TransportError,
            FrameError,
            trio.TooSlowError,
            ValueError,
            KeyError,
            TypeError,
        ) as error:
            raise SimulationError(f"the model of {url} cannot be fetched: {error!r}") from error
    return weights


async def _read_layout(client: httpx.AsyncClient, url: str) -> tuple[Task, Layout]:
    answer: dict[str, Any] = (await client.get(f"{url}/v1/layout")).json()
    task = answer["task"]
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in task.items()
    }
    tensors = [TensorSpec(spec["name"], tuple(spec["shape"]), spec["dtype"]) for spec in answer["tensors"]]
    return Task(**values), Layout(answer["model"], tuple(tensors))


async def _fetch_model(client: httpx.AsyncClient, url: str, decoder: ModelDecoder) -> Vector:
    async with client.stream("GET", f"{url}/v1/model") as response:
        async for chunk in response.aiter_raw():
            decoder.feed(chunk)
    return decoder.finish().weights

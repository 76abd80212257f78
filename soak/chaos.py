"""Twenty real nodes for ten minutes; every five seconds one of them is killed and restarted, or stopped.

Each is a `p2pfl node start` at an address of its own, with a state directory that outlives it, and knows a
few of the others. Who is struck, how, and for how long it is stopped is drawn from the seed. Meanwhile this
process looks at theirs in /proc; in the end it asks all of them how they are.
"""

from __future__ import annotations

import math
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import trio

from netsim.children import Children, free_addresses
from netsim.node_process import NodeProcess
from netsim.processes import NODE_COMMAND
from p2pfl.config import NodeConfig, build
from p2pfl.errors import plain
from p2pfl.events import Started
from soak import processes
from soak.figures import Figure, at_least, at_most, explains, none_of
from soak.options import Options

PORT = 8470
NODES, EVERY = 20, 5.0
"""Nodes; seconds from one fault to the next."""
FEW, OFTEN = 3, 2.0
"""The same when it is small."""
KNOWN = 3
"""Others that a node is told of; it finds the rest."""
AT_ONCE = 4
"""Nodes that start at the same time: more would only share the cores for importing torch."""
START = 240.0
"""Seconds in which a node has to listen, however many start beside it."""
STOPPED = (1.0, 20.0)
"""Seconds for which a node is stopped: some of them long enough to be taken for dead."""
CALM = 0.1
"""Share of the seconds, at the end, in which nothing strikes any more."""
INTERVAL = 2.0
"""Seconds between a node's exchanges: twenty nodes are to leave two cores some time."""
LOOK = 2.0
"""Seconds between looks at the processes."""
YOUNG = 60.0
"""Seconds after which a life has all that it needs: what it takes from then on grows."""
LEAST_ACCURACY, LEAST_SMALL = 0.95, 0.5
MOST_GROWTH, MOST_SOCKETS_EACH, OWN_SOCKETS = 50.0, 4, 8
"""MB over a life; sockets at the end for each node: kept connections of both directions; and besides: the one
that listens, trio's own, what asks for the status, somebody who has just come."""
LAST = 10.0
"""Seconds that a killed process may take to be gone: the kernel kills what it had started a moment later."""
PATIENCE, ASK = 60.0, 0.5
"""Seconds for a node's answer at the end, and between asking it again."""


@dataclass
class Life:
    """One process of a node. files: open ones by kind, at each look.  memory: (seconds of life, bytes)."""

    began: float
    files: list[dict[str, int]] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)

    def leaks(self) -> list[str]:
        """Kinds of files, but for sockets, of which it never has as few again as it had at most at first.

        One more may be open at any look: a checkpoint, while it is written.
        """
        half = len(self.files) // 2
        first, second = self.files[:half], self.files[half:]
        kinds = sorted({kind for look in second for kind in look} - {"socket"}) if first else []
        found = []
        for kind in kinds:
            most, least = max(look.get(kind, 0) for look in first), min(look.get(kind, 0) for look in second)
            if least > most:
                found.append(f"{kind}: {most}, then {least}")
        return found

    def sockets(self) -> int:
        """At the last look."""
        return self.files[-1].get("socket", 0) if self.files else 0

    def growth(self) -> float:
        """Bytes by which it has grown since it was young; NaN if it did not live as long."""
        grown = [size for age, size in self.memory if age >= YOUNG]
        return float(grown[-1] - grown[0]) if len(grown) > 1 else math.nan


@dataclass
class Record:
    """What happened. struck: how often, by kind.  ids: of each node, in the order of its lives."""

    struck: Counter[str] = field(default_factory=Counter)
    lives: dict[int, Life] = field(default_factory=dict)  # by process id
    ids: dict[int, list[str]] = field(default_factory=dict)
    resumed: list[int] = field(default_factory=list)  # rounds that restarted nodes went on from


@dataclass(frozen=True)
class Result:
    """statuses: of the nodes that answered at the end.  left: processes that outlived the run."""

    nodes: int
    record: Record
    statuses: list[dict[str, Any]]
    alive: list[Life]
    left: list[int]
    logs: str


def measure(options: Options) -> Iterator[Figure]:
    """The figures of `python -m soak chaos`."""
    with Children() as children, plain():
        record, statuses, alive = trio.run(_run, options, children)
    found = [*record.lives, *_naming(options.folder)]
    left = [pid for pid in found if processes.outlasts(pid, LAST)]
    logs = "".join(path.read_text(encoding="utf-8") for path in sorted(options.folder.glob("*.log")))
    nodes = FEW if options.small else NODES
    yield from figures(options, Result(nodes, record, statuses, alive, left, logs))


# -- the run


async def _run(options: Options, children: Children) -> tuple[Record, list[dict[str, Any]], list[Life]]:
    count, every = (FEW, OFTEN) if options.small else (NODES, EVERY)
    end = trio.current_time() + options.seconds
    addresses = free_addresses(count, (PORT,))
    draw, record = random.Random(options.seed), Record()
    async with trio.open_nursery() as nursery:
        nodes = [
            NodeProcess(
                index,
                _configuration(options, index, addresses),
                folder=options.folder,
                command=NODE_COMMAND,
                children=children,
                deadline=START,
                keeps=True,
                reseed=lambda life: life,
                slowdown=1.0,
                proxy=None,
                connections=nursery,
            )
            for index in range(count)
        ]
        nursery.start_soon(_look, nodes, record)
        nursery.start_soon(_begin, nodes, nursery)
        calm = end - max(CALM * options.seconds, 2 * STOPPED[0])
        while trio.current_time() + every < calm:
            await trio.sleep(every)
            _strike(nodes, nursery, draw, record, calm)
        await trio.sleep_until(calm)
        for node in nodes:
            node.resume()
            await node.listens.wait()
        await trio.sleep_until(end)
        statuses = [status for node in nodes if (status := await _status(node)) is not None]
        alive = [record.lives[node.pid] for node in nodes if node.pid in record.lives]
        nursery.cancel_scope.cancel()
    return record, statuses, alive


def _configuration(options: Options, index: int, addresses: list[str]) -> NodeConfig:
    count, own = len(addresses), addresses[index]
    known = [addresses[(index + step) % count] for step in range(1, min(KNOWN, count - 1) + 1)]
    values: dict[str, object] = {
        "dataset": "digits" if options.small else "mnist", "model": "mlp", "shard": f"{index}/{count}",
        "rounds": 0, "batch_size": 32, "lr": 0.1, "interval": 0.2 if options.small else INTERVAL,
        "listen": f"{own}:{PORT}", "call_from": own, "name": f"node-{index}", "seed": options.seed + index,
        "peers": [f"http://{address}:{PORT}" for address in known], "log_level": "warning",
    }  # fmt: skip
    return build(NodeConfig, values)


async def _begin(nodes: list[NodeProcess], nursery: trio.Nursery) -> None:
    """The first lives, a few at a time; those that listen already are struck meanwhile."""
    limit = trio.CapacityLimiter(AT_ONCE)

    async def begin(node: NodeProcess) -> None:
        async with limit:
            node.begin(nursery)
            await node.listens.wait()

    async with trio.open_nursery() as starting:
        for node in nodes:
            starting.start_soon(begin, node)


def _strike(
    nodes: list[NodeProcess], nursery: trio.Nursery, draw: random.Random, record: Record, calm: float
) -> None:
    """Kill and restart one that runs, or stop one for a while."""
    running = [node for node in nodes if node.listens.is_set() and not node.hung]
    if not running:
        return
    node = draw.choice(running)
    if draw.random() < 0.5:
        record.struck["killed"] += 1
        node.crash()
        node.begin(nursery)
    else:
        record.struck["stopped"] += 1
        seconds = draw.uniform(*STOPPED)
        node.hang()
        nursery.start_soon(_resume, node, min(seconds, calm - trio.current_time()))


async def _resume(node: NodeProcess, seconds: float) -> None:
    await trio.sleep(seconds)
    node.resume()


async def _look(nodes: list[NodeProcess], record: Record) -> None:
    while True:
        now = trio.current_time()
        for node in nodes:
            for _, event in node.look():
                if isinstance(event, Started):
                    record.ids.setdefault(node.index, []).append(event.id)
                    record.resumed += [event.resumed_round] if len(record.ids[node.index]) > 1 else []
            pid = node.pid
            if pid is None or not node.listens.is_set():
                continue
            try:
                files, size = processes.open_files(pid), processes.own(pid)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it has just ended
            life = record.lives.setdefault(pid, Life(now))
            life.files.append(files)
            life.memory.append((now - life.began, size))
        await trio.sleep(LOOK)


async def _status(node: NodeProcess) -> dict[str, Any] | None:
    """What it says of itself, once it has evaluated its model in this life; None if it says nothing."""
    status: dict[str, Any] | None = None
    with trio.move_on_after(PATIENCE):
        async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
            while status is None or status["accuracy"] is None:
                try:
                    status = (await client.get(f"{node.url}/v1/status")).json()
                except (httpx.HTTPError, ValueError):
                    return None
                await trio.sleep(ASK)
    return status


def _naming(folder: Path) -> list[int]:
    """Processes other than this one whose command line names something in the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and f"{folder}/".encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # it has just ended
    return [pid for pid in found if pid != os.getpid()]


# -- what it comes to


def figures(options: Options, result: Result) -> Iterator[Figure]:
    record, alive = result.record, result.alive
    yield at_least("chaos: nodes that answer at the end", len(result.statuses), result.nodes)
    worst = min((status["accuracy"] or 0.0 for status in result.statuses), default=0.0)
    least = LEAST_SMALL if options.small else LEAST_ACCURACY
    yield at_least("chaos: accuracy of the worst node", worst, least)
    others = [f"node {index}" for index, ids in sorted(record.ids.items()) if len(set(ids)) > 1]
    yield none_of("chaos: nodes that came back as another", others)
    files = [leak for life in alive for leak in life.leaks()]
    yield none_of("chaos: files opened and not closed", files)
    sockets = max((life.sockets() for life in alive), default=0)
    yield at_most(
        "chaos: sockets of a node at the end", sockets, MOST_SOCKETS_EACH * result.nodes + OWN_SOCKETS
    )
    growths = [grown for life in record.lives.values() if not math.isnan(grown := life.growth())]
    if not options.small:
        grown = max(growths, default=math.nan) / 1e6
        yield at_most("chaos: growth of a node's memory over its life", grown, MOST_GROWTH, "MB")
    yield none_of("chaos: processes left behind", [str(pid) for pid in result.left])
    traces = [
        line for line in result.logs.splitlines() if "level=error" in line or line.startswith("Traceback")
    ]
    yield none_of("chaos: errors in the nodes' logs", traces)
    struck = ", ".join(f"{count} {kind}" for kind, count in sorted(record.struck.items()))
    yield explains("chaos: faults", struck or "none")
    mean = sum(status["accuracy"] or 0.0 for status in result.statuses) / max(1, len(result.statuses))
    yield explains("chaos: mean accuracy", f"{mean:.4f}")
    lowest, highest = min(record.resumed, default=0), max(record.resumed, default=0)
    resumed = f"{len(record.resumed)}, of rounds {lowest} to {highest}"
    yield explains("chaos: lives that went on from a checkpoint", resumed)
    oldest = max((life.memory[-1][0] for life in record.lives.values() if life.memory), default=0.0)
    yield explains("chaos: processes, the longest life", f"{len(record.lives)}, {oldest:.0f} s")

"""A node that trains MNIST while twenty clients flood it, a quarter of them hostile.

Three processes: the node; the clients (flooder.py); and this one, which asks the node small things as an
honest peer does, reads its journal, and looks at it in /proc. First nobody calls the node, then the flood
comes, then nobody calls again: training under the flood is compared with the same before and after.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio

from netsim.children import Child, Children, free_addresses
from netsim.collect import Tail, read_layout
from netsim.launch import environment, to_toml
from netsim.processes import NODE_COMMAND
from p2pfl.config import NodeConfig, build, flatten
from p2pfl.errors import PeerError, plain
from p2pfl.events import Trained
from p2pfl.gossip.codec import encode_hello
from p2pfl.gossip.messages import Hello, Sender
from p2pfl.network.client import PeerClient
from p2pfl.network.transport import TcpTransport
from soak import processes
from soak.figures import Figure, at_least, at_most, explains, none_of, percentile
from soak.options import Options

PORT = 8470
PEER = "127.78.0.1"
"""Where the small requests come from."""
CLIENTS, HOSTILE, RATE = 20, 5, 200.0
"""Clients, hostile ones of them, exchanges a second of all together."""
FEW, FEWEST, SLOW = 4, 1, 20.0
"""The same when it is small."""
FLOOD_SHARE, QUIET_SHARE = 0.5, 0.1
"""Of a part's seconds: the flood, each of the two times without it; the rest lies between them."""
WARM_UP = 0.2
"""Share of the flood after which memory has to stay as it is: pools and caches are full."""
LEAST_RATE, MOST_SLOWDOWN, MOST_WAIT, MOST_GROWTH = 90.0, 15.0, 250.0, 50.0
"""Per cent of the exchanges (what a node does not get it does not bear), per cent, milliseconds, MB."""
LOOK, ASK = 0.5, 0.05
"""Seconds between looks at /proc, and between small requests."""
PATIENCE = 30.0
"""Seconds for a small request."""
STEPS = 100
"""Batches of a round: images are counted by rounds, so they are short."""


@dataclass
class Watch:
    """What is seen of the node, each with trio's time.

    training: processor seconds of the process that trains.  memory: bytes.  images: of each round.
    waits: seconds, of small requests.  failed: those without an answer.
    """

    training: list[tuple[float, float]] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    images: list[tuple[float, float]] = field(default_factory=list)
    waits: list[tuple[float, float]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Span:
    """A time in which the node was or was not flooded, by trio's clock."""

    begin: float
    end: float

    def of(self, seen: Sequence[tuple[float, float]]) -> list[float]:
        return [value for at, value in seen if self.begin <= at < self.end]


@dataclass(frozen=True)
class Result:
    """account: what the clients did (flooder.Account).  status: the node's, after all.  log: its log."""

    watch: Watch
    before: Span
    flooded: Span
    after: Span
    account: dict[str, Any]
    status: dict[str, Any]
    log: str


def measure(options: Options) -> Iterator[Figure]:
    """The figures of `python -m soak flood`."""
    with Children() as children, plain():
        result = trio.run(_run, options, children)
    seen = vars(result.watch) | {"flooded": [result.flooded.begin, result.flooded.end]}
    (options.folder / "watch.json").write_text(json.dumps(seen), encoding="utf-8")
    yield from figures(options, result)


# -- the run


async def _run(options: Options, children: Children) -> Result:
    (address,) = free_addresses(1, (PORT,))
    config = _configuration(options, f"{address}:{PORT}")
    file, log = options.folder / "node.toml", options.folder / "node.log"
    file.write_text(to_toml(flatten(config)), encoding="utf-8")
    node = children.start("the node", [*NODE_COMMAND, "--config", str(file)], log, environment(config))
    url, watch, quiet = f"http://{config.listen}", Watch(), QUIET_SHARE * options.seconds
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.attend)  # raises if the node ends by itself
        await node.spoke.wait()
        nursery.start_soon(_look, node, Path(str(config.journal)), watch)
        await trio.sleep(quiet / 4)  # of its first rounds, which are slower
        before = await _span(quiet)
        asking = trio.CancelScope()
        nursery.start_soon(_ask, asking, url, watch)
        account = await _flooded(options, children, nursery, url, config)
        shift = trio.current_time() - time.monotonic()
        flooded = Span(account["began"] + shift, account["ended"] + shift)
        asking.cancel()
        await trio.sleep(quiet / 4)  # what it has still to merge and to close
        after = await _span(quiet)
        async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
            status = (await client.get(f"{url}/v1/status")).json()
        node.terminate()
        nursery.cancel_scope.cancel()
    return Result(watch, before, flooded, after, account, status, log.read_text(encoding="utf-8"))


def _configuration(options: Options, listen: str) -> NodeConfig:
    values: dict[str, object] = {
        "dataset": "digits" if options.small else "mnist", "model": "mlp", "rounds": 0, "local_steps": STEPS,
        "batch_size": 64, "lr": 0.05, "interval": 0.0, "evaluate_every": 0, "listen": listen,
        "seed": options.seed, "journal": str(options.folder / "node.jsonl"), "log_level": "warning",
    }  # fmt: skip
    return build(NodeConfig, values)


async def _span(seconds: float) -> Span:
    begin = trio.current_time()
    await trio.sleep(seconds)
    return Span(begin, trio.current_time())


async def _flooded(
    options: Options, children: Children, nursery: trio.Nursery, url: str, config: NodeConfig
) -> dict[str, Any]:
    """Let the clients at the node; what they did."""
    file = options.folder / "flood.json"
    scale = (FEW, FEWEST, SLOW) if options.small else (CLIENTS, HOSTILE, RATE)
    numbers = map(str, (options.seed, *scale, FLOOD_SHARE * options.seconds))
    command = [sys.executable, "-m", "soak.flooder", url, str(file), *numbers]
    clients = children.start("the flood", command, options.folder / "flood.log", environment(config))
    nursery.start_soon(clients.attend)
    await clients.spoke.wait()
    clients.terminate()
    account: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return account


async def _look(node: Child, journal: Path, watch: Watch) -> None:
    (trainer,), tail = processes.children(node.pid), Tail(journal)
    tail.listens_at = trio.current_time()
    while True:
        now = trio.current_time()
        watch.training.append((now, processes.seconds(trainer)))
        watch.memory.append((now, processes.own(node.pid)))
        watch.images += [(at, event.samples) for at, event in tail.look() if isinstance(event, Trained)]
        await trio.sleep(LOOK)


async def _ask(scope: trio.CancelScope, url: str, watch: Watch) -> None:
    """Say hello and ask for the status, in turn, as an honest peer and a person do."""
    transport = TcpTransport(call_from=PEER)
    async with httpx.AsyncClient(transport=transport, timeout=None, trust_env=False) as pages:
        task, layout = await read_layout(pages, url)
        client = PeerClient(transport, task, layout)
        hello = Hello(Sender("asking", "", "training", ""), task, layout.fingerprint, 0, ())
        turns = partial(client.hello, url, encode_hello(hello)), partial(pages.get, f"{url}/v1/status")
        with scope:
            while True:
                for ask in turns:
                    began = trio.current_time()
                    try:
                        with trio.fail_after(PATIENCE):
                            await ask()
                    except (PeerError, httpx.HTTPError, trio.TooSlowError) as error:
                        watch.failed.append(repr(error))
                    watch.waits.append((began, trio.current_time() - began))
                    await trio.sleep_until(began + ASK)


# -- what it comes to


def images_per_second(watch: Watch, span: Span) -> float:
    """Images by processor second of training; NaN if it has not trained."""
    seconds = span.of(watch.training)
    taken = seconds[-1] - seconds[0] if seconds else 0.0
    return sum(span.of(watch.images)) / taken if taken else math.nan


def growth(seen: Sequence[float]) -> float:
    """From the first tenth of what was seen to the last, by their medians."""
    edge = max(1, len(seen) // 10)
    return statistics.median(seen[-edge:]) - statistics.median(seen[:edge])


def miscounted(counted: Counter[str], made: Counter[str]) -> list[str]:
    """Reasons for which the node has not counted as many refusals as its clients have made."""
    reasons = sorted({*counted, *made})
    return [f"{why}: {counted[why]} of {made[why]}" for why in reasons if counted[why] != made[why]]


def errors_in(log: str) -> list[str]:
    """Lines of a node's log that tell of a bug."""
    return [line for line in log.splitlines() if "level=error" in line or line.startswith("Traceback")]


def figures(options: Options, result: Result) -> Iterator[Figure]:
    watch, account, flooded = result.watch, result.account, result.flooded
    speeds = [images_per_second(watch, span) for span in (result.before, flooded, result.after)]
    made = account["exchanges"] + account["hostile"]
    if not options.small:
        due = FLOOD_SHARE * options.seconds * RATE
        yield at_least("flood: exchanges made, of 200 a second", 100 * made / due, LEAST_RATE, "%")
        slower = 100 * (1 - 2 * speeds[1] / (speeds[0] + speeds[2]))
        yield at_most("flood: images per CPU second of training", slower, MOST_SLOWDOWN, "% fewer")
        waits = [1e3 * wait for wait in flooded.of(watch.waits)]
        yield at_most("flood: p99 of hello and status", percentile(waits, 0.99), MOST_WAIT, "ms")
        settled = Span(flooded.begin + WARM_UP * (flooded.end - flooded.begin), flooded.end)
        grown = growth(settled.of(watch.memory)) / 1e6
        yield at_most("flood: growth of memory", grown, MOST_GROWTH, "MB")
    yield none_of("flood: small requests without an answer", watch.failed)
    yield none_of("flood: errors in the node's log", errors_in(result.log))
    wrong = miscounted(Counter(result.status["rejected"]), Counter(account["rejected"]))
    yield none_of("flood: refusals counted otherwise than made", wrong)
    yield explains("flood: images per CPU second, before, in, after", ", ".join(f"{x:,.0f}" for x in speeds))
    answers = ", ".join(f"{count:,} x {status}" for status, count in sorted(account["answers"].items()))
    yield explains("flood: honest exchanges", f"{account['exchanges']:,}: {answers}")
    refused = sum(account["rejected"].values())
    yield explains("flood: hostile blows, refusals counted", f"{account['hostile']:,}, {refused:,}")
    yield explains("flood: late, silent", f"{account['late']:,}, {account['silent'] or 'none'}")
    sent, received = account["bytes_sent"] / 1e6, account["bytes_received"] / 1e6
    yield explains("flood: sent, received", f"{sent:,.0f} MB, {received:,.0f} MB")

"""Proxies between real nodes' networks on loopback: who is seen, who is refused, what breaks how."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
import trio
import trio.testing

from netsim import relay
from netsim.children import free_addresses
from netsim.config import LinksConfig
from netsim.journal import MessageLost
from netsim.links import ScenarioLinks
from netsim.paths import Paths
from netsim.proxy import Proxy
from p2pfl.errors import TimedOut, Unreachable
from p2pfl.network.client import PeerClient
from p2pfl.network.transport import TcpTransport
from tests.p2pfl.network.sites import BIG, LAYOUT, TASK, Site, app_of, frame, hello_body, served

FRONT, BACK = 8470, 8471
HANG = 60.0  # seconds that nothing here needs: a test fails then instead of hanging


@dataclass
class Between:
    """Node 0 calls node 1, which is served behind a proxy."""

    client: PeerClient
    site: Site
    url: str
    paths: Paths
    lost: list[MessageLost] = field(default_factory=list)
    accepting: trio.CancelScope = field(default_factory=trio.CancelScope)


@asynccontextmanager
async def nodes(*, up: bool = True, **links: object) -> AsyncIterator[Between]:
    addresses = free_addresses(2, (FRONT, BACK))
    config = LinksConfig(**{"latency": "1ms", **links})  # type: ignore[arg-type]
    paths = Paths(ScenarioLinks(config, (), {}, {}, np.random.default_rng))
    client = PeerClient(TcpTransport(call_from=addresses[0]), TASK, BIG)
    between = Between(client, Site(layout=BIG), f"http://{addresses[1]}:{FRONT}", paths)
    callers = {address: index for index, address in enumerate(addresses)}
    proxy = Proxy(1, addresses[1], FRONT, BACK, callers, paths, between.lost.append)

    async def accept(*, task_status: trio.TaskStatus[None]) -> None:
        with between.accepting:
            async with trio.open_nursery() as nursery:
                await nursery.start(proxy.serve, connections)
                task_status.started()

    with trio.fail_after(HANG):
        async with trio.open_nursery() as connections:
            await connections.start(accept)
            if up:
                async with served(app_of(between.site), f"{addresses[1]}:{BACK}"):
                    yield between
            else:
                yield between
            await client.aclose()
            connections.cancel_scope.cancel()


async def test_a_node_behind_a_proxy_sees_who_calls_and_is_seen() -> None:
    async with nodes() as between:
        answer, reply = await between.client.hello(between.url, hello_body("ann", layout=BIG))
        assert answer.sender.id == "bob"
        caller = between.site.hellos[0][1]
        assert caller.startswith("127.")
        assert caller != reply.source
        assert reply.source == between.url.removeprefix("http://").partition(":")[0]


async def test_models_pass_both_ways_on_one_connection() -> None:
    async with nodes(latency="3ms", jitter="2ms") as between:
        for seed in range(3):
            chunks = frame("ann", reply=True, layout=BIG, seed=seed)
            reply = await between.client.push(between.url, chunks)
            assert reply.model is not None
            assert reply.model.head.sender.id == "bob"
        assert len(between.site.models) == 3


async def test_who_is_no_node_is_not_let_in() -> None:
    async with nodes() as between:
        stranger = PeerClient(TcpTransport(), TASK, LAYOUT)
        with pytest.raises((TimedOut, Unreachable)):
            await stranger.hello(between.url, hello_body("eve"))
        assert not between.site.hellos


async def test_a_dead_node_resets_and_a_closed_proxy_refuses() -> None:
    async with nodes(up=False) as between:
        with pytest.raises((TimedOut, Unreachable)):  # reset before or after the request is out
            await between.client.hello(between.url, hello_body("ann"))
        between.accepting.cancel()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Unreachable, match="refused"):
            await between.client.hello(between.url, hello_body("ann"))


async def test_connections_outlive_the_accepting() -> None:
    """What was sent before a node died arrives, also if nobody can call it any more."""
    async with nodes() as between:
        await between.client.hello(between.url, hello_body("ann", layout=BIG))
        between.accepting.cancel()
        await trio.testing.wait_all_tasks_blocked()
        await between.client.hello(between.url, hello_body("ann", layout=BIG))
        assert len(between.site.hellos) == 2


async def test_a_lost_message_ends_as_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "STALLED", 0.0)
    async with nodes(loss=1.0) as between:
        chunks = frame("ann", layout=BIG)
        with pytest.raises(TimedOut):
            await between.client.push(between.url, chunks)
        size = sum(len(chunk) for chunk in chunks)
        assert between.lost == [MessageLost(0, 1, "request", size, "loss")]
        assert not between.site.models


async def test_a_cut_holds_a_request_up_until_it_heals() -> None:
    async with nodes() as between:
        await between.client.hello(between.url, hello_body("ann", layout=BIG))
        between.paths.cuts.cut(1, [(0,), (1,)])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(between.client.hello, between.url, hello_body("ann", layout=BIG))
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert len(between.site.hellos) == 1
            between.paths.cuts.heal(1)
        assert len(between.site.hellos) == 2

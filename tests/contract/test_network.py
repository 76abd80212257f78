"""What a node may rely on, whichever network it is on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest
import trio
from starlette.types import Receive, Scope, Send

from p2pfl.errors import BadAnswer, Refused, Unreachable, WrongTask
from p2pfl.gossip.messages import Layout, Task
from p2pfl.network.app import ASGIApp
from p2pfl.network.client import PeerClient
from tests.contract.networks import Host, Hosts, Network, guarded, loopback, simulated
from tests.p2pfl.network.sites import (
    BIG,
    LAYOUT,
    OTHER_TASK,
    TASK,
    Site,
    app_of,
    frame,
    hello,
    hello_body,
    weights_of,
)

# The simulated network needs virtual time; real sockets cannot have it.
pytestmark = pytest.mark.parametrize(
    "network",
    [
        pytest.param(loopback, id="loopback"),
        pytest.param(guarded, id="guarded"),
        pytest.param(simulated, id="simulated", marks=pytest.mark.virtual),
    ],
)


@asynccontextmanager
async def serving(hosts: Hosts, app: ASGIApp, index: int = 0) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(hosts.host(index).serve, app)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def calling(host: Host, task: Task = TASK, layout: Layout = LAYOUT) -> AsyncIterator[PeerClient]:
    client = PeerClient(host.transport(), task, layout)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def talking(network: Network, site: Site) -> AsyncIterator[tuple[PeerClient, str]]:
    """A client on host 1 and the URL of `site` on host 0."""
    async with (
        network() as hosts,
        serving(hosts, app_of(site)) as url,
        calling(hosts.host(1), site.task, site.layout) as client,
    ):
        yield client, url


async def test_push_delivers_the_model_and_brings_none(network: Network) -> None:
    site = Site()
    async with talking(network, site) as (client, url):
        reply = await client.push(url, frame("ann"))
    [(model, source, size)] = site.models
    assert model.head.sender.id == "ann"
    np.testing.assert_array_equal(model.weights, weights_of(LAYOUT, 0))
    assert source in ("127.0.0.1", "10.0.0.2")
    assert (reply.peer, reply.model, reply.sent, reply.received) == ("", None, size, 0)


async def test_push_pull_brings_the_other_model(network: Network) -> None:
    async with talking(network, Site()) as (client, url):
        reply = await client.push(url, frame("ann", reply=True))
    assert reply.model is not None
    assert reply.peer == "bob"
    assert reply.received == sum(map(len, Site().frame()))
    np.testing.assert_array_equal(reply.model.weights, weights_of(LAYOUT, 5))


async def test_pull_brings_the_snapshot_once(network: Network) -> None:
    site = Site()
    async with talking(network, site) as (client, url):
        first, etag = await client.pull(url, None)
        second, same = await client.pull(url, etag)
        site.etag = '"2"'
        third, new = await client.pull(url, etag)
    assert first.model is not None
    assert first.sent == 0
    assert (second.model, second.received) == (None, 0)
    assert third.model is not None
    assert (etag, same, new) == ('"1"', '"1"', '"2"')
    assert [size for _, size in site.pulls] == [first.received, 0, third.received]


async def test_hello_is_answered_with_a_hello(network: Network) -> None:
    site = Site()
    async with talking(network, site) as (client, url):
        theirs, reply = await client.hello(url, hello_body("ann"))
    assert (theirs.sender.id, theirs.round, reply.peer) == ("bob", 7, "bob")
    [(ours, _, size)] = site.hellos
    assert ours == hello("ann")
    assert (reply.sent, reply.model) == (size, None)


async def test_a_peer_of_another_task_is_refused_with_the_cause(network: Network) -> None:
    site = Site()
    async with talking(network, site) as (client, url):
        for _ in range(2):
            with pytest.raises(Refused) as caught:
                await client.push(url, frame("ann", task=OTHER_TASK))
        with pytest.raises(Refused, match="toy"):
            await client.hello(url, hello_body("ann", OTHER_TASK))
        await client.push(url, frame("ann"))
    assert (caught.value.cause, caught.value.http_status) == ("wrong-task", 409)
    assert site.reasons == ["wrong-task"] * 3
    assert site.rejected[0][2] == "ann"  # the head was read: it is known who that was
    assert len(site.models) == 1


async def test_a_reply_of_another_task_is_refused(network: Network) -> None:
    async with (
        network() as hosts,
        serving(hosts, app_of(Site(task=OTHER_TASK))) as url,
        calling(hosts.host(1)) as client,
    ):
        with pytest.raises(WrongTask):
            await client.pull(url, None)


async def test_a_big_model_travels_whole(network: Network) -> None:
    site = Site(layout=BIG)
    async with talking(network, site) as (client, url):
        reply = await client.push(url, frame("ann", reply=True, layout=BIG))
    assert reply.model is not None
    np.testing.assert_array_equal(reply.model.weights, weights_of(BIG, 5))
    np.testing.assert_array_equal(site.models[0][0].weights, weights_of(BIG, 0))


async def test_nobody_listens(network: Network) -> None:
    async with network() as hosts, calling(hosts.host(1)) as client:
        scheme = hosts.unused.partition(":")[0]
        for url in (
            hosts.unused,
            f"{scheme}://no-such-host.invalid:8470",
            f"{scheme}://{'a' * 70}:8470",
            "nonsense",
        ):
            with pytest.raises(Unreachable):
                await client.push(url, frame("ann"))


async def test_a_node_that_left_is_unreachable(network: Network) -> None:
    async with network() as hosts, calling(hosts.host(1)) as client:
        async with serving(hosts, app_of(Site())) as url:
            await client.push(url, frame("ann"))
        with pytest.raises(Unreachable):
            await client.push(url, frame("ann"))


async def test_requests_do_not_wait_for_each_other(network: Network) -> None:
    arrived, release = trio.Event(), trio.Event()
    inner = app_of(Site())

    async def slow_for_models(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/v1/exchange":
            arrived.set()
            await release.wait()
        await inner(scope, receive, send)

    async with (
        network() as hosts,
        serving(hosts, slow_for_models) as url,
        calling(hosts.host(1)) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(client.push, url, frame("ann"))
        await arrived.wait()
        await client.hello(url, hello_body("ann"))
        release.set()


async def test_the_end_of_the_caller_is_not_the_end_of_the_handler(network: Network) -> None:
    arrived, release, answered = trio.Event(), trio.Event(), trio.Event()
    site = Site()
    inner = app_of(site)

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        arrived.set()
        await release.wait()
        messages = iter([message])

        async def replay() -> object:
            return next(messages)

        await inner(scope, replay, send)  # type: ignore[arg-type]
        answered.set()

    async with network() as hosts, serving(hosts, slow) as url, calling(hosts.host(1)) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.pull, url, None)
            await arrived.wait()
            nursery.cancel_scope.cancel()
        assert not answered.is_set()
        release.set()
        await answered.wait()
    assert len(site.pulls) == 1


@pytest.mark.parametrize(
    ("status", "headers", "content"),
    [
        (302, [(b"location", b"http://192.0.2.9:8470/"), (b"content-length", b"0")], b""),
        (200, [(b"content-type", b"text/html"), (b"content-length", b"2")], b"hi"),
        (404, [(b"content-type", b"text/html"), (b"content-length", b"2")], b"hi"),
        (500, [(b"content-length", b"100000")], b"x" * 100_000),
        (404, [(b"content-length", b"20")], b'{"type":"about:what"'),
        (201, [(b"content-length", b"0")], b""),
    ],
    ids=["redirect", "web page", "no such page", "long error", "foreign problem", "created"],
)
async def test_what_is_not_a_node_is_a_bad_answer(
    network: Network, status: int, headers: list[tuple[bytes, bytes]], content: bytes
) -> None:
    async def website(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body", False):
            pass
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async with network() as hosts, serving(hosts, website) as url, calling(hosts.host(1)) as client:
        with pytest.raises(BadAnswer, match=url):
            await client.push(url, frame("ann", reply=True))
        with pytest.raises(BadAnswer):
            await client.pull(url, None)
        with pytest.raises(BadAnswer):
            await client.hello(url, hello_body("ann"))


async def test_any_httpx_client_can_ask(network: Network) -> None:
    async with (
        network() as hosts,
        serving(hosts, app_of(Site())) as url,
        httpx.AsyncClient(transport=hosts.host(1).transport(), trust_env=False) as client,
    ):
        answer = await client.get(f"{url}/v1/layout")
    assert answer.json()["fingerprint"] == LAYOUT.fingerprint

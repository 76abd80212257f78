"""The simulated network on its own: latencies, order, deadlines, crashes, bodies."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest
import trio
import trio.testing

from netsim.determinism import run_deterministically
from netsim.network import SimulatedNetwork, Traffic, UniformLinks, address
from p2pfl.errors import ListenError, SimulationError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass
class Site:
    """An ASGI application that notes what it gets and answers with chunks, after `delay` virtual seconds."""

    reply: tuple[bytes | memoryview, ...] = (b"yes",)
    status: int = 200
    delay: float = 0.0
    scopes: list[Message] = field(default_factory=list)
    bodies: list[list[Any]] = field(default_factory=list)
    started: list[float] = field(default_factory=list)
    finished: int = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.started.append(trio.current_time())
        chunks = []
        while True:
            message = await receive()
            chunks.append(message["body"])
            if not message["more_body"]:
                break
        self.bodies.append(chunks)
        if self.delay:
            await trio.sleep(self.delay)
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"x-site", b"here")]})
        for chunk in self.reply:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        self.finished += 1


class SilentSite:
    """An ASGI application that remembers nothing."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class NoBody(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in ():
            yield chunk


class Table(UniformLinks):
    """Latencies by (sender, receiver)."""

    def __init__(self, latencies: dict[tuple[int, int], float]) -> None:
        super().__init__()
        self._latencies = latencies

    def latency(self, sender: int, receiver: int) -> float:
        return self._latencies[sender, receiver]


@asynccontextmanager
async def running(network: SimulatedNetwork) -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        yield nursery
        nursery.cancel_scope.cancel()


def client(network: SimulatedNetwork, index: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=network.host(index).transport(), timeout=None, trust_env=False)


@pytest.mark.virtual
async def test_request_and_response_take_one_latency_each() -> None:
    network = SimulatedNetwork(Table({(0, 1): 0.25, (1, 0): 0.5}))
    site = Site(delay=2.0)
    async with running(network) as nursery, client(network, 0) as http:
        url = await nursery.start(network.host(1).serve, site)
        assert url == "http://10.0.0.2:8470"
        start = trio.current_time()
        response = await http.get(url)
        assert site.started == [pytest.approx(start + 0.25, abs=1e-9)]
        assert trio.current_time() == pytest.approx(start + 2.75, abs=1e-9)
    assert response.status_code == 200
    assert response.headers["x-site"] == "here"
    assert response.content == b"yes"


@pytest.mark.virtual
@pytest.mark.parametrize("listening", [True, False])
async def test_exchange_that_is_over_keeps_nothing_alive(listening: bool) -> None:
    """Not even until the garbage collector looks: a model hangs on each."""
    network = SimulatedNetwork(UniformLinks())
    transport = network.host(0).transport()
    async with running(network) as nursery:
        host = network.host(1)
        if listening:
            await nursery.start(host.serve, SilentSite())
        request = httpx.Request("GET", host.url, stream=NoBody())
        alive = weakref.ref(request)
        gc.disable()
        try:
            with contextlib.suppress(httpx.ConnectError):
                await transport.handle_async_request(request)
            await trio.testing.wait_all_tasks_blocked()
            del request
            assert alive() is None
        finally:
            gc.enable()


@pytest.mark.virtual
async def test_without_latency_no_virtual_time_passes() -> None:
    network = SimulatedNetwork(UniformLinks(0.0))
    async with running(network) as nursery, client(network, 0) as http:
        url = await nursery.start(network.host(1).serve, Site())
        start = trio.current_time()
        for _ in range(3):
            assert (await http.get(url)).content == b"yes"
        with pytest.raises(httpx.ConnectError):
            await http.get("http://10.0.0.9:8470")
        assert trio.current_time() == start


@pytest.mark.virtual
async def test_the_application_sees_what_a_server_would_show() -> None:
    network = SimulatedNetwork(UniformLinks())
    site = Site()
    async with running(network) as nursery, client(network, 300) as http:
        url = await nursery.start(network.host(1).serve, site)
        await http.post(f"{url}/a%20b/c?d=e%2F", content=b"body", headers={"X-Thing": "Value"})
    (scope,) = site.scopes
    assert scope["type"] == "http"
    assert scope["method"] == "POST"
    assert scope["path"] == "/a b/c"
    assert scope["raw_path"] == b"/a%20b/c"
    assert scope["query_string"] == b"d=e%2F"
    assert scope["client"][0] == "10.0.1.45"  # node 300
    assert scope["server"] == ("10.0.0.2", 8470)
    headers = dict(scope["headers"])
    assert headers[b"host"] == b"10.0.0.2:8470"
    assert headers[b"content-length"] == b"4"
    assert headers[b"x-thing"] == b"Value"


@pytest.mark.virtual
async def test_chunks_arrive_as_they_were_given_without_a_copy() -> None:
    network = SimulatedNetwork(UniformLinks())
    weights = np.arange(1000, dtype=np.float32)
    site = Site(reply=(b"head", weights.data.cast("B")))

    async def body() -> AsyncIterator[Any]:
        yield b"head"
        yield weights.data.cast("B")

    async with running(network) as nursery, client(network, 0) as http:
        url = await nursery.start(network.host(1).serve, site)
        async with http.stream("POST", url, content=body()) as response:
            got = [chunk async for chunk in response.aiter_raw()]
    ((head, sent),) = site.bodies
    assert head == b"head"
    assert np.shares_memory(np.frombuffer(sent, np.float32), weights)
    assert got[0] == b"head"
    assert np.shares_memory(np.frombuffer(got[1], np.float32), weights)
    assert network.traffic == {(0, 1): Traffic(1, 1, 4004), (1, 0): Traffic(1, 0, 4004)}


@pytest.mark.virtual
@pytest.mark.parametrize(("method", "content"), [("GET", b"yes"), ("HEAD", b"")])
async def test_requests_without_a_body(method: str, content: bytes) -> None:
    network = SimulatedNetwork(UniformLinks())
    site = Site()
    async with running(network) as nursery, client(network, 0) as http:
        url = await nursery.start(network.host(1).serve, site)
        response = await http.request(method, url)
    assert site.bodies == [[b""]]
    assert response.content == content


@pytest.mark.virtual
async def test_a_node_can_call_itself() -> None:
    network = SimulatedNetwork(UniformLinks())
    async with running(network) as nursery, client(network, 0) as http:
        url = await nursery.start(network.host(0).serve, Site())
        assert (await http.get(url)).content == b"yes"


@pytest.mark.virtual
@pytest.mark.parametrize(
    "url", ["http://10.0.0.7:8470", "http://10.0.0.2:80", "http://example.org", "https://10.0.0.2:8470"]
)
async def test_where_nobody_listens_the_connection_is_refused_after_a_round_trip(url: str) -> None:
    network = SimulatedNetwork(UniformLinks(0.5))
    async with running(network) as nursery, client(network, 0) as http:
        await nursery.start(network.host(1).serve, Site())
        start = trio.current_time()
        with pytest.raises(httpx.ConnectError, match="nobody listens"):
            await http.get(url)
        assert trio.current_time() == pytest.approx(start + 1.0)


@pytest.mark.virtual
async def test_a_callers_deadline_does_not_end_the_handler() -> None:
    network = SimulatedNetwork(UniformLinks(0.5))
    site = Site(delay=10.0)
    async with running(network) as nursery, client(network, 0) as http:
        url = await nursery.start(network.host(1).serve, site)
        start = trio.current_time()
        with trio.move_on_after(2.0) as scope:
            await http.post(url, content=b"x")
        assert scope.cancelled_caught
        assert trio.current_time() == pytest.approx(start + 2.0)
        await trio.sleep(20)
        assert site.finished == 1


@pytest.mark.virtual
async def test_a_request_is_delivered_though_its_caller_has_given_up() -> None:
    network = SimulatedNetwork(UniformLinks(0.5))
    site = Site()
    async with running(network) as nursery, client(network, 0) as http:
        url = await nursery.start(network.host(1).serve, site)
        with trio.move_on_after(0.25):
            await http.post(url, content=b"x")
        assert site.finished == 0
        await trio.sleep(20)
        assert site.finished == 1


@pytest.mark.virtual
async def test_a_crash_resets_the_callers_connection_and_then_refuses() -> None:
    network = SimulatedNetwork(UniformLinks(0.5))
    site = Site(delay=10.0)
    crash = trio.CancelScope()

    async def node(*, task_status: trio.TaskStatus[str]) -> None:
        with crash:
            await network.host(1).serve(site, task_status=task_status)

    async with running(network) as nursery, client(network, 0) as http:
        url = await nursery.start(node)
        start = trio.current_time()
        crash.deadline = start + 3.0
        with pytest.raises(httpx.ReadError, match=r"10\.0\.0\.2 reset the connection"):
            await http.get(url)
        assert trio.current_time() == pytest.approx(start + 3.5)
        assert site.finished == 0
        with pytest.raises(httpx.ConnectError):
            await http.get(url)
        site.delay = 0.0
        await nursery.start(network.host(1).serve, site)  # restarted at the same address
        assert (await http.get(url)).content == b"yes"


@pytest.mark.virtual
async def test_a_response_on_its_way_survives_the_crash_of_its_sender() -> None:
    network = SimulatedNetwork(UniformLinks(0.5))
    crash = trio.CancelScope()

    async def node(*, task_status: trio.TaskStatus[str]) -> None:
        with crash:
            await network.host(1).serve(Site(), task_status=task_status)

    async with running(network) as nursery, client(network, 0) as http:
        url = await nursery.start(node)
        crash.deadline = trio.current_time() + 0.75
        assert (await http.get(url)).content == b"yes"


@pytest.mark.virtual
async def test_an_application_that_never_answers_resets_too() -> None:
    async def mute(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    network = SimulatedNetwork(UniformLinks())
    async with running(network) as nursery, client(network, 0) as http:
        url = await nursery.start(network.host(1).serve, mute)
        with pytest.raises(httpx.ReadError):
            await http.get(url)


@pytest.mark.virtual
async def test_the_end_of_the_connection_is_seen_once_the_answer_is_out() -> None:
    seen: list[str] = []

    async def curious(scope: Message, receive: Receive, send: Send) -> None:
        await Site()(scope, receive, send)
        seen.append((await receive())["type"])

    network = SimulatedNetwork(UniformLinks())
    async with running(network) as nursery, client(network, 0) as http:
        await http.get(await nursery.start(network.host(1).serve, curious))
    assert seen == ["http.disconnect"]


@pytest.mark.virtual
async def test_one_address_has_one_listener() -> None:
    network = SimulatedNetwork(UniformLinks())
    async with running(network) as nursery:
        await nursery.start(network.host(1).serve, Site())
        with pytest.raises(ListenError, match=r"http://10\.0\.0\.2:8470"):
            await network.host(1).serve(Site())


@pytest.mark.virtual
async def test_a_network_that_does_not_run_says_so() -> None:
    network = SimulatedNetwork(UniformLinks())
    async with client(network, 0) as http:
        with pytest.raises(SimulationError, match="does not run"):
            await http.get("http://10.0.0.2:8470")


def test_simultaneous_requests_are_handled_in_the_order_of_sender_and_sequence() -> None:
    site = Site()

    async def main() -> None:
        network = SimulatedNetwork(UniformLinks(0.5))
        async with running(network) as nursery:
            url = await nursery.start(network.host(9).serve, site)

            async def call(sender: int, what: str) -> None:
                async with client(network, sender) as http:
                    await http.post(url, content=what.encode())

            async with trio.open_nursery() as callers:
                for sender in (4, 1, 3, 0, 2):
                    for number in range(2):
                        callers.start_soon(call, sender, f"{sender}.{number}")

    run_deterministically(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert [body[0].decode() for body in site.bodies] == [f"{s}.{n}" for s in range(5) for n in range(2)]
    assert len(set(site.started)) == 1


@pytest.mark.virtual
async def test_a_quicker_message_overtakes() -> None:
    network = SimulatedNetwork(Table({(0, 2): 5.0, (1, 2): 1.0, (2, 0): 1.0, (2, 1): 1.0}))
    site = Site()
    async with running(network) as nursery:
        url = await nursery.start(network.host(2).serve, site)

        async def call(sender: int) -> None:
            async with client(network, sender) as http:
                await http.post(url, content=str(sender).encode())

        async with trio.open_nursery() as callers:
            callers.start_soon(call, 0)
            await trio.sleep(1)
            callers.start_soon(call, 1)
    assert site.bodies == [[b"1"], [b"0"]]


def test_jitter_is_bounded_and_seeded() -> None:
    def latencies(seed: int) -> list[float]:
        links = UniformLinks(0.02, 0.5, np.random.default_rng(seed))
        return [links.latency(0, 1) for _ in range(50)]

    assert latencies(1) == latencies(1) != latencies(2)
    assert all(0.01 <= seconds <= 0.03 for seconds in latencies(1))
    assert len(set(latencies(1))) == 50


@pytest.mark.parametrize(("seconds", "jitter"), [(-1.0, 0.0), (float("inf"), 0.0), (1.0, 1.5), (1.0, 0.5)])
def test_impossible_links_are_refused(seconds: float, jitter: float) -> None:
    with pytest.raises(ValueError, match="jitter"):
        UniformLinks(seconds, jitter)


def test_addresses_are_one_per_node() -> None:
    assert address(0) == "10.0.0.1"
    assert address(255) == "10.0.1.0"
    assert len({address(index) for index in range(70_000)}) == 70_000

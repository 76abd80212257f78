"""Floods of connections on a real server: who is kept out, who is not, and what it costs.

trio.fail_after only guards against a hang.
"""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import pytest
import trio
import trio.testing

from p2pfl.network import server
from p2pfl.network.security import Security
from tests.p2pfl.network.sites import BIG, Site, app_of, body, hello_body
from tests.p2pfl.network.test_server import Line, connected, get, post
from tests.p2pfl.network.test_strangers import guarding


@asynccontextmanager
async def from_address(url: str, address: str) -> AsyncIterator[Line]:
    """A connection from another address of this machine: all of 127.0.0.0/8 are."""
    parts = urlsplit(url)
    with trio.fail_after(20):
        stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 0, local_address=address)
        async with stream:
            yield Line(stream)


async def answers(line: Line, request: bytes) -> int:
    await line.send(request)
    return (await line.response()).status


@pytest.fixture
def few_seats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight connections for all, of which one address gets four, and two for pages."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 10)
    monkeypatch.setattr(server, "RESERVED_CONNECTIONS", 2)


async def hold(stack: AsyncExitStack, url: str, address: str, count: int, start: bytes = b"") -> list[Line]:
    """Connections from an address that have sent `start`; those that are refused are left out."""
    held = []
    for _ in range(count):
        line = await stack.enter_async_context(from_address(url, address))
        with contextlib.suppress(trio.BrokenResourceError):
            await line.send(start)
        held.append(line)
    await trio.testing.wait_all_tasks_blocked(0.01)
    return held


@pytest.mark.usefixtures("few_seats")
async def test_one_address_cannot_take_all_connections() -> None:
    """Slow bodies: connections that cannot be ended as idle."""
    half = post(body()[:50], length=len(body()))
    async with guarding(app_of(Site()), Security()) as url, AsyncExitStack() as stack:
        await hold(stack, url, "127.0.0.2", 4, half)
        for address in ("127.0.0.3", "127.0.0.4"):
            async with from_address(url, address) as line:
                assert await answers(line, post(hello_body(), "/v1/membership")) == 200


@pytest.mark.usefixtures("few_seats")
async def test_pages_are_reachable_though_all_connections_are_taken() -> None:
    """Also from the address that floods: on a laptop, the person who looks has the same as the nodes."""
    site = Site()
    half = post(body()[:50], length=len(body()))
    async with guarding(app_of(site), Security()) as url, AsyncExitStack() as stack:
        await hold(stack, url, "127.0.0.1", 4, half)
        for path in ("/healthz", "/v1/status", "/readyz"):
            async with connected(url) as line:
                await line.send(get(path))
                response = await line.response()
                assert (response.status, response.headers["connection"]) == (200, "close")
                assert await line.ended()
        async with connected(url) as line:
            await line.send(post(hello_body(), "/v1/membership"))
            response = await line.response()
            assert (response.status, response.reason, response.headers["retry-after"]) == (503, "busy", "1")
    assert site.hellos == []


@pytest.mark.usefixtures("few_seats")
async def test_idle_connections_keep_neither_pages_nor_newcomers_out() -> None:
    async with guarding(app_of(Site()), Security()) as url, AsyncExitStack() as stack:
        for number in range(2, 8):  # more than there are seats, from many addresses; some inside a head
            await hold(stack, url, f"127.0.0.{number}", 4, b"GET / HT" if number % 2 else b"")
        async with from_address(url, "127.0.1.1") as line:
            assert await answers(line, post(hello_body(), "/v1/membership")) == 200
        async with from_address(url, "127.0.0.2") as line:
            assert await answers(line, get("/healthz")) == 200


@pytest.mark.usefixtures("few_seats")
async def test_when_all_are_busy_there_is_a_refusal_with_a_time() -> None:
    half = post(body()[:50], length=len(body()))
    async with guarding(app_of(Site()), Security()) as url, AsyncExitStack() as stack:
        for number in range(2, 12):
            await hold(stack, url, f"127.0.0.{number}", 1, half)
        async with connected(url) as line:
            response = await line.response()
            assert (response.status, response.reason, response.headers["retry-after"]) == (503, "busy", "1")
            assert await line.ended()


async def test_a_head_that_comes_byte_by_byte_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte is progress, and none of them gives more time (slow loris)."""
    monkeypatch.setattr(server, "IDLE", 0.05)
    site = Site()
    async with guarding(app_of(site), Security()) as url, connected(url) as line:
        ended = False
        for byte in get("/healthz", b"x: " + b"y" * 8000 + b"\r\n"):
            try:
                await line.send(bytes([byte]))
            except trio.BrokenResourceError:
                ended = True
                break
            await trio.testing.wait_all_tasks_blocked(0.001)
        assert ended


async def test_an_address_that_opens_connections_without_end_is_refused() -> None:
    site = Site()
    async with guarding(app_of(site), Security(max_requests=1.0)) as url:
        refused = 0
        for _ in range(12):  # eight at once are everybody's
            async with from_address(url, "127.0.0.2") as line:
                with contextlib.suppress(trio.BrokenResourceError):
                    await line.send(get("/healthz"))
                    response = await line.response()
                    refused += response.status == 429
        assert refused >= 3
        async with from_address(url, "127.0.0.3") as line:
            assert await answers(line, get("/healthz")) == 200
    assert set(site.reasons) == {"too-many-requests"}


async def test_memory_is_flat_whoever_takes_no_answer() -> None:
    """Each answer is a view of one snapshot: many that nobody reads cost little more than one."""
    site = Site(layout=BIG)
    kept = site.frame()
    site.snapshot = lambda pull: ('"1"', kept)  # type: ignore[method-assign]
    async with guarding(app_of(site), Security()) as url, AsyncExitStack() as stack:
        await hold(stack, url, "127.0.0.2", 1, get("/v1/model"))
        tracemalloc.start()
        try:
            await hold(stack, url, "127.0.0.2", 40, get("/v1/model"))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 16 << 20
    assert set(site.reasons) == {"busy"}

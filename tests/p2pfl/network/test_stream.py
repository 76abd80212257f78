"""Server-sent events: what is sent when, to how many, and what becomes of those who leave."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from p2pfl.clock import Clock
from p2pfl.network import stream
from p2pfl.network.app import ASGIApp, make_app
from tests.p2pfl.network.sites import DISCONNECT, Site, call, served


class Busy(Site):
    """A site where something happens when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.sequence = 0
        self.asked: list[tuple[float, int]] = []
        self._event = trio.Event()

    def happen(self) -> None:
        self.sequence += 1
        self.state["round"] = self.sequence
        self._event.set()
        self._event = trio.Event()

    def history(self, since: int = 0) -> dict[str, object]:
        self.asked.append((trio.current_time(), since))
        return {"sequence": self.sequence, "rounds": []}

    async def change(self, since: int) -> None:
        if self.sequence == since and not self.end.is_set():
            await self._event.wait()


async def watch(app: ASGIApp, seconds: float, client: str = "192.0.2.1") -> None:
    """A reader who leaves after some time."""
    with trio.move_on_after(seconds):
        await call(app, "GET", "/v1/events", client=client)


@pytest.mark.virtual
async def test_however_much_happens_a_reader_is_told_twice_a_second() -> None:
    site = Busy()
    app = make_app(site, Clock())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, app, 10.0)
        for _ in range(400):
            await trio.sleep(0.01)
            site.happen()
    times = [time for time, _ in site.asked]
    assert len(times) == 9  # at once, then 4 s of events
    assert min(b - a for a, b in itertools.pairwise(times)) >= stream.SPACING
    assert [since for _, since in site.asked][:2] == [0, 0]
    assert site.asked[-1][1] > 300


@pytest.mark.virtual
async def test_while_nothing_happens_there_are_comments_and_at_the_end_it_ends() -> None:
    site = Busy()

    async def end() -> None:
        await trio.sleep(40)
        site.end.set()
        site.happen()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end)
        answer = await call(make_app(site, Clock()), "GET", "/v1/events", [{"type": "http.request"}], ())
    assert answer.complete
    assert answer.headers["cache-control"] == "no-store"
    assert answer.body.count(b": still here\n\n") == 2
    statuses = [
        json.loads(chunk.split(b"event: status\ndata: ")[1]) for chunk in answer.chunks if b"status" in chunk
    ]
    assert [status["round"] for status in statuses] == [3, 1]


@pytest.mark.virtual
async def test_only_so_many_may_watch_and_who_leaves_makes_room() -> None:
    site = Busy()
    app = make_app(site, Clock())
    async with trio.open_nursery() as nursery:
        for i in range(stream.READERS):
            nursery.start_soon(watch, app, 10.0, f"192.0.2.{i}")
        await trio.sleep(1)
        refused = await call(app, "GET", "/v1/events", client="192.0.2.99")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert site.reasons == ["busy"]
    left = await call(app, "GET", "/v1/events", [{"type": "http.request"}, DISCONNECT])
    assert left.status == 200


@pytest.mark.virtual
async def test_one_source_gets_half_of_the_streams() -> None:
    app = make_app(Busy(), Clock())
    async with trio.open_nursery() as nursery:
        for _ in range(stream.READERS // 2):
            nursery.start_soon(watch, app, 10.0)
        await trio.sleep(1)
        assert (await call(app, "GET", "/v1/events")).status == 503
        assert (await call(app, "HEAD", "/v1/events")).status == 200


class Reader:
    """A client that reads a stream as it comes."""

    def __init__(self, line: trio.SocketStream) -> None:
        self._line = line
        self.text = b""

    async def until(self, text: bytes, times: int = 1) -> None:
        with trio.fail_after(20):
            while self.text.count(text) < times:
                piece = await self._line.receive_some()
                assert piece, self.text
                self.text += piece


async def test_on_a_real_connection_events_come_as_they_happen_and_leaving_is_noticed() -> None:
    site = Busy()
    async with served(make_app(site, Clock())) as url:
        for _ in range(2 * stream.READERS):  # the places of those who left are free again
            async with opened(url) as reader:
                await reader.until(b"event: status")
                assert b"content-type: text/event-stream" in reader.text
        async with opened(url) as reader:
            await reader.until(b"event: status")
            site.happen()
            await reader.until(b"event: status", 2)
            assert b'"round":1' in reader.text
            site.end.set()
            site.happen()
            await reader.until(b"0\r\n\r\n")  # the last chunk: complete, not broken off
            assert reader.text.count(b"event: status") == 3


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Reader]:
    stream = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
    async with stream:
        await stream.send_all(b"GET /v1/events HTTP/1.1\r\nhost: here\r\n\r\n")
        yield Reader(stream)

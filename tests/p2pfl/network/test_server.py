"""A real server on loopback, spoken to with raw sockets, also by those who do not speak HTTP.

Time limits are made tiny where a test needs one to pass; trio.fail_after only guards against a hang.
"""

from __future__ import annotations

import contextlib
import json
import logging
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
import trio
import trio.testing
from starlette.types import Message, Receive, Scope, Send

from p2pfl.errors import ListenError
from p2pfl.network import courtesy, server
from p2pfl.network.app import ASGIApp
from p2pfl.network.server import HttpNetwork
from tests.p2pfl.network.sites import BIG, Site, Watched, app_of, body, hello_body, served

FORM = b"host: x\r\ncontent-type: application/msgpack\r\n"


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def reason(self) -> str:
        """Of a problem document."""
        assert self.headers["content-type"] == "application/problem+json"
        document = json.loads(self.body)
        assert document["status"] == self.status
        return str(document["type"]).removeprefix("urn:p2pfl:")


class Line:
    """A client's raw connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._data = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def response(self) -> Response:
        """The next response, which has a content-length."""
        while b"\r\n\r\n" not in self._data:
            await self._more()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        length = int(headers.get("content-length", "0"))
        while len(self._data) < length:
            await self._more()
        content, self._data = self._data[:length], self._data[length:]
        return Response(int(first.split()[1]), headers, content)

    async def ended(self) -> bool:
        """The server closed the connection, orderly or not, without another byte."""
        try:
            return not self._data and not await self.stream.receive_some()
        except trio.BrokenResourceError:
            return True

    async def _more(self) -> None:
        data = await self.stream.receive_some()
        assert data, f"the connection ended after {self._data!r}"
        self._data += data


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Line]:
    parts = urlsplit(url)
    with trio.fail_after(20):
        async with await trio.open_tcp_stream(parts.hostname or "", parts.port or 0) as stream:
            yield Line(stream)


def post(data: bytes, path: str = "/v1/exchange", length: int | None = None, extra: bytes = b"") -> bytes:
    size = len(data) if length is None else length
    return b"POST %s HTTP/1.1\r\n%scontent-length: %d\r\n%s\r\n" % (path.encode(), FORM, size, extra) + data


def get(path: str, extra: bytes = b"") -> bytes:
    return b"GET %s HTTP/1.1\r\nhost: x\r\n%s\r\n" % (path.encode(), extra)


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


POST_CHUNKED = b"POST /v1/exchange HTTP/1.1\r\n" + FORM + b"transfer-encoding: chunked\r\n\r\n"


async def still_answers(url: str) -> None:
    async with connected(url) as line:
        await line.send(get("/healthz"))
        assert (await line.response()).status == 200
        await line.send(post(hello_body(), "/v1/membership"))
        assert (await line.response()).status == 200


@contextmanager
def silent(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged, least of all a traceback."""
    with caplog.at_level(logging.INFO):
        yield
    assert not caplog.records


# ---- listening ----


async def test_port_zero_takes_a_free_one_and_says_which() -> None:
    async with served(app_of(Site())) as url, served(app_of(Site())) as other:
        assert url != other
        assert urlsplit(url).hostname == "127.0.0.1"
        await still_answers(url)
        await still_answers(other)


async def test_address_in_use() -> None:
    async with served(app_of(Site())) as url:
        address = url.removeprefix("http://")
        with pytest.raises(ListenError) as caught:
            await HttpNetwork(address).serve(app_of(Site()))
        assert str(caught.value) == f"{address} is in use; choose another --listen or stop the other program"
        await still_answers(url)


async def test_address_can_be_listened_on_again_at_once() -> None:
    async with served(app_of(Site())) as url, connected(url) as line:
        await line.send(get("/healthz"))
        await line.response()
    async with served(app_of(Site()), url.removeprefix("http://")) as again:
        await still_answers(again)


@pytest.mark.parametrize(
    ("listen", "words"),
    [("192.0.2.1:0", "not an address of this machine"), ("no-such-host.invalid:0", "no such host")],
)
async def test_address_that_is_not_ours(listen: str, words: str) -> None:
    with pytest.raises(ListenError, match=words):
        await HttpNetwork(listen).serve(app_of(Site()))


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
async def test_an_address_to_call_from_that_is_not_ours(address: str) -> None:
    with pytest.raises(ListenError, match=f"{address} is not an address of this machine; .*--call-from"):
        await HttpNetwork("127.0.0.1:0", address).serve(app_of(Site()))


async def test_ipv6() -> None:
    try:
        with trio.socket.socket(trio.socket.AF_INET6) as sock:
            await sock.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    site = Site()
    async with served(app_of(site), "[::1]:0") as url:
        assert url.startswith("http://[::1]:")
        await still_answers(url)
    assert site.hellos[0][1] == "::1"


# ---- good requests in unusual clothes ----


async def test_connection_is_used_again_also_after_refusals() -> None:
    site = Site()
    async with served(app_of(site)) as url, connected(url) as line:
        for _ in range(2):
            await line.send(post(body()))
            assert (await line.response()).status == 204
            await line.send(post(body()[:-1]))
            assert (await line.response()).reason == "truncated"
            await line.send(get("/v1/nothing"))
            assert (await line.response()).status == 404
    assert len(site.models) == 2


async def test_requests_may_be_sent_ahead() -> None:
    site = Site()
    async with served(app_of(site)) as url, connected(url) as line:
        await line.send(post(body()) + post(body(reply=True)) + get("/v1/status") + post(body()))
        assert [(await line.response()).status for _ in range(4)] == [204, 200, 200, 204]
    assert len(site.models) == 3


async def test_request_may_come_byte_by_byte() -> None:
    async with served(app_of(Site())) as url, connected(url) as line:
        for data in (post(body()), POST_CHUNKED + chunked(body()) + b"0\r\n\r\n"):
            for start in range(0, len(data), 1):
                await line.send(data[start : start + 1])
            assert (await line.response()).status == 204


async def test_body_may_be_chunked() -> None:
    site = Site()
    data = body()
    async with served(app_of(site)) as url, connected(url) as line:
        await line.send(POST_CHUNKED + chunked(data[:100]) + chunked(data[100:]) + b"0\r\n\r\n")
        assert (await line.response()).status == 204
        await line.send(get("/healthz"))
        assert (await line.response()).status == 200
    assert site.models[0][2] == len(data)


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 20, 25])
async def test_long_pieces_are_handed_on_in_slices(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courtesy, "SLICE", 10)
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.body", "body": memoryview(bytes(range(size))), "more_body": True})
        await send({"type": "http.response.body", "body": bytes(range(size))})

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    await courtesy.Slicing(app)({"type": "http"}, receive, send)
    assert b"".join(bytes(message["body"]) for message in sent) == 2 * bytes(range(size))
    assert max(len(message["body"]) for message in sent) <= 10
    assert [message.get("more_body", False) for message in sent] == [*[True] * (len(sent) - 1), False]


async def test_client_may_wait_for_permission_to_send() -> None:
    async with served(app_of(Site())) as url, connected(url) as line:
        data = body()
        await line.send(post(b"", length=len(data), extra=b"expect: 100-continue\r\n"))
        assert (await line.response()).status == 100
        await line.send(data)
        assert (await line.response()).status == 204


async def test_client_may_close_its_side_after_the_request() -> None:
    async with served(app_of(Site())) as url, connected(url) as line:
        await line.send(post(body(reply=True)))
        await line.stream.send_eof()
        assert (await line.response()).status == 200
        assert await line.ended()


async def test_body_that_nobody_asked_for_is_skipped() -> None:
    """More of it than the queue and the sockets between client and application can hold."""
    async with served(app_of(Site())) as url, connected(url) as line:
        for _ in range(2):
            await line.send(get("/v1/status", b"content-length: 20000000\r\n") + bytes(20_000_000))
            assert (await line.response()).status == 200
        await line.send(get("/healthz"))
        assert (await line.response()).status == 200


@pytest.mark.parametrize(
    "offer",
    [
        b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
        b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ],
    ids=["h2c", "websocket"],
)
async def test_other_protocols_are_not_spoken(offer: bytes) -> None:
    async with served(app_of(Site())) as url, connected(url) as line:
        for _ in range(2):
            await line.send(get("/healthz", offer))
            assert (await line.response()).status == 200


# ---- hostile bytes ----

NOT_HTTP = {
    "garbage": b"\x00\xff\xfe garbage\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "no version": b"GET /healthz\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
    "bad header": b"GET /healthz HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n",
    "spaces in target": b"GET /health z HTTP/1.1\r\nhost: x\r\n\r\n",
    "bytes in target": b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
    "two lengths": b"POST /v1/exchange HTTP/1.1\r\n"
    + FORM
    + b"content-length: 1\r\ncontent-length: 2\r\n\r\n",
    "negative length": b"POST /v1/exchange HTTP/1.1\r\n" + FORM + b"content-length: -1\r\n\r\n",
    "huge length": b"POST /v1/exchange HTTP/1.1\r\n" + FORM + b"content-length: " + b"9" * 30 + b"\r\n\r\n",
    "endless line": b"GET /" + b"a" * 40_000,
    "endless headers": b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 6_000,
    "unknown encoding": b"POST /v1/exchange HTTP/1.1\r\n" + FORM + b"transfer-encoding: gzip\r\n\r\n",
}


@pytest.mark.parametrize("data", NOT_HTTP.values(), ids=NOT_HTTP)
async def test_what_is_not_http_is_refused_and_counted(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    with silent(caplog):
        async with served(app_of(site)) as url:
            async with connected(url) as line:
                await line.send(data)
                response = await line.response()
                assert 400 <= response.status < 600
                assert response.reason == "malformed"
                assert await line.ended()
            assert [(error.reason, source) for error, source, _ in site.rejected] == [
                ("malformed", "127.0.0.1")
            ]
            await still_answers(url)


HOSTILE_BODIES: dict[str, tuple[bytes, int, str]] = {
    "announced too large": (post(b"", length=10**12), 413, "too-large"),
    "json": (post(b"{}").replace(b"msgpack", b"json"), 415, "unknown-codec"),
    "gzip": (post(body(), extra=b"content-encoding: gzip\r\n"), 415, "unknown-codec"),
    "not a frame": (post(b"hello, world"), 400, "malformed"),
    "empty": (post(b""), 400, "truncated"),
    "a frame and more": (post(body() + b"x"), 400, "malformed"),
    "hello for a model": (post(hello_body()), 400, "wrong-kind"),
    "model for a hello": (post(body(), "/v1/membership"), 400, "wrong-kind"),
    "wrong method": (b"PUT" + post(body())[4:], 405, "wrong-method"),
    "wrong path": (post(body(), "/v2/exchange"), 404, "no-such-route"),
}


@pytest.mark.parametrize(("data", "status", "reason"), HOSTILE_BODIES.values(), ids=HOSTILE_BODIES)
async def test_hostile_request_is_refused_and_counted(
    data: bytes, status: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site()
    with silent(caplog):
        async with served(app_of(site)) as url:
            async with connected(url) as line:
                await line.send(data)
                response = await line.response()
                assert (response.status, response.reason, site.reasons) == (status, reason, [reason])
            await still_answers(url)


async def test_refusal_arrives_though_the_client_sends_on() -> None:
    """A reset would destroy the answer; 20 MB do not fit into the buffers in between."""
    site = Site()
    async with served(app_of(site)) as url:
        for request in (
            post(bytes(20_000_000)),
            POST_CHUNKED + chunked(bytes(20_000_000)) + b"0\r\n\r\n",
        ):
            async with connected(url) as line:
                await line.send(request)
                assert (await line.response()).headers["connection"] == "close"
                assert await line.ended()
        await still_answers(url)
    assert site.reasons == ["too-large", "malformed"]


async def test_sender_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays flat and the connection ends, though nobody reads what comes."""
    monkeypatch.setattr(courtesy, "LINGER_BYTES", 1 << 20)
    site = Site()
    piece = chunked(bytes(1 << 16))
    async with served(app_of(site)) as url:
        await still_answers(url)  # whatever is loaded late is loaded
        tracemalloc.start()
        try:
            async with connected(url) as line:
                await line.send(POST_CHUNKED)
                with contextlib.suppress(trio.BrokenResourceError):
                    while True:
                        await line.send(piece)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        await still_answers(url)
    assert site.reasons == ["malformed"]
    assert peak < 8 << 20


@pytest.mark.parametrize(
    "data",
    [
        post(body()[:-10], length=len(body())),
        POST_CHUNKED + chunked(body()[:-10]),
        POST_CHUNKED + chunked(body()[:-10]) + b"nonsense\r\n",
    ],
    ids=["with length", "chunked", "garbage between chunks"],
)
async def test_body_that_breaks_off(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    site = Watched()
    with silent(caplog):
        async with served(app_of(site)) as url:
            async with connected(url) as line:
                await line.send(data)
                await line.stream.send_eof()
                response = await line.response()
                assert (response.status, response.reason) == (400, "truncated")
                assert await line.ended()
            with trio.fail_after(20):
                await site.refusal.wait()
            assert site.reasons == ["truncated"]
            await still_answers(url)


async def test_client_that_vanishes_inside_the_body(caplog: pytest.LogCaptureFixture) -> None:
    site = Watched()
    with silent(caplog):
        async with served(app_of(site)) as url:
            async with connected(url) as line:
                await line.send(post(body()[:-10], length=len(body())))
            with trio.fail_after(20):
                await site.refusal.wait()
            await still_answers(url)
    assert site.reasons == ["truncated"]


async def test_client_that_vanishes_before_its_answer(caplog: pytest.LogCaptureFixture) -> None:
    arrived, release, done = trio.Event(), trio.Event(), trio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        arrived.set()
        await release.wait()
        await app_of(Site(layout=BIG))(scope, receive, send)
        done.set()

    with silent(caplog):
        async with served(slow) as url:
            async with connected(url) as line:
                await line.send(get("/v1/model"))
                await arrived.wait()
            release.set()
            with trio.fail_after(20):
                await done.wait()


async def test_slow_body_is_given_up() -> None:
    site = Site()
    async with served(app_of(site, body_timeout=0.0)) as url, connected(url) as line:
        await line.send(post(body()[:50], length=len(body())))  # and then nothing
        response = await line.response()
        assert (response.status, response.reason, site.reasons) == (408, "too-slow", ["too-slow"])


async def test_slow_request_head_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE", 0.01)
    async with served(app_of(Site())) as url:
        for start in (b"", b"GET /healthz HT"):
            async with connected(url) as line:
                await line.send(start)
                assert await line.ended()


async def test_client_that_takes_no_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STALLED", 0.01)
    site = Site(layout=BIG)
    async with served(app_of(site)) as url, connected(url) as line:
        ended = False
        with trio.fail_after(20):
            while not ended:
                try:
                    await line.send(get("/v1/model"))
                except trio.BrokenResourceError:
                    ended = True


async def test_many_bodies_at_once_are_limited_and_other_requests_go_on() -> None:
    site = Site()
    async with served(app_of(site, max_streams=8)) as url, trio.open_nursery() as nursery:
        statuses: list[int] = []
        first_half, second_half = body()[:100], body()[100:]
        held: list[Line] = []
        all_held, release = trio.Event(), trio.Event()

        async def hold() -> None:
            async with connected(url) as line:
                await line.send(post(first_half, length=len(body())))
                await line.send(b"")
                held.append(line)
                if len(held) == 4:
                    all_held.set()
                await release.wait()
                await line.send(second_half)
                statuses.append((await line.response()).status)

        for _ in range(4):
            nursery.start_soon(hold)
        await all_held.wait()
        await trio.testing.wait_all_tasks_blocked(0.01)  # until the server has read those halves
        for _ in range(10):
            async with connected(url) as line:
                await line.send(post(body()))
                response = await line.response()
                assert (response.status, response.reason) == (503, "busy")
        await still_answers(url)
        release.set()
    assert statuses == [204] * 4
    assert site.reasons == ["busy"] * 10


async def test_connections_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(server, "RESERVED_CONNECTIONS", 0)
    async with served(app_of(Site())) as url:
        async with connected(url) as line:
            await line.send(get("/healthz"))
            assert (await line.response()).status == 200
            async with connected(url) as other:
                assert (await other.response()).status == 503
                assert await other.ended()
            await line.send(get("/healthz"))
            assert (await line.response()).status == 200
            await line.stream.send_eof()
            assert await line.ended()
        await still_answers(url)


async def test_broken_application_breaks_one_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    inner = app_of(Site())

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/v1/model":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
            raise ZeroDivisionError
        await inner(scope, receive, send)

    async with served(broken) as url:
        async with connected(url) as line:
            await line.send(get("/v1/model"))
            assert (await line.stream.receive_some()).startswith(b"HTTP/1.1 200")
            assert await line.ended()
        await still_answers(url)
    assert "ZeroDivisionError" in caplog.text


# ---- the end ----


async def idle(line: Line) -> None:
    await line.send(get("/healthz"))
    await line.response()


async def silence(line: Line) -> None:
    """Connected, and never a word."""


async def inside_a_body(line: Line) -> None:
    await line.send(post(body()[:50], length=len(body())))


async def inside_an_unwanted_body(line: Line) -> None:
    await line.send(post(b"x" * 1000, "/v1/nothing", length=10**6))
    await line.response()


async def taking_no_answer(line: Line) -> None:
    for _ in range(8):
        await line.send(get("/v1/model"))


@asynccontextmanager
async def stopping(app: ASGIApp) -> AsyncIterator[tuple[str, trio.Event, trio.Event]]:
    """A server in a task of its own: (url, stop, stopped)."""
    stop, stopped = trio.Event(), trio.Event()

    async def serve(*, task_status: trio.TaskStatus[str]) -> None:
        async with served(app) as url:
            task_status.started(url)
            await stop.wait()
        stopped.set()

    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve), stop, stopped
        stop.set()


@pytest.mark.parametrize(
    "behave",
    [idle, silence, inside_a_body, inside_an_unwanted_body, taking_no_answer],
    ids=lambda f: f.__name__,
)
async def test_shutdown_waits_for_no_client(
    behave: Callable[[Line], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(server, "GRACE", 0.01)
    with silent(caplog):
        async with stopping(app_of(Site(layout=BIG))) as (url, stop, stopped), connected(url) as line:
            await behave(line)
            await trio.testing.wait_all_tasks_blocked(0.01)
            stop.set()
            await stopped.wait()


async def test_request_under_way_at_shutdown_is_answered() -> None:
    arrived, release = trio.Event(), trio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        arrived.set()
        await release.wait()
        await app_of(Site())(scope, receive, send)

    async with stopping(slow) as (url, stop, stopped), connected(url) as line:
        await line.send(get("/v1/model"))
        await arrived.wait()
        stop.set()
        await trio.testing.wait_all_tasks_blocked()
        release.set()
        assert (await line.response()).status == 200
        assert await line.ended()
        await stopped.wait()

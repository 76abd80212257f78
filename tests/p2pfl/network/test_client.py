"""The client and its TCP transport against servers that follow a script, byte by byte where it matters."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import httpx
import pytest
import trio
import trio.testing

from p2pfl import errors
from p2pfl.errors import BadAnswer, PeerError, Refused, TimedOut, Unreachable
from p2pfl.network import transport as transport_module
from p2pfl.network.client import PeerClient
from p2pfl.network.server import HttpNetwork
from p2pfl.network.transport import TcpTransport
from tests.p2pfl.gossip import hostile_frames
from tests.p2pfl.network.sites import BIG, LAYOUT, TASK, Site, app_of, body, frame, hello_body, served

Script = Callable[[trio.SocketStream], Awaitable[None]]
FORM = b"content-type: application/msgpack\r\n"


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[tuple[str, list[int]]]:
    """A server that runs `script` on each connection: its URL, and a list that grows with each connection."""
    connections: list[int] = []

    async def handle(stream: trio.SocketStream) -> None:
        connections.append(1)
        await script(stream)

    with trio.fail_after(20):  # against a hang only
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, handle, 0, host="127.0.0.1")
            [listener] = await nursery.start(serve)
            yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}", connections
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def client() -> AsyncIterator[PeerClient]:
    client = PeerClient(None, TASK, LAYOUT)
    try:
        yield client
    finally:
        await client.aclose()


async def request_head(stream: trio.SocketStream) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some()
        if not more:
            return b""
        data += more
    return data


def saying(*answers: bytes, close: bool = True) -> Script:
    """Answers the requests of one connection in turn; requests must fit into one piece."""

    async def script(stream: trio.SocketStream) -> None:
        for answer in answers:
            if not await request_head(stream):
                return
            await stream.send_all(answer)
        if not close:
            await trio.sleep_forever()

    return script


def answer(content: bytes, status: bytes = b"200 OK", headers: bytes = FORM) -> bytes:
    return b"HTTP/1.1 %s\r\n%scontent-length: %d\r\n\r\n%s" % (status, headers, len(content), content)


# ---- connections ----


async def test_connection_is_used_again() -> None:
    frame_answer = answer(body("bob"))
    script = saying(frame_answer, answer(b"", b"204 No Content", b""), frame_answer, close=False)
    async with scripted(script) as (url, connections), client() as peers:
        await peers.pull(url, None)
        assert (await peers.push(url, frame("ann"))).model is None
        await peers.pull(url, None)
    assert len(connections) == 1


@pytest.mark.parametrize(
    "first",
    [
        answer(body("bob"), headers=FORM + b"connection: close\r\n"),
        answer(body("bob")).replace(b"HTTP/1.1", b"HTTP/1.0"),
        b"HTTP/1.1 200 \r\n" + FORM + b"\r\n" + body("bob"),
        b"HTTP/1.1 304 \r\ncontent-length: 9\r\n\r\nunwelcome",
    ],
    ids=["close", "HTTP/1.0", "no length", "body where none may be"],
)
async def test_connection_is_not_used_again_after(first: bytes) -> None:
    texts = iter([first, answer(body("bob"))])

    async def one_each(stream: trio.SocketStream) -> None:
        await request_head(stream)
        await stream.send_all(next(texts))
        if b"-length" not in first:
            await stream.send_eof()  # which is the end of such an answer
        await stream.receive_some()  # would be another request

    async with scripted(one_each) as (url, connections), client() as peers:
        await peers.pull(url, None)
        assert (await peers.pull(url, None))[0].peer == "bob"
    assert len(connections) == 2


async def test_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    async with scripted(saying(answer(body("bob")))) as (url, connections), client() as peers:
        for _ in range(3):
            await peers.pull(url, None)
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert len(connections) == 3


async def test_connection_that_was_idle_for_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "IDLE", -1.0)
    script = saying(answer(body("bob")), answer(body("bob")), close=False)
    async with scripted(script) as (url, connections), client() as peers:
        await peers.pull(url, None)
        await peers.pull(url, None)
    assert len(connections) == 2


async def test_cancelled_request_leaves_no_connection_behind() -> None:
    ended = trio.Event()

    async def never(stream: trio.SocketStream) -> None:
        await request_head(stream)
        assert not await stream.receive_some()
        ended.set()

    async with scripted(never) as (url, _), client() as peers:
        with trio.move_on_after(0.01):
            await peers.pull(url, None)
        await ended.wait()


async def test_answer_may_be_chunked_and_preceded_by_an_informational_one() -> None:
    data = body("bob")
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:50], data[50:])) + b"0\r\n\r\n"
    text = (
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n" + FORM + b"transfer-encoding: chunked\r\n\r\n"
    )
    async with scripted(saying(text + chunks)) as (url, _), client() as peers:
        reply, etag = await peers.pull(url, None)
    assert (reply.peer, reply.received, etag) == ("bob", len(data), None)


async def test_answer_may_come_byte_by_byte() -> None:
    async def dribble(stream: trio.SocketStream) -> None:
        await request_head(stream)
        text = answer(body("bob"), headers=FORM + b'etag: "3"\r\n')
        for start in range(len(text)):
            await stream.send_all(text[start : start + 1])

    async with scripted(dribble) as (url, _), client() as peers:
        reply, etag = await peers.pull(url, None)
    assert (reply.peer, etag) == ("bob", '"3"')


# ---- failures ----

BROKEN = {
    "nothing": (b"", BadAnswer),
    "not http": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", BadAnswer),
    "half a head": (b"HTTP/1.1 200 OK\r\ncont", BadAnswer),
    "endless head": (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 10_000, BadAnswer),
    "half an answer": (answer(body("bob"))[:-5], BadAnswer),
    "longer than announced": (answer(body("bob")) + b"xyz", BadAnswer),
    "bad chunk": (b"HTTP/1.1 200 OK\r\n" + FORM + b"transfer-encoding: chunked\r\n\r\nzz\r\n", BadAnswer),
    "bad length": (b"HTTP/1.1 200 OK\r\n" + FORM + b"content-length: x\r\n\r\n", BadAnswer),
    "switching protocols": (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", BadAnswer),
    "redirect": (answer(b"", b"307 Temporary", b"location: http://192.0.2.1/\r\n"), BadAnswer),
    "web page": (answer(b"<html>", headers=b"content-type: text/html\r\n"), BadAnswer),
    "not a node": (answer(b"Not Found", b"404 Not Found", b"content-type: text/plain\r\n"), BadAnswer),
    "json, not ours": (answer(b'{"type": "about:blank"}', b"403 Forbidden"), BadAnswer),
    "json bomb": (answer(b"[" * 60_000, b"400 Bad"), BadAnswer),
    "endless problem": (answer(b" " * 100_000, b"400 Bad"), BadAnswer),
    "no frame": (answer(b"hello"), errors.Malformed),
    "frame and more": (answer(body("bob") + b"more"), errors.Malformed),
    "half a frame": (answer(body("bob")[:-9]), errors.Truncated),
}


@pytest.mark.parametrize(("text", "expected"), BROKEN.values(), ids=BROKEN)
async def test_broken_answer(text: bytes, expected: type[PeerError]) -> None:
    async with scripted(saying(text)) as (url, _), client() as peers:
        with pytest.raises(expected) as caught:
            await peers.pull(url, None)
        with pytest.raises(PeerError):
            await peers.push(url, frame("ann"))
        with pytest.raises(PeerError):
            await peers.hello(url, hello_body("ann"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


async def test_hostile_replies_are_refused_by_name() -> None:
    frames = hostile_frames.model_frames(TASK, LAYOUT)
    texts = iter([answer(hostile.body, headers=FORM + b"connection: close\r\n") for hostile in frames])

    async def script(stream: trio.SocketStream) -> None:
        await request_head(stream)
        with contextlib.suppress(trio.BrokenResourceError):  # when the client has seen enough
            await stream.send_all(next(texts))

    async with scripted(script) as (url, _), client() as peers:
        for hostile in frames:
            with pytest.raises(hostile.error):
                await peers.pull(url, None)


async def test_reply_of_another_kind_is_refused() -> None:
    async with scripted(saying(answer(hello_body("bob")))) as (url, _), client() as peers:
        with pytest.raises(errors.WrongKind):
            await peers.pull(url, None)
    async with scripted(saying(answer(body("bob")))) as (url, _), client() as peers:
        with pytest.raises(errors.WrongKind):
            await peers.hello(url, hello_body("ann"))


async def test_long_hello_is_refused() -> None:
    async with scripted(saying(answer(bytes(70_000)))) as (url, _), client() as peers:
        with pytest.raises(errors.TooLarge):
            await peers.hello(url, hello_body("ann"))


async def test_refusal_has_the_peers_reason_on_one_clean_line() -> None:
    document = {"type": "urn:p2pfl:wrong-task", "detail": "name is 'a'\n here\x1b[2J" + "x" * 1000}
    text = answer(
        json.dumps(document).encode(), b"409 Conflict", b"content-type: application/problem+json\r\n"
    )
    async with scripted(saying(text)) as (url, _), client() as peers:
        with pytest.raises(Refused) as caught:
            await peers.pull(url, None)
    assert (caught.value.cause, caught.value.http_status) == ("wrong-task", 409)
    assert str(caught.value).startswith(f"{url} refused: name is 'a' here [2Jxxx")
    assert len(str(caught.value)) < 400


async def test_refusal_is_read_though_the_body_was_not_taken() -> None:
    """The server answers and closes its side before the 4 MB are through, without a reset."""

    async def script(stream: trio.SocketStream) -> None:
        await request_head(stream)
        document = b'{"type": "urn:p2pfl:wrong-layout", "detail": "another model"}'
        await stream.send_all(answer(document, b"409 Conflict"))
        await stream.send_eof()
        while await stream.receive_some():
            pass

    async with scripted(script) as (url, _), client() as peers:
        with pytest.raises(Refused, match="another model"):
            await peers.push(url, frame("ann", layout=BIG))


async def test_reset_inside_the_request_is_indefinite() -> None:
    async def script(stream: trio.SocketStream) -> None:
        await request_head(stream)  # and close, with unread bytes in the buffer

    async with scripted(script) as (url, _), client() as peers:
        with pytest.raises((TimedOut, BadAnswer)):
            await peers.push(url, frame("ann", layout=BIG))


async def test_name_of_a_snapshot_must_be_sendable() -> None:
    for etag in (b"x" * 300, b"caf\xe9"):
        script = saying(answer(body("bob"), headers=FORM + b"etag: " + etag + b"\r\n"))
        async with scripted(script) as (url, _), client() as peers:
            assert (await peers.pull(url, None))[1] is None


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "ftp://127.0.0.1:8470", "http://", "http://127.0.0.1:99999", "http://[::1", "http://\x00:1",
     "http://a..b:8470", f"http://{'a' * 64}.test:8470", "http://x\r\ny:8470"],
)  # fmt: skip
async def test_address_that_cannot_be_called(url: str) -> None:
    async with client() as peers:
        with pytest.raises(Unreachable) as caught:
            await peers.pull(url, None)
    assert "\n" not in str(caught.value)


async def test_https_address_of_a_plain_server_is_unreachable() -> None:
    async with served(app_of(Site())) as url, client() as peers:
        with pytest.raises(Unreachable):
            await peers.pull(url.replace("http:", "https:"), None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx.ConnectError("x"), Unreachable),
        (httpx.ConnectTimeout("x"), Unreachable),
        (httpx.PoolTimeout("x"), Unreachable),
        (httpx.UnsupportedProtocol("x"), Unreachable),
        (httpx.LocalProtocolError("x"), Unreachable),
        (httpx.ReadError(""), TimedOut),
        (httpx.WriteError("x"), TimedOut),
        (httpx.ReadTimeout("x"), TimedOut),
        (httpx.CloseError("x"), TimedOut),
        (httpx.RemoteProtocolError("x"), BadAnswer),
        (httpx.DecodingError("x"), BadAnswer),
    ],
)
async def test_every_failure_of_a_transport_has_a_meaning(
    error: httpx.HTTPError, expected: type[PeerError]
) -> None:
    class Failing(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise error

    with pytest.raises(expected):
        await PeerClient(Failing(), TASK, LAYOUT).pull("http://192.0.2.1:8470", None)


async def test_calls_come_from_the_address_that_was_asked_for() -> None:
    site = Site()
    async with served(app_of(site)) as url:
        network = HttpNetwork("127.0.0.1:0", "127.3.2.1")
        client = PeerClient(network.transport(), TASK, LAYOUT)
        await client.hello(url, hello_body("ann"))
        await client.aclose()
    assert [source for _, source, _ in site.hellos] == ["127.3.2.1"]


async def test_a_connection_that_is_reset_before_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may have accepted it, and the other side's program reset it, before we go on."""
    connect = trio.open_tcp_stream

    async def connect_too_late(*args: object, **values: object) -> trio.SocketStream:
        stream = await connect(*args, **values)  # type: ignore[arg-type]
        await trio.testing.wait_all_tasks_blocked()
        return stream

    async def reset(stream: trio.SocketStream) -> None:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.socket.close()

    monkeypatch.setattr(trio, "open_tcp_stream", connect_too_late)
    async with scripted(reset) as (url, _), client() as asking:
        with pytest.raises(PeerError, match=r"(not connected|reset)"):
            await asking.pull(url, None)


async def test_no_call_can_be_made_from_an_address_of_others() -> None:
    async with served(app_of(Site())) as url:
        client = PeerClient(TcpTransport(call_from="192.0.2.1"), TASK, LAYOUT)
        with pytest.raises(Unreachable, match=r"192\.0\.2\.1"):
            await client.pull(url, None)


async def test_transport_serves_other_clients_too() -> None:
    async with (
        served(app_of(Site())) as url,
        httpx.AsyncClient(transport=TcpTransport(), trust_env=False) as browser,
    ):
        assert (await browser.get(f"{url}/v1/status?x=1")).json()["round"] == 3
        assert (await browser.post(f"{url}/v1/exchange", json={})).status_code == 415


# ---- being left alone ----


def busy(more: bytes, status: bytes = b"503 Service Unavailable", content: bytes | None = None) -> bytes:
    document = json.dumps({"type": "urn:p2pfl:busy", "detail": "later"}).encode()
    return answer(document if content is None else content, status, more)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (b"retry-after: 7\r\n", 7.0),
        (b"Retry-After: 0\r\n", 0.0),
        (b"", None),
        (b"retry-after: soon\r\n", None),
        (b"retry-after: -1\r\n", None),
        (b"retry-after: 99999999999999999999\r\n", None),
        (b"retry-after: Fri, 31 Dec 1999 23:59:59 GMT\r\n", None),
    ],
)
async def test_a_peer_says_how_long_to_leave_it_alone(header: bytes, seconds: float | None) -> None:
    async with scripted(saying(busy(header))) as (url, _), client() as peers:
        with pytest.raises(Refused) as caught:
            await peers.push(url, frame("ann"))
    assert (caught.value.cause, caught.value.retry_after) == ("busy", seconds)


@pytest.mark.parametrize("status", [b"429 Too Many Requests", b"503 Service Unavailable"])
async def test_what_stands_in_front_of_a_node_may_say_so_too(status: bytes) -> None:
    """A proxy that has never heard of problem documents."""
    page = busy(b"retry-after: 3\r\ncontent-type: text/html\r\n", status, b"<html>later</html>")
    async with scripted(saying(page)) as (url, _), client() as peers:
        with pytest.raises(Refused) as caught:
            await peers.push(url, frame("ann"))
    assert (caught.value.cause, caught.value.retry_after) == ("busy", 3.0)

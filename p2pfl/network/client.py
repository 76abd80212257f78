"""HTTP out: what a node asks of others. No deadline in here: callers wrap calls in `clock.deadline()`.

It speaks to an `httpx.AsyncBaseTransport` without an `httpx.AsyncClient` in between: a node wants none of
a browser's cookies (which any peer could set), redirects and authentication, and they would cost 70 us of
the 250 us that an exchange takes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import httpx

from p2pfl.errors import BadAnswer, Busy, PeerError, Refused, TimedOut, TooLarge, Unreachable
from p2pfl.gossip.codec import MAX_HELLO, MEDIA_TYPE, ModelDecoder, decode_hello, imprint, pull_header
from p2pfl.gossip.messages import Hello, Layout, Model, ModelHead, Task
from p2pfl.network import problems
from p2pfl.network.transport import TcpTransport

T = TypeVar("T")

Admit = Callable[[Hello | ModelHead, bytes], None]
"""Of an answer's head and the imprint of what was asked: raises a FrameError if it is not to be taken."""

_FORM = ("content-type", MEDIA_TYPE)
_ACCEPT = ("accept", MEDIA_TYPE)
PULL_HEADER = "p2pfl-pull"


@dataclass(frozen=True)
class Reply:
    """What came back. peer: its id, "" if it did not say. sent, received: bytes of the two bodies.

    source: the address that answered, as requests from there would show it.
    """

    peer: str
    source: str
    model: Model | None
    sent: int
    received: int


def anyone(message: Hello | ModelHead, asked: bytes) -> None:
    """Any answer is taken."""


class PeerClient:
    """Asks other nodes. transport: the network; None is the real one.

    Raises only PeerError: Unreachable, Refused, TimedOut or BadAnswer, or the FrameError of a reply that
    does not decode. Redirects are not followed.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport | None, task: Task, layout: Layout) -> None:
        self._transport = transport if transport is not None else TcpTransport()
        self._task = task
        self._layout = layout

    async def hello(self, url: str, body: bytes, admit: Admit = anyone) -> tuple[Hello, Reply]:
        """Say who we are and learn who is there. body: a hello frame."""
        answer = bytearray()

        def collect(chunk: bytes) -> None:
            answer.extend(chunk)
            if len(answer) > MAX_HELLO:
                raise TooLarge(f"{url} answers a hello with more than {MAX_HELLO} bytes")

        async def take(response: httpx.Response) -> str:
            _expect(url, response, 200)
            await _read(response, collect)
            return _source(response)

        source = await self._ask("POST", url, "/v1/membership", [_FORM], (body,), take)
        theirs = decode_hello(bytes(answer), self._task, self._layout)
        admit(theirs, imprint(body))
        return theirs, Reply(theirs.sender.id, source, None, len(body), len(answer))

    async def push(self, url: str, chunks: tuple[bytes, memoryview], admit: Admit = anyone) -> Reply:
        """Post a model frame; the reply has a model if the frame's head asked for one."""
        sent = sum(map(len, chunks))

        def admit_head(head: ModelHead) -> None:
            admit(head, imprint(chunks[0], weights=chunks[1].nbytes))

        async def take(response: httpx.Response) -> Reply:
            if response.status_code == 204:
                return Reply("", _source(response), None, sent, 0)
            _expect(url, response, 200)
            model, received = await self._model(response, admit_head)
            return Reply(model.head.sender.id, _source(response), model, sent, received)

        return await self._ask("POST", url, "/v1/exchange", [_FORM, _ACCEPT], chunks, take)

    async def pull(
        self, url: str, etag: str | None, asking: bytes | None = None, admit: Admit = anyone
    ) -> tuple[Reply, str | None]:
        """Get a node's model unless it is still the one named by `etag`; returns the new ETag too.

        asking: a pull frame that says who asks; the answer is for whoever it says, and for this request.
        """
        headers = [_ACCEPT] if etag is None else [_ACCEPT, ("if-none-match", etag)]
        if asking is not None:
            headers.append((PULL_HEADER, pull_header(asking)))

        def admit_head(head: ModelHead) -> None:
            admit(head, b"" if asking is None else imprint(asking))

        async def take(response: httpx.Response) -> tuple[Reply, str | None]:
            if response.status_code == 304:
                return Reply("", _source(response), None, 0, 0), etag
            _expect(url, response, 200)
            model, received = await self._model(response, admit_head)
            return Reply(model.head.sender.id, _source(response), model, 0, received), _etag(response)

        return await self._ask("GET", url, "/v1/model", headers, (), take)

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _model(self, response: httpx.Response, admit: Callable[[ModelHead], None]) -> tuple[Model, int]:
        """The frame in a response, hashed and checked while it arrives; and its size in bytes."""
        decoder = ModelDecoder(self._task, self._layout, admit)
        await _read(response, decoder.feed)
        return decoder.finish(), decoder.size

    async def _ask(
        self,
        method: str,
        url: str,
        path: str,
        headers: list[tuple[str, str]],
        chunks: tuple[bytes | memoryview, ...],
        take: Callable[[httpx.Response], Awaitable[T]],
    ) -> T:
        """One request; `take` reads the response's body. Refusals and failures become PeerErrors."""
        try:
            target, host = _target(url, path)
            headers = [("host", host), *headers]
            if chunks:
                headers.append(("content-length", str(sum(map(len, chunks)))))
            request = httpx.Request(method, target, headers=headers, stream=_Body(chunks))
            response = await self._transport.handle_async_request(request)
            try:
                if response.status_code >= 400:
                    raise await _refusal(url, response)
                return await take(response)
            finally:
                await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise _as_peer_error(url, error) from error


class _Body(httpx.AsyncByteStream):
    """A request's body as the chunks it is made of; can be sent once."""

    def __init__(self, chunks: tuple[bytes | memoryview, ...]) -> None:
        self._chunks = iter(chunks)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk  # type: ignore[return-value] # httpx says bytes; the transports in use take any buffer
        raise StopAsyncIteration


@functools.lru_cache(maxsize=16_384)
def _target(url: str, path: str) -> tuple[httpx.URL, str]:
    """(URL of a request, Host header); parsing costs 40 us. Peers are few but where many nodes are simulated:
    some 2 KiB for each of 8,000 nodes then."""
    base = httpx.URL(url)
    target = base.copy_with(path=base.path.rstrip("/") + path)
    return target, target.netloc.decode("ascii")


async def _read(response: httpx.Response, feed: Callable[[bytes], None]) -> None:
    stream = response.stream
    if not isinstance(stream, httpx.AsyncByteStream):
        raise TypeError("a transport for trio answers with an asynchronous stream")
    pieces = aiter(stream)
    try:
        async for piece in pieces:
            feed(piece)
    finally:
        if isinstance(pieces, AsyncGenerator):  # which wants to be closed if we have had enough
            await pieces.aclose()


def _expect(url: str, response: httpx.Response, status: int) -> None:
    """BadAnswer unless the response has this status and a node's media type."""
    if response.status_code != status:
        raise BadAnswer(f"{url} answered with status {response.status_code}, not {status}")
    kind = response.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise BadAnswer(
            f"{url} is not a p2pfl node: it answered with {problems.one_line(kind) or 'no media type'}"
        )


def _source(response: httpx.Response) -> str:
    """The address that answered, which the transport tells; "" from one that does not."""
    return str(response.extensions.get("peer", ""))


def _etag(response: httpx.Response) -> str | None:
    etag = response.headers.get("etag")
    # It is sent back to whoever chose it: short, and printable so that it is a legal header.
    return etag if etag is not None and len(etag) <= 256 and etag.isascii() and etag.isprintable() else None


async def _refusal(url: str, response: httpx.Response) -> PeerError:
    """What a 4xx or 5xx answer means."""
    body = bytearray()

    def collect(chunk: bytes) -> None:
        body.extend(chunk)
        if len(body) > problems.MAX_BYTES:
            raise BadAnswer(f"{url} answered status {response.status_code} with more than a problem document")

    await _read(response, collect)
    problem = problems.decode(bytes(body))
    wait = _retry_after(response)
    if problem is None and (wait is None or response.status_code not in (429, 503)):
        return BadAnswer(f"{url} is not a p2pfl node: it answered with status {response.status_code}")
    # Without a problem document: what stands in front of a node asks us to come back later.
    reason, detail = problem or (Busy.reason, "")
    return Refused(
        f"{url} refused: {detail or reason}", cause=reason, http_status=response.status_code, retry_after=wait
    )


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds for which a peer asks to be left alone; None if it does not, or names a date (by its clock)."""
    value = response.headers.get("retry-after", "")
    return float(value) if re.fullmatch(r"[0-9]{1,6}", value) else None


def _as_peer_error(url: str, error: Exception) -> PeerError:
    """httpx's errors as ours: was nothing delivered, is it unknown, or was the answer none?"""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return Unreachable(f"{url} cannot be reached: {_reason(error)}")
    if isinstance(
        error, httpx.InvalidURL | httpx.UnsupportedProtocol | httpx.LocalProtocolError | UnicodeError
    ):
        # UnicodeError: host names that no name service would take, as the idna package sees it.
        return Unreachable(f"{problems.one_line(url)} cannot be called: {_reason(error)}")
    if isinstance(error, httpx.NetworkError | httpx.TimeoutException):
        return TimedOut(f"{url} broke off: {_reason(error)}")
    return BadAnswer(f"{url} does not speak HTTP as it should: {_reason(error)}")


def _reason(error: Exception) -> str:
    return problems.one_line(str(error)) or type(error).__name__

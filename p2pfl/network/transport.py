"""The real network as seen by a client: an httpx transport over trio's TCP streams.

h11 has the protocol, but only sees heads: bodies whose length is announced pass by it. httpx's own transport
hands a 46.8 MB model through five layers and three copies in pieces of 64 KiB, which took twice the time.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import h11
import httpx
import trio

from p2pfl.network import tls
from p2pfl.network.tls_stream import TlsStream

RECEIVE = 128 * 1024
"""Bytes read from a socket at a time: few wake-ups for a model, and still in the CPU's cache."""
SMALL = 32 * 1024
"""Bytes up to which a request's head and body are sent as one."""
MAX_HEAD = 32 * 1024
"""Bytes of an answer's status line and headers."""
IDLE = 5.0
"""Seconds a connection is kept for the next request; less than a node's server keeps one."""

_Stream = trio.SocketStream | TlsStream


class TcpTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 with connections that are used again, not for HEAD. No time limits: callers have them.

    ssl_context: for https addresses; made when the first one is called if it is None.
    call_from: local address of all connections, as in NodeConfig.call_from. Where it is none (any more), or
    none from which a peer could be called, calls raise httpx.ConnectError.
    spend: told how many bytes went out or came in, heads and bodies, without what TLS adds.
    """

    def __init__(
        self,
        ssl_context: ssl.SSLContext | None = None,
        *,
        call_from: str | None = None,
        spend: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._spend = spend
        self._ssl_context = ssl_context
        self._call_from = call_from
        self._idle: list[_Connection] = []  # the longest idle first

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx.ConnectError if nothing was delivered; after another TransportError it may be."""
        origin = _Origin.of(request.url)
        connection = self._reuse(origin)
        if connection is None:
            connection = _Connection(origin, *await self._connect(origin), self._spend)
        try:
            response = await connection.request(request)
        except BaseException:
            await connection.close()
            raise
        return httpx.Response(
            response.status_code,
            headers=response.headers.raw_items(),
            stream=_Answer(self, connection, response),
            request=request,
            extensions={"peer": connection.peer},
        )

    async def aclose(self) -> None:
        while self._idle:
            await self._idle.pop().close()

    def _reuse(self, origin: _Origin) -> _Connection | None:
        """An idle connection to this origin; those that have waited too long are closed."""
        fresh, found = [], None
        for connection in self._idle:
            if connection.idle_since + IDLE < trio.current_time() or connection.is_readable():
                connection.close_now()
            elif found is None and connection.origin == origin:
                found = connection
            else:
                fresh.append(connection)
        self._idle = fresh
        return found

    def give_back(self, connection: _Connection) -> None:
        connection.idle_since = trio.current_time()
        self._idle.append(connection)

    async def _connect(self, origin: _Origin) -> tuple[_Stream, str]:
        """A connection and the address at its other end, as a server would show a client's."""
        try:
            stream = await trio.open_tcp_stream(origin.host, origin.port, local_address=self._call_from)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that no name service would take
            raise httpx.ConnectError(_cause(error)) from error
        try:
            for option in socket_options():
                stream.setsockopt(*option)
            peer = str(stream.socket.getpeername()[0])
        except OSError as error:  # the other end has reset it already
            stream.socket.close()
            raise httpx.ConnectError(_cause(error)) from error
        return await self._secured(stream, origin), peer

    async def _secured(self, stream: trio.SocketStream, origin: _Origin) -> _Stream:
        if not origin.secure:
            return stream
        if self._ssl_context is None:
            self._ssl_context = httpx.create_ssl_context()
        secure = TlsStream(stream, self._ssl_context, server_side=False, host=origin.host)
        try:
            await secure.handshake()
        except trio.BrokenResourceError as error:
            await trio.aclose_forcefully(secure)
            raise httpx.ConnectError(tls.explain(error.__cause__ or error) or _cause(error)) from error
        except BaseException:
            await trio.aclose_forcefully(secure)
            raise
        return secure


@dataclass(frozen=True)
class _Origin:
    secure: bool
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx.URL) -> _Origin:
        if url.scheme not in ("http", "https") or not url.host:
            raise httpx.UnsupportedProtocol("an address is http://HOST:PORT")
        secure = url.scheme == "https"
        return cls(secure, url.host, url.port or (443 if secure else 80))


class _Connection:
    """One TCP connection and the request on it. A new h11 object serves each request.

    peer: the address at the other end.  spend: told of bytes.
    """

    def __init__(self, origin: _Origin, stream: _Stream, peer: str, spend: Callable[[int], None]) -> None:
        self._spend = spend
        self.origin = origin
        self.idle_since = 0.0
        self._stream = stream
        self.peer = peer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._left: int | None = None  # bytes of the answer's body still to come; None: h11 finds its end
        self._rest = b""  # what came with the head of the answer

    async def request(self, request: httpx.Request) -> h11.Response:
        """Send a request and wait for the head of its answer."""
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        try:
            head = self._http.send(
                h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
            )
        except h11.LocalProtocolError as error:
            raise httpx.LocalProtocolError(str(error)) from error
        broken: Exception | None = None
        try:
            await self._send(head, request.stream)
        except trio.BrokenResourceError as error:
            broken = error  # perhaps it was refused before it was read to its end: there may be an answer
        try:
            while True:
                event = await self._event()
                if isinstance(event, h11.Response):
                    self._left = _announced_length(event)
                    self._rest = b"" if self._left is None else self._http.trailing_data[0]
                    return event
                if not isinstance(event, h11.InformationalResponse):
                    raise httpx.RemoteProtocolError("the connection was closed without an answer")
        except httpx.ConnectError:
            raise
        except httpx.TransportError:
            if broken is not None:
                raise httpx.WriteError("the connection was closed inside the request") from broken
            raise

    async def _send(self, head: bytes, body: object) -> None:
        if not isinstance(body, httpx.AsyncByteStream):
            raise TypeError("a request on trio has an asynchronous stream")
        start = head
        async for chunk in body:
            if len(start) + len(chunk) <= SMALL:
                start += chunk
                continue
            if start:
                await self._send_all(start)
                start = b""
            await self._send_all(chunk)
        if start:
            await self._send_all(start)

    async def _send_all(self, data: bytes) -> None:
        self._spend(len(data))
        await self._stream.send_all(data)

    async def piece(self) -> bytes:
        """The next piece of the answer's body; b"" at its end."""
        if self._left is None:
            event = await self._event()
            return bytes(event.data) if isinstance(event, h11.Data) else b""
        if not self._left:
            return b""
        piece, self._rest = self._rest or await self._receive(), b""
        if not piece:
            raise httpx.RemoteProtocolError("the connection was closed inside the answer")
        if len(piece) > self._left:
            raise httpx.RemoteProtocolError("the answer is longer than announced")
        self._left -= len(piece)
        return piece

    def is_reusable(self, response: h11.Response) -> bool:
        """The answer was read to its end, which was announced, and nothing came after it."""
        return self._left == 0 and not self._rest and _keeps_alive(response)

    async def _event(self) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._receive())
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error)) from error
        return event

    async def _receive(self) -> bytes:
        try:
            data = bytes(await self._stream.receive_some(RECEIVE))
            self._spend(len(data))
            return data
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            # With TLS 1.3 a server looks at our certificate when we take the handshake for done already.
            if "ALERT" in str(error.__cause__) and (meaning := tls.explain(error.__cause__ or error)):
                raise httpx.ConnectError(meaning) from error
            raise httpx.ReadError(_cause(error)) from error

    def is_readable(self) -> bool:
        """On an idle connection only its end can be read."""
        return self._stream.socket.is_readable()

    def close_now(self) -> None:
        self._stream.socket.close()

    async def close(self) -> None:
        await trio.aclose_forcefully(self._stream)


class _Answer(httpx.AsyncByteStream):
    """The body of an answer; its connection is used again if it was read to its end.

    Not an asynchronous generator: those complain when a reader has had enough.
    """

    def __init__(self, transport: TcpTransport, connection: _Connection, head: h11.Response) -> None:
        self._transport = transport
        self._connection = connection
        self._head = head
        self._open = True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._connection.piece()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        if not self._open:
            return
        self._open = False
        if self._connection.is_reusable(self._head):
            self._transport.give_back(self._connection)
        else:
            await self._connection.close()


def socket_options() -> Iterator[tuple[int, int, int]]:
    """Options for both ends of a connection.

    trio lets the kernel hold only 16 KiB that are not on their way yet, which suits many small streams; a
    model is one long write.
    """
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        yield socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 1 << 20


def _announced_length(response: h11.Response) -> int | None:
    """Bytes of an answer's body; None if only its end will tell."""
    if response.status_code in (204, 304):
        return 0
    length = None
    for name, value in response.headers:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            length = int(value)  # h11 has checked it
    return length


def _keeps_alive(response: h11.Response) -> bool:
    if response.http_version != b"1.1":
        return False
    return not any(name == b"connection" and b"close" in value.lower() for name, value in response.headers)


def _cause(error: BaseException) -> str:
    """The operating system's words for an error that trio wrapped, perhaps in a group of them."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(error)

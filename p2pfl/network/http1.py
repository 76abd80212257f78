"""One connection's HTTP/1.1: Hypercorn's protocol object, without what a node does not want of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import h11
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Event
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from p2pfl.errors import FrameError, Malformed, PeerError, Truncated
from p2pfl.network import problems

Address = tuple[str, int]
Report = Callable[[Address, PeerError], Awaitable[None]]
"""Called with a client and what was wrong when what came is not HTTP."""


class Http1(H11Protocol):
    """HTTP/1.1 and nothing else; refusals of what is not HTTP are problem documents and reported."""

    def __init__(
        self,
        app: ASGIWrapper,
        config: Config,
        context: WorkerContext,
        tasks: TaskGroup,
        state: ConnectionState,
        secure: bool,
        client: Address,
        server: Address,
        send: Callable[[Event], Awaitable[None]],
        report: Report,
    ) -> None:
        """state: goes into the scope of each request.  secure: the connection is TLS."""
        super().__init__(app, config, context, tasks, state, secure, client, server, send)
        self.connection = _Heads(config.h11_max_incomplete_size)  # type: ignore[assignment] # the same interface
        self._report = report

    async def _check_protocol(self, event: h11.Request) -> None:
        """No HTTP/2, whatever the client offers."""

    async def _create_stream(self, request: h11.Request) -> None:
        """No WebSocket either: an offer to switch protocols may be ignored (RFC 9110, 7.8)."""
        headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
        plain = h11.Request(
            method=request.method, target=request.target, headers=headers, http_version=request.http_version
        )
        await super()._create_stream(plain)

    async def _send_error_response(self, status_code: int) -> None:
        """What came is not HTTP. Inside a body the application counts it (as truncated), else it is told."""
        if self.stream is None:
            reason, detail = Malformed.reason, "this is not an HTTP/1.1 request"
            if self.client is not None:
                await self._report(self.client, Malformed(detail))
        else:
            reason, detail = Truncated.reason, "the body ends before its announced end"
        document = problems.encode(reason, status_code, detail)
        headers = [
            (b"content-type", problems.MEDIA_TYPE.encode()),
            (b"content-length", b"%d" % len(document)),
            (b"connection", b"close"),
        ]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=document))
        await self._send_h11_event(h11.EndOfMessage())


def refusal(error: PeerError) -> bytes:
    """All of an HTTP answer that refuses, for a connection on which no request was read."""
    status = error.status if isinstance(error, FrameError) else 400
    document = problems.encode(error.reason, status, str(error))
    lines = [
        f"HTTP/1.1 {status} ",
        f"content-type: {problems.MEDIA_TYPE}",
        f"content-length: {len(document)}",
        *(f"retry-after: {seconds}" for seconds in problems.retry_after(error)),
        "connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + document


class _Heads:
    """An h11 connection, as far as Hypercorn uses it, in which bodies of announced length pass h11 by.

    h11 copies each byte of a body three times: a third of the time that receiving a big model takes.
    """

    def __init__(self, max_head: int) -> None:
        self._max_head = max_head
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=max_head)
        self._left: int | None = None  # bytes of the body still to come; None: h11 reads it, or there is none
        self._data = b""  # received, not yet handed on
        self._eof = False
        self._state: object = None  # the client's, while h11 does not know it

    @property
    def our_state(self) -> object:
        return self._h11.our_state

    @property
    def their_state(self) -> object:
        return self._h11.their_state if self._state is None else self._state

    @property
    def they_are_waiting_for_100_continue(self) -> bool:
        return self._h11.they_are_waiting_for_100_continue

    @property
    def trailing_data(self) -> tuple[bytes, bool]:
        return (self._data, self._eof) if self._left is not None else self._h11.trailing_data

    def send(self, event: h11.Event) -> bytes | None:
        return self._h11.send(event)

    def receive_data(self, data: bytes) -> None:
        """data: b"" at the client's end."""
        if self._left is None:
            self._h11.receive_data(data)
        elif data:
            self._data = self._data + data if self._data else data
        else:
            self._eof = True

    def next_event(self) -> object:
        if self._left is None:
            event = self._h11.next_event()
            if isinstance(event, h11.Request):
                self._begin(event)
            return event
        if self._state is h11.ERROR:
            raise h11.RemoteProtocolError("the client broke the protocol before")
        if self._left:
            if not self._data:
                if not self._eof:
                    return h11.NEED_DATA
                self._state = h11.ERROR
                raise h11.RemoteProtocolError("the connection was closed inside the body")
            piece = self._data[: self._left]
            self._data = self._data[len(piece) :]
            self._left -= len(piece)
            return h11.Data(data=piece)
        if self._state is not h11.DONE:
            self._state = h11.DONE
            return h11.EndOfMessage()
        if self._data:
            return h11.PAUSED
        return h11.ConnectionClosed() if self._eof else h11.NEED_DATA

    def start_next_cycle(self) -> None:
        """The answer is sent and the body was read: the next request may follow."""
        if self._left is None:
            self._h11.start_next_cycle()
            return
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=self._max_head)
        if self._data:
            self._h11.receive_data(self._data)
        if self._eof:
            self._h11.receive_data(b"")
        self._left, self._data, self._eof, self._state = None, b"", False, None

    def _begin(self, request: h11.Request) -> None:
        length = 0
        for name, value in request.headers:
            if name == b"transfer-encoding":
                return
            if name == b"content-length":
                length = int(value)  # h11 has checked it
        if length:
            self._left = length
            self._data, self._eof = self._h11.trailing_data
            self._state = h11.SEND_BODY

"""What travels in the simulated network: requests, responses and what a kernel sends by itself.

An `Exchange` is one request as its caller sees it; a `_Handling` is one delivery of it as the application
that answers sees it. Of a duplicated request there are two handlings, and the first answer is the answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import httpx
import trio

if TYPE_CHECKING:
    from netsim.bandwidth import Transmission
    from netsim.network import SimulatedHost

PORT = 8470
CALLER_PORT = 50_000  # one for all: nodes never tell connections apart

Chunk = bytes | memoryview
AsgiMessage = MutableMapping[str, Any]
AsgiApp = Callable[
    [AsgiMessage, Callable[[], Awaitable[AsgiMessage]], Callable[[AsgiMessage], Awaitable[None]]],
    Awaitable[None],
]


class Parcel:
    """Anything on its way. `arrive` is called at its time, unless a cut has taken it."""

    __slots__ = ("exchange", "receiver", "sender")

    def __init__(self, sender: SimulatedHost, receiver: SimulatedHost, exchange: Exchange) -> None:
        self.sender = sender
        self.receiver = receiver
        self.exchange = exchange

    def arrive(self) -> None:
        raise NotImplementedError

    def is_void(self) -> bool:
        """Nobody wants it sent any more; asked of those that a hung host has held back."""
        return False


class Failure(Parcel):
    """A refused or reset connection: the caller sees `error`."""

    __slots__ = ("error",)

    def __init__(self, exchange: Exchange, error: httpx.TransportError) -> None:
        super().__init__(exchange.receiver, exchange.caller, exchange)
        self.error = error

    def arrive(self) -> None:
        if self.receiver.hangs:
            self.receiver.hold(self)
        else:
            self.exchange.fail(self.error)


class Departure(Parcel):
    """The caller has given up and closed its connection."""

    __slots__ = ()

    def arrive(self) -> None:
        self.exchange.caller_left()


class Message(Parcel):
    """A request or a response: what is counted. size: bytes of its body.

    delay: seconds that it takes once its bytes are through.  flipped: see netsim.links.Delivery.
    transmission: while its bytes pass a limited link.
    """

    __slots__ = ("delay", "flipped", "size", "transmission")
    kind: ClassVar[str]

    def __init__(self, sender: SimulatedHost, receiver: SimulatedHost, exchange: Exchange, size: int) -> None:
        super().__init__(sender, receiver, exchange)
        self.size = size
        self.delay = 0.0
        self.flipped: float | None = None
        self.transmission: Transmission[Message] | None = None


class Request(Message):
    __slots__ = ()
    kind = "request"

    def arrive(self) -> None:
        """Start its handler, or refuse it if nobody listens."""
        host = self.receiver
        if not host.is_reachable():
            host.network.refused(self)
            self.exchange.refuse()
        elif host.hangs:
            host.hold(self)
        else:
            assert host.listener is not None
            app, nursery = host.listener
            host.network.delivered(self)
            nursery.start_soon(_Handling(self.exchange, self.flipped).run, app)

    def is_void(self) -> bool:
        return self.exchange.given_up


class Response(Message):
    __slots__ = ("chunks", "headers", "status")
    kind = "response"

    def __init__(
        self, exchange: Exchange, status: int, headers: list[tuple[bytes, bytes]], chunks: list[Chunk]
    ) -> None:
        super().__init__(exchange.receiver, exchange.caller, exchange, sum(map(len, chunks)))
        self.status = status
        self.headers = headers
        self.chunks = chunks

    def arrive(self) -> None:
        host, exchange = self.receiver, self.exchange
        if host.hangs:
            host.hold(self)
        elif exchange.given_up:
            host.network.lose(self, "down")
        elif exchange.is_settled():
            host.network.lose(self, "surplus")
        else:
            host.network.delivered(self)
            exchange.answer(self)


class Exchange:
    """One request of a host and what becomes of it: answered, refused, reset, or given up by its caller.

    given_up: the caller waits no longer.  under_way: its messages that are passing limited links.
    """

    __slots__ = (
        "_departed",
        "_error",
        "_response",
        "_task",
        "body",
        "caller",
        "given_up",
        "receiver",
        "request",
        "under_way",
    )  # fmt: skip

    def __init__(
        self, caller: SimulatedHost, receiver: SimulatedHost, request: httpx.Request, body: list[Chunk]
    ) -> None:
        self.caller = caller
        self.receiver = receiver
        self.request = request
        self.body = body
        self.given_up = False
        self.under_way: list[Message] = []
        self._task: trio.lowlevel.Task | None = None  # of the caller, while it waits
        self._response: Response | None = None
        self._error: httpx.TransportError | None = None
        self._departed = trio.Event()  # the receiver knows that the caller has given up

    # -- on the caller's side

    async def wait(self) -> Response:
        """Until the first answer or failure arrives; raises the failure."""
        # One task waits for one thing: trio's lowest level does it at half the price of an Event.
        self._task = trio.lowlevel.current_task()
        try:
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        finally:
            if self.given_up:
                self._give_up()
        # Handed over, not kept: either of them leads back here, and the cycle would hold a model's memory
        # until the garbage collector looks.
        response, self._response = self._response, None
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error
        assert response is not None
        return response

    def _abort(self, raise_cancel: object) -> trio.lowlevel.Abort:
        # Trio cancels tasks in the order of a set: nothing may be sent here, only in wait().
        self._task = None
        self.given_up = True
        return trio.lowlevel.Abort.SUCCEEDED

    def _give_up(self) -> None:
        network = self.caller.network
        for message in [message for message in self.under_way if message.sender is self.caller]:
            network.break_off(message)
        network.dispatch(Departure(self.caller, self.receiver, self))

    def is_settled(self) -> bool:
        return self._task is None

    def answer(self, response: Response) -> None:
        self._response = response
        self._settle()

    def fail(self, error: httpx.TransportError) -> None:
        if self._task is not None:
            self._error = error
            self._settle()

    def _settle(self) -> None:
        assert self._task is not None
        trio.lowlevel.reschedule(self._task)
        self._task = None

    # -- on the receiver's side

    def refuse(self) -> None:
        """Nobody listens: the caller sees it one latency from now."""
        where = self.request.url.netloc.decode()
        self.receiver.network.signal(Failure(self, httpx.ConnectError(f"nobody listens at {where}")))

    def reset(self) -> None:
        """The answering process has ended: the caller sees it one latency from now."""
        error = httpx.ReadError(f"{self.receiver.name} reset the connection")
        self.receiver.network.signal(Failure(self, error))

    def caller_left(self) -> None:
        """That the caller has given up is known here now."""
        self._departed.set()
        for message in list(self.under_way):
            self.receiver.network.break_off(message)

    def has_caller_left(self) -> bool:
        return self._departed.is_set()

    async def departure(self) -> None:
        """Wait until it is known here that the caller has given up."""
        await self._departed.wait()


class _Handling:
    """One delivery of a request, in the task that runs the application."""

    __slots__ = ("_answered", "_body", "_chunks", "_exchange", "_headers", "_read", "_status")

    def __init__(self, exchange: Exchange, flipped: float | None) -> None:
        self._exchange = exchange
        self._body = exchange.body if flipped is None else flip(exchange.body, flipped)
        self._read = 0  # chunks that the application has received
        self._answered = False
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._chunks: list[Chunk] = []

    async def run(self, app: AsgiApp) -> None:
        exchange = self._exchange
        request = exchange.request
        path, _, query = request.url.raw_path.partition(b"?")
        scope: AsgiMessage = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": request.url.path,
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "client": (exchange.caller.name, CALLER_PORT),
            "server": (exchange.receiver.name, PORT),
        }
        try:
            await app(scope, self._receive, self._send)
        finally:
            if not self._answered:
                self._answered = True
                exchange.reset()

    async def _receive(self) -> AsgiMessage:
        """ASGI's receive: the body's chunks, then the disconnection once the answer is out or unwanted."""
        body = self._body
        if self._read < len(body):
            self._read += 1
            more = self._read < len(body)
            return {"type": "http.request", "body": body[self._read - 1], "more_body": more}
        if not body and self._read == 0:
            self._read = 1
            return {"type": "http.request", "body": b"", "more_body": False}
        if not self._answered:
            await self._exchange.departure()
        return {"type": "http.disconnect"}

    async def _send(self, message: AsgiMessage) -> None:
        """ASGI's send: the response travels, whole, when its last chunk is there."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = list(message.get("headers", ()))
            return
        chunk = message.get("body", b"")
        if len(chunk) and self._exchange.request.method != "HEAD":
            self._chunks.append(chunk)
        if not message.get("more_body", False):
            self._answered = True
            response = Response(self._exchange, self._status, self._headers, self._chunks)
            response.sender.network.dispatch(response)


class Transport(httpx.AsyncBaseTransport):
    """One host's requests."""

    def __init__(self, host: SimulatedHost) -> None:
        self._host = host

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises ConnectError after a round trip if nobody listens, ReadError if the answering node dies.

        httpx's timeouts are not looked at: deadlines are the caller's cancel scopes. If the request or its
        answer is lost the caller waits for its own. A cancelled caller's request is delivered nevertheless,
        unless its bytes were still passing a limited link.
        """
        assert isinstance(request.stream, httpx.AsyncByteStream)
        body: list[Chunk] = [chunk async for chunk in request.stream]
        host = self._host
        receiver = host.network.find(request.url)
        exchange = Exchange(host, receiver or host, request, body)
        if receiver is None:
            host.network.dispatch(_NoSuchHost(host, host, exchange))
        else:
            host.network.dispatch(Request(host, receiver, exchange, sum(map(len, body))))
        response = await exchange.wait()
        chunks = response.chunks
        if response.flipped is not None:
            chunks = flip(chunks, response.flipped)
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Chunks(chunks),
            extensions={"peer": exchange.receiver.name},
        )


class _NoSuchHost(Parcel):
    """A request to an address that is no host's: as far as to ourselves, since there is no link to ask."""

    __slots__ = ()

    def arrive(self) -> None:
        self.exchange.refuse()


class _Chunks(httpx.AsyncByteStream):
    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk  # type: ignore[misc]  # httpx only measures, forwards and joins it


def flip(chunks: Sequence[Chunk], place: float) -> list[Chunk]:
    """The same body with one bit flipped, at this share of its bits; the chunk that has it is a copy."""
    bits = 8 * sum(map(len, chunks))
    where = min(int(place * bits), bits - 1)
    flipped: list[Chunk] = []
    for chunk in chunks:
        size = 8 * len(chunk)
        if 0 <= where < size:
            damaged = bytearray(chunk)
            damaged[where // 8] ^= 1 << where % 8
            chunk = bytes(damaged)
        where -= size
        flipped.append(chunk)
    return flipped

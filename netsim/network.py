"""The simulated network: httpx requests delivered to ASGI applications in virtual time.

Every message in flight, a request or a response, is one entry of one queue ordered by (time, sender, the
sender's sequence number); one task delivers them. A request's handler runs in the destination's nursery: the
caller's deadline does not end it, the destination's crash does. Bodies travel as the chunks they were given,
uncopied.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import numpy as np
import trio

from p2pfl.errors import ListenError, SimulationError

PORT = 8470
CALLER_PORT = 50_000  # one for all: nodes never tell connections apart

Chunk = bytes | memoryview
Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


class Links(Protocol):
    """What lies between the nodes."""

    def latency(self, sender: int, receiver: int) -> float:
        """Seconds that one message takes; asked once per message, in a repeatable order."""
        ...


@dataclass(frozen=True)
class UniformLinks:
    """The same latency between all: seconds x (1 +- jitter, uniform). rng: only a jitter above 0 needs it."""

    seconds: float = 0.02
    jitter: float = 0.0
    rng: np.random.Generator | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.seconds < math.inf and 0 <= self.jitter <= 1):
            raise ValueError(f"latency {self.seconds} must be 0 or more, jitter {self.jitter} in [0, 1]")
        if self.jitter and self.rng is None:
            raise ValueError("jitter needs a generator")

    def latency(self, sender: int, receiver: int) -> float:
        if not self.jitter or self.rng is None:
            return self.seconds
        return self.seconds * (1 + self.jitter * self.rng.uniform(-1, 1))


@dataclass
class Traffic:
    """What went from one node to another. messages: requests and responses.  bytes: of their bodies."""

    messages: int = 0
    requests: int = 0
    bytes: int = 0


def address(index: int) -> str:
    """Node 0 is 10.0.0.1, and so on."""
    number = index + 1
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


class SimulatedNetwork:
    """All nodes' network. Start run() in a nursery before any node."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._hosts: dict[str, SimulatedHost] = {}
        self._queue: list[tuple[float, int, int, Callable[[], None]]] = []
        self._alarm: trio.CancelScope | None = None
        self.traffic: dict[
            tuple[int, int], Traffic
        ] = {}  # (sender, receiver) -> sent, whether it arrived or not

    def host(self, index: int) -> SimulatedHost:
        """Node `index`'s network; the same object each time."""
        name = address(index)
        if name not in self._hosts:
            self._hosts[name] = SimulatedHost(self, index)
        return self._hosts[name]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver messages at their times, until cancelled."""
        task_status.started()
        while True:
            with trio.CancelScope(deadline=self._queue[0][0] if self._queue else math.inf) as self._alarm:
                await trio.sleep_forever()
            while self._queue and self._queue[0][0] <= trio.current_time():
                heapq.heappop(self._queue)[3]()

    def find(self, url: httpx.URL) -> SimulatedHost | None:
        """The host with that address, whether it listens or not."""
        return self._hosts.get(url.host) if url.scheme == "http" and url.port == PORT else None

    def post(self, sender: SimulatedHost, receiver: SimulatedHost, deliver: Callable[[], None]) -> None:
        """Call `deliver` one latency from now."""
        if self._alarm is None:
            raise SimulationError("the simulated network does not run")
        time = trio.current_time() + self._links.latency(sender.index, receiver.index)
        sender.sequence += 1
        heapq.heappush(self._queue, (time, sender.index, sender.sequence, deliver))
        if time < self._alarm.deadline:
            self._alarm.deadline = time

    def count(self, sender: SimulatedHost, receiver: SimulatedHost, size: int, requests: int) -> None:
        traffic = self.traffic.setdefault((sender.index, receiver.index), Traffic())
        traffic.messages += 1
        traffic.requests += requests
        traffic.bytes += size


class SimulatedHost:
    """One node's address: the network seam of a simulated node."""

    def __init__(self, network: SimulatedNetwork, index: int) -> None:
        self.network = network
        self.index = index
        self.name = address(index)
        self.url = f"http://{self.name}:{PORT}"
        self.sequence = 0  # messages sent so far
        self.listener: tuple[AsgiApp, trio.Nursery] | None = None

    def transport(self) -> httpx.AsyncBaseTransport:
        return _Transport(self)

    async def serve(
        self, app: AsgiApp, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Answer requests with `app` until cancelled; started(url).

        Cancelled, it ends the handlers that run, and their callers see the connection reset, as the kernel of
        a killed process does it. An exception from `app` ends the simulation: it is a bug of the application.
        ListenError if the address is served already.
        """
        if self.listener is not None:
            raise ListenError(f"{self.url} is served already")
        async with trio.open_nursery() as nursery:
            self.listener = (app, nursery)
            try:
                task_status.started(self.url)
                await trio.sleep_forever()
            finally:
                self.listener = None


class _Transport(httpx.AsyncBaseTransport):
    def __init__(self, host: SimulatedHost) -> None:
        self._host = host

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises ConnectError after a round trip if nobody listens, ReadError if the answering node dies.

        httpx's timeouts are not looked at: deadlines are the caller's cancel scopes. A cancelled caller's
        request is delivered nevertheless.
        """
        assert isinstance(request.stream, httpx.AsyncByteStream)
        body: list[Chunk] = [chunk async for chunk in request.stream]
        host = self._host
        receiver = host.network.find(request.url)
        exchange = _Exchange(host, receiver or host, request, body)
        if receiver is None:  # as far as to ourselves: there is no link to ask
            host.network.post(host, host, exchange.refuse)
        else:
            host.network.count(host, receiver, sum(map(len, body)), 1)
            host.network.post(host, receiver, exchange.deliver)
        await exchange.arrived.wait()
        if exchange.error is not None:
            raise exchange.error
        return httpx.Response(
            exchange.status,
            headers=exchange.headers,
            stream=_Chunks(exchange.reply),
            extensions={"peer": receiver.name if receiver else ""},
        )


class _Chunks(httpx.AsyncByteStream):
    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk  # type: ignore[misc]  # httpx only measures, forwards and joins it


class _Exchange:
    """One request and what becomes of it: in flight, in its handler, answered or reset, arrived."""

    def __init__(
        self, caller: SimulatedHost, receiver: SimulatedHost, request: httpx.Request, body: list[Chunk]
    ) -> None:
        self._caller = caller
        self._receiver = receiver
        self._request = request
        self._body = body
        self._read = 0  # chunks that the handler has received
        self._answered = False
        self.arrived = trio.Event()
        self.error: httpx.TransportError | None = None
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.reply: list[Chunk] = []

    def deliver(self) -> None:
        """The request arrives: start its handler, or refuse it if nobody listens."""
        if self._receiver.listener is None:
            self.refuse()
            return
        app, nursery = self._receiver.listener
        nursery.start_soon(self._handle, app)

    def refuse(self) -> None:
        """The request arrives where nobody listens."""
        self._fail(httpx.ConnectError(f"nobody listens at {self._request.url.netloc.decode()}"))

    async def _handle(self, app: AsgiApp) -> None:
        request = self._request
        path, _, query = request.url.raw_path.partition(b"?")
        scope: Message = {
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
            "client": (self._caller.name, CALLER_PORT),
            "server": (self._receiver.name, PORT),
        }
        try:
            await app(scope, self._receive, self._send)
        finally:
            if not self._answered:
                self._fail(httpx.ReadError(f"{self._receiver.name} reset the connection"))

    async def _receive(self) -> Message:
        """ASGI's receive: the body's chunks, then the disconnection once the answer is out."""
        if self._read < len(self._body):
            self._read += 1
            more = self._read < len(self._body)
            return {"type": "http.request", "body": self._body[self._read - 1], "more_body": more}
        if not self._body and self._read == 0:
            self._read = 1
            return {"type": "http.request", "body": b"", "more_body": False}
        if not self._answered:
            await trio.sleep_forever()  # that the caller has given up is not modelled
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        """ASGI's send: the response travels, whole, when its last chunk is there."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = list(message.get("headers", ()))
            return
        chunk = message.get("body", b"")
        if len(chunk) and self._request.method != "HEAD":
            self.reply.append(chunk)
        if not message.get("more_body", False):
            self._answered = True
            network = self._receiver.network
            network.count(self._receiver, self._caller, sum(map(len, self.reply)), 0)
            network.post(self._receiver, self._caller, self.arrived.set)

    def _fail(self, error: httpx.TransportError) -> None:
        """The caller sees `error` one latency from now."""
        self._answered = True
        self.error = error
        self._receiver.network.post(self._receiver, self._caller, self.arrived.set)

"""The real network of a node: Hypercorn's HTTP/1.1 on trio sockets of our own.

Hypercorn has the protocol (http1.py); sockets, limits and shutdown are ours. Its own server shields writes
from cancellation, so that a client that takes no answer would hold up the shutdown for ever, and sets it no
time limit. And a request body that the application does not read to its end would leave its connection
hanging (courtesy.py).
"""

from __future__ import annotations

import contextlib
import logging
import math
import ssl
from collections.abc import Callable

import httpx
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.types import ASGIApp

from p2pfl.clock import Clock
from p2pfl.config import parse_listen
from p2pfl.errors import Busy, HandshakeFailed, PeerError, PlainHttp, TooManyRequests
from p2pfl.network import http1, listening, tls
from p2pfl.network.budget import origin
from p2pfl.network.courtesy import Courteous, Slicing
from p2pfl.network.gate import CERTIFIED, RESERVED, Gate, report, requests_of
from p2pfl.network.hourly import HourlyBudget
from p2pfl.network.http1 import Http1
from p2pfl.network.presenting import PresentingTransport
from p2pfl.network.seats import Seat, Seats
from p2pfl.network.security import OPEN, Security
from p2pfl.network.splitting import Splitting
from p2pfl.network.tls_stream import TlsStream
from p2pfl.network.transport import RECEIVE, TcpTransport, socket_options

MAX_HEADERS = 16 * 1024
"""Bytes of a request line and its headers, of a chunk's header, of trailers."""
IDLE = 15.0
"""Seconds in which a new or idle connection must bring a whole request head; longer than clients keep one."""
HANDSHAKE = 10.0
"""Seconds that a TLS handshake may take."""
STALLED = 30.0
"""Seconds in which a client must take the next piece of its answer."""
GRACE = 0.5
"""Seconds that requests under way have at shutdown."""
MAX_CONNECTIONS = 512
"""Open connections, most of them idle; below the usual limit of 1,024 files."""
RESERVED_CONNECTIONS = 32
"""Of these, kept for people and tools who ask for a page while all others are taken."""
RESERVED_IDLE = 3.0
"""As IDLE, of those."""
ARRIVALS = 0.1
"""Connections that one address may open, for each request that it may make: each serves several."""

log = logging.getLogger(__name__)


class HttpNetwork:
    """The network seam of a real node. listen, call_from: as in NodeConfig.

    budget: of bytes, which all connections share; models that do not fit into it are refused. None: no limit.
    several: what is served has several nodes, each under a path of its own (mounts.py).
    """

    def __init__(
        self,
        listen: str,
        call_from: str | None = None,
        security: Security = OPEN,
        budget: HourlyBudget | None = None,
        *,
        several: bool = False,
    ) -> None:
        self._several = several
        self._budget = budget or HourlyBudget(0, trio.current_time)
        self._host, self._port = parse_listen(listen)
        self._call_from = call_from
        self._security = security

    def transport(self) -> httpx.AsyncBaseTransport | None:
        context = self._security.tls.client if self._security.tls else None
        tcp = TcpTransport(context, call_from=self._call_from, spend=self._budget.spend)
        return PresentingTransport(tcp, self._security)

    async def serve(
        self, app: ASGIApp, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled; reports its URL once connections are accepted. Raises ListenError.

        When cancelled it accepts no more, closes idle connections, gives requests under way GRACE seconds.
        """
        if self._call_from is not None:
            listening.check_own(self._call_from)
        listener = await listening.listen(self._host, self._port)
        self._security.warn_if_open(str(listener.socket.getsockname()[0]))
        async with listener, trio.open_nursery() as nursery:
            server = _Server(app, self._security, self._budget, self._several)
            connections = await nursery.start(server.hold)
            try:
                host = f"[{self._host}]" if ":" in self._host else self._host
                task_status.started(f"{self._security.scheme}://{host}:{listener.socket.getsockname()[1]}")
                await trio.serve_listeners(server.handle, [listener], handler_nursery=connections)
            finally:
                server.closing.set()


class _Server:
    """The connections of one HttpNetwork.serve()."""

    def __init__(self, app: ASGIApp, security: Security, budget: HourlyBudget, several: bool) -> None:
        self._spend = budget.spend
        self.closing = trio.Event()
        self._app = app
        self._tls = security.tls.server if security.tls else None
        self._clock = Clock()
        gate: ASGIApp = Gate(app, security, self._clock, budget)
        if several:
            gate = Splitting(gate)
        self._wrapped = ASGIWrapper(Courteous(Slicing(gate)))  # type: ignore[arg-type]
        self._config = _hypercorn_config()
        self._context = WorkerContext(None)
        self._arrivals = requests_of(security, ARRIVALS)
        self._seats = Seats(MAX_CONNECTIONS - RESERVED_CONNECTIONS, RESERVED_CONNECTIONS)
        self._connections: dict[_Connection, Seat] = {}  # in order of arrival

    async def hold(self, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """Hold the connections' nursery, beyond the end of what `serve` runs in, for a graceful end."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                task_status.started(nursery)
                await self.closing.wait()
                await self._context.terminated.set()
                for connection in self._connections:
                    connection.leave_if_idle()
                nursery.cancel_scope.deadline = trio.current_time() + GRACE

    async def handle(self, stream: trio.SocketStream) -> None:
        """One connection, to its end. Whatever happens to it, the others go on."""
        try:
            for option in socket_options():
                stream.setsockopt(*option)
            connection = _Connection(
                stream, self._wrapped, self._config, self._context, self._app, self._spend
            )
        except OSError:
            return  # it left before we could ask for its address
        source = origin(connection.client[0])
        refusal = self._refusal(source)
        seat = None if refusal else self._seats.take(source, self._longest_idle)
        if seat is None:
            error = refusal or Busy("all connections are taken; try again later")
            await connection.refuse(error, self._tls is None)
            return
        connection.keep_for_pages(seat.reserved)
        self._connections[connection] = seat
        try:
            if self._tls is None or await connection.secure(self._tls):
                await connection.run()
        except Exception:
            log.exception("connection failed client=%s", connection.client)
        finally:
            del self._connections[connection]
            seat.leave()

    def _refusal(self, source: str) -> TooManyRequests | None:
        """What is wrong with one more connection from this source."""
        now = self._clock.now()
        if wait := self._arrivals.wait(source, now):
            return TooManyRequests(
                f"{source} opens more connections than one address may; try again in {wait:.1f} s",
                retry_after=wait,
            )
        self._arrivals.spend(source, 1.0, now)
        return None

    def _longest_idle(self, reserved: bool) -> Seat | None:
        """End a connection, reserved or not, that waits for a request since longest; return its seat.

        Of those that are not reserved, of the source that has most: it has the others still.
        """
        idle = [
            (connection, seat)
            for connection, seat in self._connections.items()
            if seat.reserved == reserved and seat.is_taken and connection.is_idle
        ]
        if not idle:
            return None
        if not reserved:
            most = max(self._seats.held(seat.source) for _, seat in idle)
            idle = [(connection, seat) for connection, seat in idle if self._seats.held(seat.source) == most]
        connection, seat = min(idle, key=lambda pair: pair[0].idle_since or 0.0)
        connection.leave_if_idle()
        return seat


class _Connection:
    """One client's connection: bytes between its socket and Hypercorn's protocol object."""

    def __init__(
        self,
        stream: trio.SocketStream,
        app: ASGIWrapper,
        config: Config,
        context: WorkerContext,
        told: ASGIApp,
        spend: Callable[[int], None],
    ) -> None:
        """told: the application that is told of what is refused before it sees it.  spend: told of bytes."""
        self._spend = spend
        self._stream: trio.SocketStream | TlsStream = stream
        self._app = app
        self._config = config
        self._context = context
        self._told = told
        self._sending = trio.Lock()
        # Cancelled when the connection is idle for too long; no deadline while a request is under way.
        self._reading = trio.CancelScope()
        self._handshake = trio.CancelScope()
        self._leaving = False
        self._idle_seconds = IDLE
        self.idle_since: float | None = trio.current_time()  # None while a request is under way
        self._state = ConnectionState({})
        self.client: tuple[str, int] = stream.socket.getpeername()[:2]
        self._server: tuple[str, int] = stream.socket.getsockname()[:2]

    def keep_for_pages(self, reserved: bool) -> None:
        """reserved: only pages are answered on it, and only one."""
        self._idle_seconds = RESERVED_IDLE if reserved else IDLE
        self._state[RESERVED] = reserved

    @property
    def is_idle(self) -> bool:
        """It waits for a handshake or for the head of a request."""
        return self.idle_since is not None and not self._leaving

    async def refuse(self, error: PeerError, plainly: bool) -> None:
        """End a connection that has no seat. plainly: say why; over TLS that would cost a handshake."""
        await self._report(self.client, error)
        with trio.move_on_after(GRACE), _ignoring_loss():
            if plainly:
                await self._stream.send_all(http1.refusal(error))
        await self._stream.aclose()

    async def secure(self, context: ssl.SSLContext) -> bool:
        """TLS on the connection. False if the client does not agree: that is counted, and the end of it."""
        raw = self._stream
        assert isinstance(raw, trio.SocketStream)
        secure = TlsStream(raw, context, server_side=True)
        refusal: PeerError | None = None
        self._handshake.deadline = trio.current_time() + HANDSHAKE
        with self._handshake:
            try:
                await secure.handshake()
                self._stream = secure
                self._state[CERTIFIED] = secure.has_certificate
                return True
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                refusal = _handshake_error(error.__cause__ or error)
                if isinstance(refusal, PlainHttp):
                    await self._tell_plainly(raw, refusal)
        if refusal is None and not self._leaving:
            refusal = HandshakeFailed(f"the TLS handshake took longer than {HANDSHAKE:.0f} s")
        if refusal is not None:
            await self._report(self.client, refusal)
        await trio.aclose_forcefully(secure)
        return False

    async def _tell_plainly(self, raw: trio.SocketStream, refusal: PlainHttp) -> None:
        """Say in plain HTTP that only TLS is spoken here, or a person would see a connection that ends."""
        with _ignoring_loss():
            await raw.send_all(http1.refusal(refusal))
            await raw.send_eof()

    async def run(self) -> None:
        async with TaskGroup() as tasks:
            self._protocol = Http1(
                self._app,
                self._config,
                self._context,
                tasks,
                self._state,
                isinstance(self._stream, TlsStream),
                self.client,
                self._server,
                self._send,
                self._report,
            )
            self._reading.deadline = trio.current_time() + self._idle_seconds
            with self._reading:
                await self._read()
            if self._reading.cancelled_caught:
                await self._stream.aclose()
            await self._protocol.handle(Closed())
        await self._stream.aclose()

    async def _report(self, client: tuple[str, int], error: PeerError) -> None:
        """Tell the application of what it will not see."""
        await report(self._told, client, error)

    def leave_if_idle(self) -> None:
        self._leaving = True
        self._handshake.cancel()
        if self._reading.deadline < math.inf:
            self._reading.cancel()

    async def _read(self) -> None:
        while True:
            try:
                data = await self._stream.receive_some(RECEIVE)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            self._spend(len(data))
            await self._protocol.handle(RawData(bytes(data)))
            if not data:
                return

    async def _send(self, event: Event) -> None:
        """What Hypercorn has for the socket. Never raises for a lost client: reading notices that too."""
        if isinstance(event, RawData):
            if not event.data:
                return
            self._spend(len(event.data))
            async with self._sending:
                with trio.move_on_after(STALLED), _ignoring_loss():
                    await self._stream.send_all(event.data)
                    return
                # Part of the answer is lost, so the connection is.
                await self._stream.aclose()
        elif isinstance(event, Updated):
            now = trio.current_time()
            self.idle_since = now if event.idle else None
            self._reading.deadline = now + self._idle_seconds if event.idle else math.inf
        elif isinstance(event, Closed):
            with _ignoring_loss():
                if isinstance(self._stream, trio.SocketStream):  # TLS has no half-closed connections
                    await self._stream.send_eof()
            await self._stream.aclose()


class _ignoring_loss(contextlib.suppress):  # noqa: N801 - reads as a statement
    """The client has gone, or the connection was closed by another task: nothing left to do for it."""

    def __init__(self) -> None:
        super().__init__(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError)


def _hypercorn_config() -> Config:
    """Hypercorn's settings that its protocol object looks at; a name it does not know is a bug of ours."""
    config = Config()
    settings = {
        "accesslog": None,
        "errorlog": log,
        "h11_max_incomplete_size": MAX_HEADERS,
        "include_server_header": False,
        "keep_alive_max_requests": 1_000_000,
        "max_app_queue_size": 2,
    }
    for name, value in settings.items():
        if not hasattr(config, name):
            raise AttributeError(f"this Hypercorn has no setting {name!r}")
        setattr(config, name, value)
    return config


def _handshake_error(error: BaseException) -> PeerError:
    """Why a client and we did not agree on TLS."""
    if isinstance(error, ssl.SSLError) and error.reason in ("HTTP_REQUEST", "HTTPS_PROXY_REQUEST"):
        return PlainHttp("this node speaks TLS only; call https:// with --tls-cert, --tls-key and --tls-ca")
    return HandshakeFailed(f"no TLS: {tls.explain_client(error)}")

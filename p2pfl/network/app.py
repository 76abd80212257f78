"""HTTP in: the ASGI application of a node, the same on a real socket and in the simulator.

Routes are those of docs/protocol.md. Every handler is a coroutine: plain functions would run in threads,
which virtual time does not see. The hot routes are plain ASGI, without request and response objects.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2pfl.clock import Clock
from p2pfl.errors import Busy, FrameError, PeerError, TooLarge
from p2pfl.gossip.codec import (
    MAX_HELLO,
    MEDIA_TYPE,
    ModelDecoder,
    decode_hello,
    decode_pull,
    largest_model,
)
from p2pfl.gossip.messages import Pull
from p2pfl.network import assets, problems
from p2pfl.network.body import Body
from p2pfl.network.budget import origin
from p2pfl.network.operator_routes import CONTROLS, STOP, OperatorRoutes
from p2pfl.network.pages import Pages
from p2pfl.network.refusing import refuse, send_problem, send_refusal
from p2pfl.network.service import Chunks, Service
from p2pfl.network.shares import Shares
from p2pfl.network.stream import Events
from p2pfl.network.trying import Download, Predict

__all__ = ["REFUSED", "ASGIApp", "Service", "make_app", "send_refusal"]

REFUSED = "p2pfl.refused"
"""Scope type by which a server reports what it refused itself: {type, client, error}."""
SLOWEST = 50_000
"""Bytes a second that a body has to bring after body_timeout: a slow radio link."""
BODY_MEMORY = 512 * 1024 * 1024
"""Bytes that bodies being received may take together; big models are received, or sent, fewer at a time."""
SMALL = 64 * 1024
"""Bytes of a reply up to which joining its two chunks is cheaper than sending two."""

_MEDIA_TYPE = MEDIA_TYPE.encode()
_PULL_HEADER = b"p2pfl-pull"

log = logging.getLogger(__name__)


def make_app(
    service: Service, clock: Clock, *, body_timeout: float = 60.0, max_streams: int = 32, share: float = 1.0
) -> ASGIApp:
    """The application. body_timeout: seconds a body may take, plus those of what has come at SLOWEST.

    max_streams: models that may be received at a time, and as many that may be sent; more are refused with
    503, so that memory stays flat. One source gets at most half of them (Shares).
    share: of these, and of BODY_MEMORY, where a process has several nodes; each has two places at least.
    """
    places = max(2, int(share * min(max_streams, BODY_MEMORY // largest_model(service.layout))))
    incoming, outgoing = Shares(places), Shares(places)
    hot: list[tuple[str, str, ASGIApp]] = [
        ("POST", "/v1/exchange", _Exchange(service, clock, body_timeout, incoming, outgoing)),
        ("GET", "/v1/model", _Snapshot(service, outgoing)),
        ("POST", "/v1/membership", _Membership(service, clock, body_timeout)),
    ]
    return _Boundary(_Routes(hot, service, clock), service)


class _Routes:
    """What nodes ask of each other goes straight to its handler, all else through Starlette's router.

    Starlette's part of an exchange would cost as much as ours. Its application is made when it is needed:
    most of many simulated nodes are never asked for a page.
    """

    def __init__(self, hot: list[tuple[str, str, ASGIApp]], service: Service, clock: Clock) -> None:
        self._hot = {(method, path): handler for method, path, handler in hot}
        self._routes = hot
        self._service = service
        self._clock = clock
        self._starlette: Starlette | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._hot.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if handler is None:
            if self._starlette is None:
                self._starlette = _starlette(self._routes, self._service, self._clock)
            handler = self._starlette
        await handler(scope, receive, send)


def _starlette(hot: list[tuple[str, str, ASGIApp]], service: Service, clock: Clock) -> Starlette:
    """Every route, the hot ones too: whoever asks for one by another method is answered from here."""
    pages, operator = Pages(service), OperatorRoutes(service, clock)
    routes: list[tuple[str, Callable[..., object], str]] = [
        *((path, handler, method) for method, path, handler in hot),
        (CONTROLS, operator, "GET POST"),
        (STOP, operator, "POST"),
        ("/v1/layout", pages.layout, "GET"),
        ("/v1/status", pages.status, "GET"),
        ("/v1/peers", pages.peers, "GET"),
        ("/v1/history", pages.history, "GET"),
        ("/v1/events", Events(service, clock), "GET"),
        ("/v1/predict", Predict(service, clock), "POST"),
        ("/v1/model.safetensors", Download(service), "GET"),
        ("/healthz", pages.health, "GET"),
        ("/readyz", pages.readiness, "GET"),
        ("/metrics", pages.metrics, "GET"),
        ("/openapi.json", pages.openapi, "GET"),
        ("/", assets.index, "GET"),
        ("/web/{name}", assets.file, "GET"),
    ]
    app = Starlette(
        routes=[Route(path, endpoint, methods=methods.split()) for path, endpoint, methods in routes],
        middleware=[Middleware(_Boundary, service=service)],
        exception_handlers={HTTPException: pages.refuse, FrameError: pages.refused},
    )
    app.router.redirect_slashes = False
    return app


class _Boundary:
    """Where failures end: a bug of ours is a 500 and a logged traceback, and the node goes on."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == REFUSED:
            self._service.reject(scope["error"], problems.source(scope), "")
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            log.exception("request failed method=%s path=%r", scope.get("method"), scope.get("path"))
            if not started and scope["type"] == "http":
                await send_problem(send, "internal", 500, "this node failed; its log says how", close=True)


class _Exchange:
    """POST /v1/exchange: a model in; a model (push-pull) or nothing (push) out."""

    def __init__(
        self, service: Service, clock: Clock, body_timeout: float, incoming: Shares, outgoing: Shares
    ) -> None:
        self._service = service
        self._clock = clock
        self._body_timeout = body_timeout
        self._limit = largest_model(service.layout)  # bytes
        self._incoming = incoming
        self._outgoing = outgoing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, source = self._service, problems.source(scope)
        body = Body(scope, receive)
        decoder = ModelDecoder(service.task, service.layout, service.admit)
        reply: Chunks | None = None
        try:
            body.check(self._limit)
            with _place(self._incoming, source, "received"):
                await body.read(decoder.feed, self._clock, self._body_timeout, SLOWEST)
                model = decoder.finish()
            # A place for the answer first: what is not answered was not taken either.
            sending = _place(self._outgoing, source, "sent") if model.head.wants_reply else nullcontext()
            with sending:
                reply = service.receive_model(model, source, decoder.size)
                if reply is not None:
                    await _send_frame(send, [], reply)
        except PeerError as error:
            head = decoder.head
            await refuse(service, error, source, head.sender.id if head is not None else "", body, send)
            return
        if reply is None:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})


@contextmanager
def _place(shares: Shares, source: str, what: str) -> Iterator[None]:
    """Hold one of the places for models; Busy if there is none for this source."""
    source = origin(source)
    if not shares.take(source):
        raise Busy(f"as many models as memory allows are being {what}; try again later")
    try:
        yield
    finally:
        shares.give_back(source)


class _Snapshot:
    """GET and HEAD /v1/model: the published snapshot, unless the client has it."""

    def __init__(self, service: Service, outgoing: Shares) -> None:
        self._service = service
        self._outgoing = outgoing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        source = problems.source(scope)
        pull: Pull | None = None
        try:
            asked = [value for name, value in scope["headers"] if name == _PULL_HEADER]
            if asked:
                pull = decode_pull(asked[0].decode("latin-1"))
            etag, chunks = self._service.snapshot(pull)
        except PeerError as error:
            await refuse(self._service, error, source, "" if pull is None else pull.sender_id, None, send)
            return
        headers = [(b"etag", etag.encode("ascii"))]
        if _has(scope, etag):
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            size = 0
        elif scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": _form(headers, chunks)})
            await send({"type": "http.response.body", "body": b""})
            return
        else:
            try:
                with _place(self._outgoing, source, "sent"):
                    size = await _send_frame(send, headers, chunks)
            except Busy as error:
                await refuse(self._service, error, source, "", Body(scope, receive), send)
                return
        if scope["method"] == "GET":
            self._service.pulled(source, size)


class _Membership:
    """POST /v1/membership: a hello in, ours out. Small, so it waits behind no model."""

    def __init__(self, service: Service, clock: Clock, body_timeout: float) -> None:
        self._service = service
        self._clock = clock
        self._body_timeout = body_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, source = self._service, problems.source(scope)
        body = Body(scope, receive)
        data = bytearray()
        peer = ""

        def collect(chunk: bytes) -> None:
            data.extend(chunk)
            if len(data) > MAX_HELLO:
                raise TooLarge(f"a hello has at most {MAX_HELLO} bytes")

        try:
            body.check(MAX_HELLO)
            await body.read(collect, self._clock, self._body_timeout, SLOWEST)
            hello = decode_hello(bytes(data), service.task, service.layout)
            peer = hello.sender.id
            answer = await service.receive_hello(hello, source, len(data))
        except PeerError as error:
            await refuse(service, error, source, peer, body, send)
            return
        await _send_frame(send, [], (answer, memoryview(b"")))


def _form(headers: list[tuple[bytes, bytes]], chunks: Chunks) -> list[tuple[bytes, bytes]]:
    size = len(chunks[0]) + chunks[1].nbytes
    return [(b"content-type", _MEDIA_TYPE), (b"content-length", b"%d" % size), *headers]


async def _send_frame(send: Send, headers: list[tuple[bytes, bytes]], chunks: Chunks) -> int:
    """Answer 200 with a frame, a big one never joined; returns its size in bytes."""
    head, weights = chunks
    size = len(head) + weights.nbytes
    await send({"type": "http.response.start", "status": 200, "headers": _form(headers, chunks)})
    if size <= SMALL:
        await send({"type": "http.response.body", "body": head + weights})
    else:
        await send({"type": "http.response.body", "body": head, "more_body": True})
        await send({"type": "http.response.body", "body": weights})
    return size


def _has(scope: Scope, etag: str) -> bool:
    """Does If-None-Match name this snapshot? (RFC 9110, weak comparison)"""
    for name, value in scope["headers"]:
        if name == b"if-none-match":
            tags = [tag.strip().removeprefix("W/") for tag in value.decode("latin-1").split(",")]
            if etag in tags or "*" in tags:
                return True
    return False

"""Who may ask a real node for what: stands before its application, and refuses before any body is read.

| asks for | needs |
|---|---|
| GET of /healthz and of the page's files | nothing |
| GET of the other PUBLIC pages | nothing with --public-status, else as below |
| the operator's routes | a certificate, if there is TLS; the operator's token (operator_routes.py) |
| everything else | the token, if there is one; a certificate, if there is TLS |

Who shows the operator's token may also GET the pages without the network's, and is served like a page: a
flood does not keep an operator from stopping the node.

Whoever asks or sends more than a budget (budget.py) allows its address is refused too, with the seconds
until it may go on. Pages have a budget of their own, so that they answer however many exchanges are refused.

Without --public-status clients without a certificate do not get beyond the handshake (tls.py).
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2pfl.clock import Clock
from p2pfl.config import TASKS, is_task_path
from p2pfl.errors import Busy, FrameError, NoCertificate, TooManyRequests, Unauthorised
from p2pfl.network import problems
from p2pfl.network.app import REFUSED, send_refusal
from p2pfl.network.budget import Buckets, origin
from p2pfl.network.hourly import HourlyBudget
from p2pfl.network.operator_routes import ROUTES as OPERATORS
from p2pfl.network.presenting import INFO
from p2pfl.network.security import Security
from p2pfl.network.splitting import TASK
from p2pfl.network.tokens import CONTROL_HEADER

ALIVE = "/healthz"
EVENTS = "/v1/events"
PAGE, FILES = "/", "/web/"
"""The page that a browser shows and, below FILES, what belongs to it: nothing of this node is in them."""
PUBLIC = frozenset(
    (
        *("/v1/status", "/v1/peers", "/v1/history", EVENTS, "/v1/layout"),
        *(ALIVE, "/readyz", "/metrics", "/openapi.json", TASKS),
    )
)
"""Pages for people and tools: read only, and without weights."""
MODELS = ("/v1/exchange", "/v1/model")
"""Ends of the paths by which models travel."""
CERTIFIED = "p2pfl.certificate"
"""Key of a scope's state by which the server says whether the client showed a certificate."""

RESERVED = "p2pfl.reserved"
"""Key of a scope's state: the connection is one of those that are kept for pages."""
BURST_SECONDS = 4.0
"""Of requests, that may be made at once."""
LEAST_BURST = 8.0
"""As many at once in any case: a node that comes back has a few things to say."""
BURST_BYTES = 2e9
"""Bytes that may be sent at once: a ResNet-18 to or from each of twenty nodes behind one address."""
PATIENCE = 0.5
"""Seconds that a refusal for want of budget is held back, so that refusing costs less than asking."""

_INFO = (INFO[0].encode(), INFO[1].encode())
_CLOSE = (b"connection", b"close")


class Gate:
    """An application that lets requests through to another. budget: of this node's bytes; None: no limit."""

    def __init__(
        self, app: ASGIApp, security: Security, clock: Clock, budget: HourlyBudget | None = None
    ) -> None:
        self._budget = budget or HourlyBudget(0, clock.now)
        self._app = app
        self._security = security
        self._clock = clock
        self._exchanges, self._pages = requests_of(security), requests_of(security)
        self._bytes = Buckets(security.max_bytes, BURST_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reserved = scope.get("state", {}).get(RESERVED, False)
        if reserved:
            send = _adding(send, _CLOSE)
        try:
            like_page = _is_page(scope) or self._is_operators(scope)
            source = self._spend(scope, like_page)
            shown = self._admit(scope, like_page)
            if reserved and (not like_page or scope["path"] == EVENTS):  # which would keep it for good
                raise Busy("all connections are taken but those that are kept for pages; try again later")
            carries = self._check_budget(scope)
        except FrameError as error:
            await report(self._app, scope.get("client"), error, scope.get(TASK))
            if isinstance(error, TooManyRequests):
                await self._clock.sleep(min(PATIENCE, error.retry_after))
            await send_refusal(send, error, close=reserved or _has_body(scope))
            return
        if self._security.max_bytes:
            receive, send = self._counting(source, receive, send)
        with self._budget.reserved(self._budget.exchange if carries else 0):
            await self._app(scope, receive, _adding(send, _INFO) if shown else send)

    def _check_budget(self, scope: Scope) -> bool:
        """Whether the request carries models; TooManyRequests if this node has no bytes left for them."""
        if not self._budget.most or not scope["path"].endswith(MODELS):
            return False
        if (wait := self._budget.wait(self._budget.exchange)) > 0:
            raise TooManyRequests(
                f"this node has used up its bytes of the hour; try again in {wait:.0f} s", retry_after=wait
            )
        return True

    def _is_operators(self, scope: Scope) -> bool:
        """Whether it is for an operator's route, and shows the operator's token."""
        return (scope["method"], scope["path"]) in OPERATORS and self._operates(scope)

    def _operates(self, scope: Scope) -> bool:
        operator, given = self._security.operator, _header(scope, CONTROL_HEADER)
        return operator is not None and given is not None and operator.is_same(given)

    def _spend(self, scope: Scope, like_page: bool) -> str:
        """Take a request out of its source's budget, and return the source. Raises TooManyRequests."""
        source, now = origin(problems.source(scope)), self._clock.now()
        if like_page:
            requests, limits = self._pages, [(self._pages, "pages")]
        else:
            requests = self._exchanges
            limits = [(self._exchanges, "requests"), (self._bytes, "bytes")]
        for bucket, what in limits:
            if (wait := bucket.wait(source, now)) > 0:
                raise TooManyRequests(
                    f"more {what} came from {source} than one address may send; try again in {wait:.1f} s",
                    retry_after=wait,
                )
        requests.spend(source, 1.0, now)
        return source

    def _counting(self, source: str, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """The same, with the bytes of both bodies taken out of the source's budget."""

        async def receiving() -> Message:
            message = await receive()
            self._bytes.spend(source, len(message.get("body", b"")), self._clock.now())
            return message

        async def sending(message: Message) -> None:
            self._bytes.spend(source, len(message.get("body", b"")), self._clock.now())
            await send(message)

        return receiving, sending

    def _admit(self, scope: Scope, like_page: bool) -> bool:
        """Raises a FrameError to refuse. Returns whether the client has shown the token."""
        security, path = self._security, scope["path"]
        token = security.token
        given = _header(scope, b"authorization")
        shown = token is not None and given is not None and token.admits(given)
        if _is_page(scope) and (security.public_status or path == ALIVE or _is_file(path)):
            return shown
        if security.tls is not None and not scope.get("state", {}).get(CERTIFIED, False):
            raise NoCertificate("without a certificate only the pages of --public-status are open here")
        if token is None or shown or (scope["method"], path) in OPERATORS:
            return shown
        if like_page and self._operates(scope):
            return shown
        if given is None:
            raise Unauthorised("this node asks for a token; give --token-file, or set P2PFL_TOKEN")
        raise Unauthorised("that is not this node's token; all nodes of a network need the same")


def requests_of(security: Security, share: float = 1.0) -> Buckets:
    """Budgets of requests, or of a share of them."""
    rate = security.max_requests * share
    return Buckets(rate, max(LEAST_BURST, rate * BURST_SECONDS))


async def report(app: ASGIApp, client: object, error: Exception, task: str | None = None) -> None:
    """Tell an application of something refused that it will not see. task: of several, whose it is."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        """It has nothing to say to anybody."""

    await app({"type": REFUSED, "client": client, "error": error, TASK: task}, receive, send)


def _adding(send: Send, header: tuple[bytes, bytes]) -> Send:
    async def adding(message: Message) -> None:
        if message["type"] == "http.response.start" and header not in message.get("headers", ()):
            message = {**message, "headers": [*message.get("headers", ()), header]}
        await send(message)

    return adding


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    """The first of this name; None if there is none."""
    return next((value for name, value in scope["headers"] if name == wanted), None)


def _is_page(scope: Scope) -> bool:
    path = scope["path"]
    return (path in PUBLIC or _is_file(path)) and scope["method"] in ("GET", "HEAD")


def _is_file(path: str) -> bool:
    """Or the address of one of several nodes, from which the index goes on to its page."""
    return path == PAGE or path.startswith(FILES) or is_task_path(path)


def _has_body(scope: Scope) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])

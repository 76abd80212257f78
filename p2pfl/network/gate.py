"""Who may ask a real node for what: stands before its application, and refuses before any body is read.

| asks for | needs |
|---|---|
| /healthz | nothing |
| GET of the other OPEN pages | nothing with --public-status, else as below |
| everything else | the token, if there is one; a certificate, if there is TLS |

Without --public-status clients without a certificate do not get beyond the handshake (tls.py).
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2pfl.errors import FrameError, NoCertificate, Unauthorised
from p2pfl.network.app import REFUSED, send_refusal
from p2pfl.network.presenting import INFO
from p2pfl.network.security import Security

ALIVE = "/healthz"
PUBLIC = frozenset(
    ("/", "/v1/status", "/v1/peers", "/v1/layout", ALIVE, "/readyz", "/metrics", "/openapi.json")
)
"""Pages for people and tools: read only, and without weights."""
CERTIFIED = "p2pfl.certificate"
"""Key of a scope's state by which the server says whether the client showed a certificate."""

_INFO = (INFO[0].encode(), INFO[1].encode())


class Gate:
    """An application that lets requests through to another."""

    def __init__(self, app: ASGIApp, security: Security) -> None:
        self._app = app
        self._security = security

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            shown = self._admit(scope)
        except FrameError as error:
            await report(self._app, scope.get("client"), error)
            await send_refusal(send, error, close=_has_body(scope))
            return
        await self._app(scope, receive, _informing(send) if shown else send)

    def _admit(self, scope: Scope) -> bool:
        """Raises a FrameError to refuse. Returns whether the client has shown the token."""
        security, path = self._security, scope["path"]
        token = security.token
        given = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        shown = token is not None and given is not None and token.admits(given)
        open_page = path in PUBLIC and scope["method"] in ("GET", "HEAD")
        if open_page and (security.public_status or path == ALIVE):
            return shown
        if security.tls is not None and not scope.get("state", {}).get(CERTIFIED, False):
            raise NoCertificate("without a certificate only the pages of --public-status are open here")
        if token is None or shown:
            return shown
        if given is None:
            raise Unauthorised("this node asks for a token; give --token-file, or set P2PFL_TOKEN")
        raise Unauthorised("that is not this node's token; all nodes of a network need the same")


async def report(app: ASGIApp, client: object, error: Exception) -> None:
    """Tell an application of something refused that it will not see."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        """It has nothing to say to anybody."""

    await app({"type": REFUSED, "client": client, "error": error}, receive, send)


def _informing(send: Send) -> Send:
    async def informing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), _INFO]}
        await send(message)

    return informing


def _has_body(scope: Scope) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])

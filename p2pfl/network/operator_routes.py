"""The routes for a node's operator: what is set, set it otherwise, stop. Nobody else gets an answer here.

The operator's token is this one node's, not the network's: peers have that one, and must not stop each
other's nodes. It comes in a header of its own, which no form and no link can send, and never in a cookie. A
node without such a token takes no controls at all.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from starlette.types import Receive, Scope, Send

from p2pfl.clock import Clock
from p2pfl.errors import BadSetting, DuplicateKey, ForeignOrigin, Malformed, NotOperator, PeerError, TooLarge
from p2pfl.network import problems
from p2pfl.network.body import Body
from p2pfl.network.refusing import refuse
from p2pfl.network.service import Operated, Service
from p2pfl.network.tokens import CONTROL_HEADER, Token

CONTROLS = "/v1/controls"
STOP = "/v1/stop"
START = "/start"
"""Of one of several tasks; answered by what they are behind (index.py), as the task need not run."""
ROUTES = frozenset(
    (("GET", CONTROLS), ("HEAD", CONTROLS), ("POST", CONTROLS), ("POST", STOP), ("POST", START))
)

LARGEST = 4096
"""Bytes of a request's body; all settings together take some 150."""
SECONDS = 10.0
"""That a body may take."""
SLOWEST = 1000
"""Bytes a second that give it more time."""
_SAME_SITE = (b"same-origin", b"none")
_JSON = "application/json"


class OperatorRoutes:
    """GET and POST /v1/controls, POST /v1/stop."""

    def __init__(self, service: Service, clock: Clock) -> None:
        self._service = service
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = Body(scope, receive)
        posted = scope["method"] == "POST"
        try:
            operated = admit(self._service.operated, scope)
            values = await self._read(body) if posted else {}
            if scope["path"] == STOP:
                if values:
                    raise BadSetting("stop takes nothing; send {}", _name(next(iter(values))))
                operated.stop()
            elif posted:
                await operated.change(values)
        except PeerError as error:
            rest = body if posted else None
            await refuse(self._service, error, problems.source(scope), "", rest, send)
            return
        if scope["path"] == STOP:
            await _answer(send, 202, {"stopping": True}, empty=False)
        else:
            await _answer(send, 200, operated.as_dict(), empty=scope["method"] == "HEAD")

    async def _read(self, body: Body) -> dict[str, Any]:
        data = bytearray()

        def collect(chunk: bytes) -> None:
            data.extend(chunk)
            if len(data) > LARGEST:
                raise TooLarge(f"a request for the controls has at most {LARGEST} bytes")

        body.check(LARGEST, _JSON)
        await body.read(collect, self._clock, SECONDS, SLOWEST)
        return _object(bytes(data))


def admit(operated: Operated | None, scope: Scope) -> Operated:
    """The node that may be controlled. NotOperator without its token, ForeignOrigin from a foreign page."""
    if operated is None:
        raise NotOperator("this node has no operator's token, so nobody controls it")
    check_operator(operated.token, scope)
    return operated


def check_operator(token: Token, scope: Scope) -> None:
    """As admit(), of whoever has this token."""
    headers = dict(reversed(scope["headers"]))  # of several, the first counts
    given = headers.get(CONTROL_HEADER)
    if given is None:
        raise NotOperator(
            "this is for the node's operator; give --control-token-file, --state-dir or P2PFL_CONTROL_TOKEN"
        )
    if not token.is_same(given):
        raise NotOperator("that is not this node's operator's token; each node has its own")
    if headers.get(b"sec-fetch-site", b"none") not in _SAME_SITE or not _is_own(headers):
        raise ForeignOrigin(
            "controls are taken from this node's own page and from programs, from no other page"
        )


def _is_own(headers: dict[bytes, bytes]) -> bool:
    """Whether a request comes from no page, or from one of this address (RFC 6454, but for the scheme)."""
    origin = headers.get(b"origin")
    if origin is None:
        return True
    try:
        return bool(origin) and urlsplit(origin).netloc.lower() == headers.get(b"host", b"").lower() != b""
    except ValueError:
        return False


def _object(data: bytes) -> dict[str, Any]:
    """A JSON object without repeated keys and without NaN; nothing is an empty one."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise DuplicateKey("a name stands twice in the request")
        return found

    def refuse_constant(name: str) -> None:
        raise Malformed(f"{name} is no number of JSON")

    if not data:
        return {}
    try:
        value = json.loads(data, object_pairs_hook=unique, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Malformed("the request is not JSON") from error
    if not isinstance(value, dict):
        raise Malformed('the request is not a JSON object, such as {"paused": true}')
    return value


def _name(text: str) -> str:
    return problems.one_line(text)[:40]


async def _answer(send: Send, status: int, document: dict[str, object], *, empty: bool) -> None:
    data = json.dumps(document).encode()
    headers = [
        (b"content-type", _JSON.encode()),
        (b"content-length", b"%d" % len(data)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if empty else data})

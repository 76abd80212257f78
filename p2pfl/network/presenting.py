"""What a node shows to those whom it calls: its token. And that a node with TLS calls no plain address.

A token must not go to a stranger who only announced an address. So it goes to addresses that the user gave,
and to those that somebody named who has the token. The second half needs a rule: a node with a token takes
nothing from anybody without one. Requests are held to it by gate.py. Answers are held to it here: a node that
was asked with the token and does not say that it asks everybody for it may have its addresses from anywhere,
so what it answers is not believed.
"""

from __future__ import annotations

import logging

import httpx

from p2pfl.errors import BadAnswer, PlainHttp
from p2pfl.network.security import Security, is_loopback

INFO = ("authentication-info", "token=required")
"""Header (RFC 7615) with which a node says that it takes nothing without the token."""

log = logging.getLogger(__name__)


class PresentingTransport(httpx.AsyncBaseTransport):
    """Another transport, with the token on all requests; with TLS, it calls no plain address."""

    def __init__(self, transport: httpx.AsyncBaseTransport, security: Security) -> None:
        self._transport = transport
        self._token = security.token
        self._tls_only = security.tls is not None
        self._warned = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises PlainHttp, BadAnswer, and what the other transport raises."""
        plain = request.url.scheme == "http"
        origin = f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"
        if self._tls_only and plain:
            raise PlainHttp(
                f"{origin} is plain HTTP, and this node speaks TLS only; start that one with TLS too"
            )
        if self._token is None:
            return await self._transport.handle_async_request(request)
        if plain and not self._warned and not is_loopback(request.url.host):
            self._warned = True
            log.warning(
                "the token goes to %s in the clear, and to others: whoever sees that traffic can use it; "
                "--tls-cert, --tls-key and --tls-ca hide it",
                origin,
            )
        request.headers["authorization"] = self._token.header
        response = await self._transport.handle_async_request(request)
        if response.status_code < 400 and response.headers.get(INFO[0]) != INFO[1]:
            await response.aclose()
            raise BadAnswer(
                f"{origin} answers without asking for the token, so strangers can speak through it; start it "
                "with the same --token-file"
            )
        return response

    async def aclose(self) -> None:
        await self._transport.aclose()

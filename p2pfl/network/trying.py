"""Trying the model, and taking it away: POST /v1/predict and GET /v1/model.safetensors.

Both are for members alone, since they give the model away, piece by piece or as a whole. Neither changes
anything. A picture is sent as it is, and its content type is none that another site's page could send
without asking first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from p2pfl.clock import Clock
from p2pfl.errors import Busy, TooLarge, UnknownCodec
from p2pfl.network import problems
from p2pfl.network.body import Body
from p2pfl.network.budget import origin
from p2pfl.network.documents import finite
from p2pfl.network.service import Invert, Service
from p2pfl.network.shares import Shares

MAX_PICTURE = 4 * 1024 * 1024
"""Bytes."""
AT_ONCE = 8
"""Pictures that are received or looked at; one source gets at most half."""
SLOWEST = 50_000
"""Bytes a second that a picture has to bring after TIMEOUT."""
TIMEOUT = 20.0
"""Seconds."""
TYPES = ("image/png", "image/jpeg", "application/octet-stream")
SAFETENSORS = "application/octet-stream"
_INVERT: dict[str, Invert] = {"yes": "yes", "no": "no"}


class Predict:
    """POST /v1/predict."""

    def __init__(self, service: Service, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._places = Shares(AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises FrameError."""
        asked = QueryParams(scope["query_string"])
        drawn, invert = asked.get("drawn") == "1", _INVERT.get(asked.get("invert", ""), "auto")
        body = Body(scope, receive)
        _check(body)
        content = bytearray()

        def collect(chunk: bytes) -> None:
            content.extend(chunk)
            if len(content) > MAX_PICTURE:
                raise TooLarge(f"a picture has at most {MAX_PICTURE} bytes")

        with place(self._places, scope, "looked at"):
            await body.read(collect, self._clock, TIMEOUT, SLOWEST)
            answer = await self._service.predict(bytes(content), drawn, invert)
        await JSONResponse(finite(answer))(scope, receive, send)


class Download:
    """GET and HEAD /v1/model.safetensors."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._places = Shares(AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Busy."""
        with place(self._places, scope, "fetched"):
            name, content = self._service.exported()
            headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
            answer = Response(b"" if scope["method"] == "HEAD" else content, 200, headers, SAFETENSORS)
            await answer(scope, receive, send)


def _check(body: Body) -> None:
    """Refuse by its headers alone what would be refused anyway."""
    media_type = body.media_type.partition(b";")[0].strip().lower().decode("latin-1")
    if media_type not in TYPES:
        shown = problems.one_line(media_type) or "none"
        raise UnknownCodec(f"content-type is {shown}; send a picture as {' or '.join(TYPES[:2])}")
    if body.encoding and body.encoding.strip().lower() != b"identity":
        raise UnknownCodec("content-encoding is not taken; a picture is compressed in itself")
    if body.length is not None and body.length > MAX_PICTURE:
        raise TooLarge(f"content-length is {body.length}; a picture has at most {MAX_PICTURE} bytes")


@contextmanager
def place(places: Shares, scope: Scope, what: str) -> Iterator[None]:
    """Hold one of some places; Busy if there is none for this source."""
    source = origin(problems.source(scope))
    if not places.take(source):
        raise Busy(f"as many as may are being {what}; try again later")
    try:
        yield
    finally:
        places.give_back(source)

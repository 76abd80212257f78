"""How an application says no: a refusal is counted, and answered with a problem document."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Send

from p2pfl.errors import BadSetting, FrameError, PeerError, Unauthorised
from p2pfl.network import problems
from p2pfl.network.body import Body
from p2pfl.network.service import Service


async def refuse(
    service: Service, error: PeerError, source: str, peer: str, body: Body | None, send: Send
) -> None:
    """Count a refusal and answer it, unless the client has gone. body: None of a request that has none."""
    service.reject(error, source, peer)
    if body is not None and body.gone:
        return
    await send_refusal(send, error, close=body is not None and not body.complete)


async def send_refusal(send: Send, error: PeerError, *, close: bool) -> None:
    """Answer with an error's problem document. close: as in send_problem."""
    status = error.status if isinstance(error, FrameError) else 400
    field = error.field if isinstance(error, BadSetting) else None
    headers = [(b"retry-after", b"%d" % seconds) for seconds in problems.retry_after(error)]
    if status == Unauthorised.status:
        headers.append((b"www-authenticate", b"Bearer"))
    await send_problem(send, error.reason, status, str(error), headers, close=close, field=field)


async def send_problem(
    send: Send,
    reason: str,
    status: int,
    detail: str,
    more: Iterable[tuple[bytes, bytes]] = (),
    *,
    close: bool,
    field: str | None = None,
) -> None:
    """close: the connection cannot be used again, for instance because the body was not read to its end.

    field: as in problems.encode.
    """
    document = problems.encode(reason, status, detail, field)
    headers = [
        (b"content-type", problems.MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(document)),
        *more,
    ]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": document})

"""Problem documents (RFC 9457): how a node says no, and how it reads another node's no.

`type` is `urn:p2pfl:<reason>`, where the reason is that of an error in errors.py.
"""

from __future__ import annotations

import json
import math
import re

from starlette.types import Scope

from p2pfl.errors import Busy, TooManyRequests

MEDIA_TYPE = "application/problem+json"
URN = "urn:p2pfl:"
MAX_BYTES = 64 * 1024
"""Of another node's document; ours have under 1 KiB."""
BUSY_SECONDS = 1
"""After which a peer may try again that was refused because all places were taken."""
MAX_DETAIL = 300
"""Characters of a peer's text that we repeat."""

_REASON = re.compile(r"[a-z][a-z0-9-]{0,39}")


def encode(reason: str, status: int, detail: str, field: str | None = None) -> bytes:
    """The JSON of a problem document. detail: one line for people.  field: of the request, that is wrong."""
    title = reason.replace("-", " ").capitalize()
    document = {"type": URN + reason, "title": title, "status": status, "detail": detail}
    return json.dumps(document if field is None else {**document, "field": field}).encode()


def retry_after(error: Exception) -> list[int]:
    """Whole seconds after which a refused peer may come back; none if it had better not."""
    if isinstance(error, TooManyRequests):
        return [max(1, math.ceil(error.retry_after))]
    return [BUSY_SECONDS] if isinstance(error, Busy) else []


def decode(body: bytes) -> tuple[str, str] | None:
    """(reason, detail) of a node's problem document; None if it is something else. Never raises."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    kind, detail = document.get("type"), document.get("detail", "")
    if not isinstance(kind, str) or not kind.startswith(URN) or not _REASON.fullmatch(kind[len(URN) :]):
        return None
    return kind[len(URN) :], one_line(detail) if isinstance(detail, str) else ""


def source(scope: Scope) -> str:
    """The host that a request came from, "" if the server does not say."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def one_line(text: str) -> str:
    """A peer's text made safe for a log or a terminal: printable, one line, at most MAX_DETAIL characters."""
    safe = "".join(c if c.isprintable() else " " for c in text[:MAX_DETAIL])
    return " ".join(safe.split())

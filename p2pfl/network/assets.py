"""The page that a node serves at /, and the files that belong to it: p2pfl/web, and nothing of the node.

Whoever looks at the page sees what the node answers to the page's own requests, for which it needs the
network's token; the files themselves need none. The policy lets the page run its own scripts and talk to the
node that served it, and nothing else.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import xxhash
from starlette.requests import Request
from starlette.responses import Response

from p2pfl.errors import NoSuchRoute
from p2pfl.network import problems

INDEX, TASKS = "index.html", "tasks.html"
MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data: blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # asked for again each time, and answered with 304
}


async def index(request: Request) -> Response:
    return _answer(request, INDEX)


async def tasks(request: Request) -> Response:
    """Of a process of several tasks."""
    return _answer(request, TASKS)


async def file(request: Request) -> Response:
    """Raises NoSuchRoute."""
    return _answer(request, str(request.path_params["name"]))


def _answer(request: Request, name: str) -> Response:
    found = contents().get(name)
    if found is None:
        where = problems.one_line(request.url.path)
        raise NoSuchRoute(f"{request.method} {where}: there is no such path here")
    etag = f'"{xxhash.xxh3_64_hexdigest(found)}"'
    headers = {**HEADERS, "etag": etag}
    if etag in (
        tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")
    ):
        return Response(None, 304, headers)
    content = b"" if request.method == "HEAD" else found
    answer = Response(content, 200, headers, MEDIA_TYPES[name.rpartition(".")[2]])
    answer.headers["content-length"] = str(len(found))
    return answer


@cache
def contents() -> dict[str, bytes]:
    """File name -> content, read once."""
    folder = files("p2pfl") / "web"
    found = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}
    return {name: found[name] for name in sorted(found) if name.rpartition(".")[2] in MEDIA_TYPES}

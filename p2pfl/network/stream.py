"""GET /v1/events: what happens at a node, as server-sent events (WHATWG HTML, 9.2).

Two kinds: `history` has the document of /v1/history, at first all of it and then what is new; `status` that
of /v1/status, whenever it differs. At most one of each in SPACING seconds, however much happens, so a reader
costs the same beside a busy node. In between there are comments, by which both sides notice that the
connection is gone. A reader that takes nothing is dropped by the server (its time limit for writing).
"""

from __future__ import annotations

import trio
from starlette.types import Receive, Scope, Send

from p2pfl.clock import Clock
from p2pfl.errors import Busy
from p2pfl.network import problems
from p2pfl.network.budget import origin
from p2pfl.network.documents import encoded
from p2pfl.network.service import Service
from p2pfl.network.shares import Shares

READERS = 16
"""Streams at a time; one source gets at most half."""
SPACING = 0.5
"""Least seconds between two events of a kind: people see no more."""
HEARTBEAT = 15.0
"""Seconds after which a comment is sent if nothing happens."""

_HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)


class Events:
    """The route's handler, for one node."""

    def __init__(self, service: Service, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._readers = Shares(READERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Busy if there are as many readers as there may be."""
        if scope["method"] == "HEAD":
            await _start(send)
            await send({"type": "http.response.body", "body": b""})
            return
        source = origin(problems.source(scope))
        if not self._readers.take(source):
            raise Busy("as many as may are watching this node; try again later")
        try:
            await _start(send)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                await self._tell(send)
                nursery.cancel_scope.cancel()
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._readers.give_back(source)

    async def _tell(self, send: Send) -> None:
        """Until the node ends."""
        service, seen, shown = self._service, 0, b""
        while True:
            last = service.end.is_set()  # before looking: what happens while it is sent is sent too
            history = service.history(seen)
            seen = int(str(history["sequence"]))
            news = [(b"history", encoded(history))]
            if (status := encoded(service.status())) != shown:
                news.append((b"status", status))
                shown = status
            await _send(send, b"".join(b"event: %s\ndata: %s\n\n" % one for one in news))
            if last:
                return
            with self._clock.deadline(SPACING):
                await service.end.wait()
            while not await self._change(seen):
                await _send(send, b": still here\n\n")

    async def _change(self, seen: int) -> bool:
        """Wait for something to happen; False if it is time for a heartbeat."""
        with self._clock.deadline(HEARTBEAT) as scope:
            await self._service.change(seen)
        return not scope.cancelled_caught


async def _start(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})


async def _send(send: Send, text: bytes) -> None:
    await send({"type": "http.response.body", "body": text, "more_body": True})


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()

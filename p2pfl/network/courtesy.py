"""Between Hypercorn and an application: answers in slices, and bodies that the application did not want.

Hypercorn copies what it is given, and would leave a connection hanging whose request body is not read.
"""

from __future__ import annotations

import trio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_SECONDS = 2.0
LINGER_BYTES = 64 * 1024 * 1024
"""How long, and how much of, a body that was already answered is still read. Closing a socket with unread
bytes in it resets the connection, and the client might lose the answer that says why it was refused."""
SLICE = 128 * 1024
"""Bytes of an answer handed to Hypercorn at a time."""


class Courteous:
    """Reads on, for a while, what a client still sends after its answer is complete.

    Hypercorn queues the pieces of a body for the application. One that answers without reading them all would
    block, on the full queue, both the reader and the end of its own answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        unread = True
        answered = False

        async def read() -> Message:
            nonlocal unread
            message = await receive()
            unread = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def write(message: Message) -> None:
            nonlocal answered
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)
            if not (answered and unread):
                await send(message)
                return
            await send({**message, "more_body": True})  # complete for the client, who knows its length
            async with trio.open_nursery() as nursery:
                enough = trio.Event()
                nursery.start_soon(discard, enough)
                with trio.move_on_after(LINGER_SECONDS):
                    await enough.wait()
                await send({"type": "http.response.body", "body": b""})
                nursery.cancel_scope.cancel()

        async def discard(enough: trio.Event) -> None:
            size = 0
            while unread:
                size += len((await read()).get("body", b""))
                if size > LINGER_BYTES:
                    enough.set()
            enough.set()

        await self._app(scope, read, write)
        if unread and not answered:
            # A broken answer: the connection ends, and nothing may wait for the queue.
            await discard(trio.Event())


class Slicing:
    """Hands long pieces of an answer on in slices: Hypercorn copies each, and a slice stays in the cache."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def write(message: Message) -> None:
            body = message.get("body", b"")
            for start in range(0, len(body) - SLICE, SLICE):
                await send({**message, "body": body[start : start + SLICE], "more_body": True})
            if len(body) > SLICE:
                message = {**message, "body": body[(len(body) - 1) // SLICE * SLICE :]}
            await send(message)

        await self._app(scope, receive, write)

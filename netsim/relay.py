"""One connection between two nodes that takes its time, holds back, loses, and breaks.

    source -> taken (at the path's rate; a message may be lost) -> on the line (latency) -> delivered -> sink

Each direction is a line: what enters it leaves in the same order, a latency later, so that delay costs no
throughput as long as the line holds what is on its way.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

import trio
from trio.abc import HalfCloseableStream

from netsim.journal import MessageLost
from netsim.paths import Path

HELD = 1024 * 1024
"""Bytes on a line; more are left with their sender, as a TCP window does. Bounds memory, and throughput to
this much a latency."""
STALLED = 5.0
"""Seconds from the loss of a message until its connection is reset."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Relay:
    """Carries one connection, requests from `client` to `server` and responses back.

    there, back: the paths of the two directions.  lost: told of each message that vanishes.
    """

    def __init__(
        self,
        client: HalfCloseableStream,
        server: HalfCloseableStream,
        there: Path,
        back: Path,
        lost: Callable[[MessageLost], None],
    ) -> None:
        self._client = client
        self._server = server
        self._there = there
        self._back = back
        self._lost = lost
        self._scope = trio.CancelScope()
        self._broken = False
        self._speaks = "response"  # the direction of the message under way: the next bytes there belong to it

    async def run(self) -> bool:
        """Until both directions have ended; False if the connection broke, and is to be reset."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._carry, self._client, self._server, self._there, "request")
                nursery.start_soon(self._carry, self._server, self._client, self._back, "response")
        return not self._broken

    def _break(self) -> None:
        self._broken = True
        self._scope.cancel()

    async def _carry(
        self, source: HalfCloseableStream, sink: HalfCloseableStream, path: Path, kind: str
    ) -> None:
        line = _Line()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._deliver, line, sink, path)
                await self._take(source, line, path, kind)
        except* trio.BrokenResourceError:
            self._break()

    async def _take(self, source: HalfCloseableStream, line: _Line, path: Path, kind: str) -> None:
        delay = 0.0
        while True:
            data = bytes(await source.receive_some(path.piece))
            if data and self._speaks != kind:
                # HTTP/1.1 takes turns: the first bytes after the other side's begin a message.
                self._speaks = kind
                drawn = path.delay(is_request=kind == "request")
                if drawn is None:
                    await self._lose(source, path, kind, data)
                    return
                delay = drawn
            now = trio.current_time()
            passed = path.passed(len(data), now) if data else now
            await trio.sleep_until(passed)
            await line.put(data, max(passed, now) + delay)
            if not data:
                return

    async def _lose(self, source: HalfCloseableStream, path: Path, kind: str, data: bytes) -> None:
        """From here on nothing gets through; it breaks when its source gives up, or after a while."""
        length = _LENGTH.search(data)
        self._lost(MessageLost(path.sender, path.receiver, kind, int(length[1]) if length else 0, "loss"))
        with trio.move_on_after(STALLED):
            while await source.receive_some(path.piece):
                pass
        self._break()

    async def _deliver(self, line: _Line, sink: HalfCloseableStream, path: Path) -> None:
        while True:
            data, due = await line.take()
            await trio.sleep_until(due)
            await path.until_passable()
            if not data:
                await sink.send_eof()
                return
            await sink.send_all(data)


class _Line:
    """Pieces on their way, each with the time at which it arrives, which never falls. One puts, one takes."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[bytes, float]] = deque()
        self._held = 0
        self._last = 0.0
        self._changed = trio.Event()

    async def put(self, data: bytes, due: float) -> None:
        """Waits for room."""
        while self._held and self._held + len(data) > HELD:
            await self._wait()
        self._last = max(self._last, due)
        self._pieces.append((data, self._last))
        self._held += len(data)
        self._changed.set()

    async def take(self) -> tuple[bytes, float]:
        """The next piece, perhaps before its time."""
        while not self._pieces:
            await self._wait()
        data, due = self._pieces.popleft()
        self._held -= len(data)
        self._changed.set()
        return data, due

    async def _wait(self) -> None:
        if self._changed.is_set():
            self._changed = trio.Event()
        await self._changed.wait()

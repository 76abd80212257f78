"""The flood: honest and hostile clients of one node, each at an address of its own, in one process.

    python -m soak.flooder URL FILE SEED CLIENTS HOSTILE RATE SECONDS

Writes what it did to FILE as JSON, prints `done`, and waits to be ended.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import trio

from netsim.collect import read_layout
from p2pfl.errors import Truncated
from p2pfl.network import problems
from soak.hostility import Arsenal, Blow, Blows, post
from tests.foreign.client import build_frame, read_frame

PATIENCE = 30.0
"""Seconds for one exchange, or one blow; a node that says nothing for so long is counted as silent."""
PIECE = 1 << 18
"""Bytes sent or received at a time."""
DAWDLE = 0.9
"""Share of the flood in which bodies are slow: so no client leaves in the very moment at which the node has
had enough, after a minute, when it could be counted either way."""
TRICKLE = 1.0
"""Seconds between the bytes of a slow body."""


@dataclass
class Account:
    """What the clients did and heard.

    answers: honest exchanges by the status of their answers.  rejected: refusals that the node has to have
    counted, by reason.  late: exchanges that were due while the one before was still under way.
    silent: what was not answered in time, or broken off by the node, by name.  began, ended: times of
    time.monotonic(), which is the same in all processes of a machine.
    """

    began: float = 0.0
    ended: float = 0.0
    exchanges: int = 0
    hostile: int = 0
    late: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    silent: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Answer:
    """body: its first bytes, a whole problem document.  size: bytes of all of it."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    size: int = 0


LEFT = Answer(0, {}, problems.encode(Truncated.reason, 0, "the client left inside its body"))
"""Stands for the answer that a client did not wait for."""


class Line:
    """A client's connection, kept from one request to the next; from an address of its own."""

    def __init__(self, host: str, port: int, source: str) -> None:
        self._host, self._port, self._source = host, port, source
        self._stream: trio.SocketStream | None = None

    async def ask(self, head: bytes, body: bytes) -> Answer:
        """Raises OSError or trio.BrokenResourceError if the connection is lost."""
        if self._stream is None:
            self._stream = await trio.open_tcp_stream(self._host, self._port, local_address=self._source)
        try:
            try:
                await self._stream.send_all(head)
                await self._stream.send_all(body)
            except trio.BrokenResourceError:
                pass  # refused before it was read to its end: there may be an answer
            answer = await _answer(self._stream)
            if answer.headers.get(b"connection", b"").lower() == b"close":
                await self.close()
            return answer
        except BaseException:
            await self.close()
            raise

    async def leave(self, head: bytes, body: bytes) -> None:
        """Send this and close; nothing is heard."""
        stream = await trio.open_tcp_stream(self._host, self._port, local_address=self._source)
        async with stream:
            await stream.send_all(head + body)

    async def close(self) -> None:
        if self._stream is not None:
            await trio.aclose_forcefully(self._stream)
        self._stream = None


async def _answer(stream: trio.SocketStream) -> Answer:
    """The next answer on a connection. Raises ConnectionResetError if there is none.

    Not h11's work: most of what comes is models, which are only counted.
    """
    came = bytearray()
    while (end := came.find(b"\r\n\r\n")) < 0:
        piece = await stream.receive_some(PIECE)
        if not piece:
            raise ConnectionResetError("no answer")
        came += piece
    status, *lines = bytes(came[:end]).split(b"\r\n")
    pairs = [line.partition(b":") for line in lines]
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = came[end + 4 :]
    size, length = len(body), int(headers.get(b"content-length", b"0"))
    while size < length:
        piece = await stream.receive_some(PIECE)
        if not piece:
            raise ConnectionResetError("the answer is not complete")
        size += len(piece)
        if len(body) < problems.MAX_BYTES:
            body += piece
    return Answer(int(status.split()[1]), headers, bytes(body), size)


class Flood:
    """All clients of one flood. rate: exchanges a second of all of them together."""

    def __init__(self, url: str, seed: int, clients: int, hostile: int, rate: float, seconds: float) -> None:
        address = httpx.URL(url)
        self._url, self._host, self._port = url, address.host, address.port or 80
        self._random = random.Random(seed)
        self._seed = seed
        self._clients, self._hostile = clients, hostile
        self._period = clients / rate
        self._seconds = seconds
        self.account = Account()

    async def run(self) -> Account:
        async with httpx.AsyncClient(timeout=None, trust_env=False) as client:
            described = (await client.get(f"{self._url}/v1/layout")).json()
            weights = read_frame((await client.get(f"{self._url}/v1/model")).content)["weights"]
            task, layout = await read_layout(client, self._url)
        rng = np.random.default_rng(self._seed)
        blows = Blows(task, layout, self._seed)
        self.account.began = time.monotonic()
        async with trio.open_nursery() as nursery:
            for number in range(self._clients):
                line = Line(self._host, self._port, f"127.77.0.{number + 1}")
                begin = trio.current_time() + self._period * number / self._clients
                if number < self._hostile:
                    arsenal = Arsenal(blows, self._seed + number)
                    nursery.start_soon(self._fight, line, arsenal, begin)
                    nursery.start_soon(self._dawdle, f"127.77.0.{number + 1}")
                else:
                    noisy = weights + rng.normal(0, 1e-3, weights.size).astype(np.float32)
                    frame = build_frame(
                        described["task"], described["fingerprint"], noisy, id=f"flood-{number}", reply=True
                    )
                    nursery.start_soon(self._exchange, line, frame, begin)
        self.account.ended = time.monotonic()
        return self.account

    async def _next(self, due: float) -> float:
        """Wait until then; when the one after it is due. What has been missed meanwhile is left out."""
        await trio.sleep_until(due)
        missed = max(0, int((trio.current_time() - due) / self._period))
        self.account.late += missed
        return due + (missed + 1) * self._period

    async def _exchange(self, line: Line, frame: bytes, begin: float) -> None:
        """Push-pulls, one each period; one that is due while the last is under way is left out."""
        head, due, end = post("/v1/exchange", len(frame)), begin, begin + self._seconds
        while due < end:
            due = await self._next(due)
            self.account.exchanges += 1
            try:
                with trio.fail_after(PATIENCE):
                    answer = await line.ask(head, frame)
            except (OSError, trio.BrokenResourceError, trio.TooSlowError):
                self.account.silent["exchange"] += 1
                continue
            self.account.answers[str(answer.status)] += 1
            self.account.bytes_sent += len(frame)
            self.account.bytes_received += answer.size
            if answer.status in (429, 503):
                self._count(answer)
                await trio.sleep(float(answer.headers.get(b"retry-after", b"1")))
        await line.close()

    async def _fight(self, line: Line, arsenal: Arsenal, begin: float) -> None:
        due, end = begin, begin + self._seconds
        while due < end:
            due = await self._next(due)
            blow = arsenal.draw()
            self.account.hostile += 1
            try:
                with trio.fail_after(PATIENCE):
                    await self._strike(line, blow)
            except (OSError, trio.BrokenResourceError, trio.TooSlowError):
                self.account.silent[blow.name] += 1
        await line.close()

    async def _strike(self, line: Line, blow: Blow) -> None:
        self.account.bytes_sent += len(blow.body)
        if blow.leaves:
            await line.leave(blow.head, blow.body)
            self.account.rejected[blow.reason] += 1
            return
        try:
            answer = await line.ask(blow.head, blow.body)
        finally:
            if blow.reason:
                await line.close()
        self._count(answer)

    def _count(self, answer: Answer) -> None:
        problem = problems.decode(answer.body)
        if problem is not None:
            self.account.rejected[problem[0]] += 1

    async def _dawdle(self, source: str) -> None:
        """A body that takes as long as the node lets it: a byte now and then."""
        end = trio.current_time() + DAWDLE * self._seconds
        while trio.current_time() < end:
            answer: Answer | None = None
            try:
                stream = await trio.open_tcp_stream(self._host, self._port, local_address=source)
                async with stream, trio.open_nursery() as nursery:
                    await stream.send_all(post("/v1/membership", 60_000))
                    nursery.start_soon(_trickle, stream)
                    with trio.move_on_at(end):
                        answer = await _answer(stream)
                    nursery.cancel_scope.cancel()
            except* (OSError, trio.BrokenResourceError):
                self.account.silent["slow body"] += 1
            else:
                self._count(answer or LEFT)


async def _trickle(stream: trio.SocketStream) -> None:
    try:
        while True:
            await stream.send_all(b"\x8f")
            await trio.sleep(TRICKLE)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


async def flood(url: str, file: Path, *numbers: str) -> None:
    """numbers: seed, clients, hostile ones of them, exchanges a second, seconds."""
    seed, clients, hostile = map(int, numbers[:3])
    rate, seconds = map(float, numbers[3:])
    account = await Flood(url, seed, clients, hostile, rate, seconds).run()
    await trio.Path(file).write_text(json.dumps(vars(account)), encoding="utf-8")
    print("done", flush=True)
    await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(flood, sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])

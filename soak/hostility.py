"""What hostile clients send: frames, bodies and heads that are wrong, and what is no HTTP at all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from p2pfl.gossip.messages import Layout, Task
from tests.p2pfl.gossip import hostile_frames

MEDIA_TYPE = "application/msgpack"
BODIES = 40
"""Hostile frames of models that are sent, of all there are."""


@dataclass(frozen=True)
class Blow:
    """One thing to send on a connection. body: what follows the head.

    reason: what the node counts if it cannot be read off its answer; "" if nothing is counted.
    leaves: the client closes its end inside the body, and hears nothing.
    """

    name: str
    head: bytes
    body: bytes = b""
    reason: str = ""
    leaves: bool = False


def post(path: str, length: int, *, media_type: str = MEDIA_TYPE, more: str = "") -> bytes:
    """The head of a request with a body."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: node",
        f"Content-Type: {media_type}",
        f"Content-Length: {length}",
    ]
    return "\r\n".join([*lines, *([more] if more else []), "", ""]).encode()


class Blows:
    """Hostile frames for a node of this task and layout; made once, since each is as long as a model."""

    def __init__(self, task: Task, layout: Layout, seed: int) -> None:
        models = hostile_frames.model_frames(task, layout)
        self.models = random.Random(seed).sample(models, min(BODIES, len(models)))
        self.hellos = hostile_frames.hello_frames(task, layout)
        self.good = next(frame.body for frame in models if frame.name == "cut in the weights")


class Arsenal:
    """Draws blows; the same seed gives the same."""

    def __init__(self, blows: Blows, seed: int) -> None:
        self._random = random.Random(seed)
        self._models, self._hellos, self._good = blows.models, blows.hellos, blows.good

    def draw(self) -> Blow:
        """Half of them frames that break a rule of the protocol."""
        if self._random.random() < 0.5:
            return self._frame()
        return self._random.choice(list(self._others()))

    def _frame(self) -> Blow:
        if self._random.random() < 0.3:
            hello = self._random.choice(self._hellos)
            return Blow(hello.name, post("/v1/membership", len(hello.body)), hello.body)
        model = self._random.choice(self._models)
        return Blow(model.name, post("/v1/exchange", len(model.body)), model.body)

    def _others(self) -> Iterator[Blow]:
        noise = self._random.randbytes(200)
        damaged = bytearray(self._good)
        damaged[self._random.randrange(len(damaged))] ^= 1 << self._random.randrange(8)
        yield Blow("not HTTP", b"\x16\x03\x01" + noise, reason="malformed")
        yield Blow("no request line", b"HELLO\r\n\r\n", reason="malformed")
        yield Blow("endless headers", b"GET / HTTP/1.1\r\n" + b"X-A: " + b"a" * 20_000, reason="malformed")
        yield Blow("no such path", b"GET /admin HTTP/1.1\r\nHost: node\r\n\r\n")
        yield Blow("wrong method", b"DELETE /v1/model HTTP/1.1\r\nHost: node\r\n\r\n")
        yield Blow(
            "other media type", post("/v1/exchange", 4, media_type="application/x-pickle"), b"\x80\x04N."
        )
        yield Blow("compressed", post("/v1/exchange", 4, more="Content-Encoding: gzip"), b"\x1f\x8b\x08\x00")
        yield Blow("announced too large", post("/v1/exchange", 1 << 40))
        yield Blow("bits flipped", post("/v1/exchange", len(damaged)), bytes(damaged))
        half = self._good[: len(self._good) // 2]
        yield Blow(
            "leaves inside the body", post("/v1/exchange", len(self._good)), half, "truncated", leaves=True
        )
        yield Blow("leaves inside a hello", post("/v1/membership", 500), b"", "truncated", leaves=True)

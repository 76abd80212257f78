"""A node's service that records what it is told, and ways to serve it: what the network's tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import trio
from starlette.types import Message, Scope

from p2pfl.clock import Clock
from p2pfl.errors import PeerError
from p2pfl.gossip.codec import encode_hello, encode_model, encode_weights
from p2pfl.gossip.messages import Hello, Layout, Model, ModelHead, Pull, Sender, Task, TensorSpec, Vector
from p2pfl.network.app import ASGIApp, make_app
from p2pfl.network.server import HttpNetwork
from p2pfl.network.service import Operated

TASK = Task("toy", ("no", "yes", "perhaps"), (2,), (0.5,), (0.25,))
OTHER_TASK = replace(TASK, name="other")
LAYOUT = Layout("softmax", (TensorSpec("weight", (3, 2)), TensorSpec("bias", (3,))))
BIG = Layout("big", (TensorSpec("weight", (1000, 1000)),))  # 4 MB: many pieces on any network

Chunks = tuple[bytes, memoryview]


def sender(id: str) -> Sender:
    return Sender(id, f"http://{id}.test:8470", "training")


def weights_of(layout: Layout, seed: int) -> Vector:
    return np.random.default_rng(seed).normal(size=layout.size).astype(np.float32)


def frame(
    id: str, *, reply: bool = False, task: Task = TASK, layout: Layout = LAYOUT, seed: int = 0
) -> Chunks:
    head = ModelHead(sender(id), task, layout.fingerprint, 1, 2, 3.0, 4, reply)
    return encode_model(head, encode_weights(weights_of(layout, seed)))


def body(id: str = "ann", *, reply: bool = False, layout: Layout = LAYOUT) -> bytes:
    return b"".join(frame(id, reply=reply, layout=layout))


def hello(id: str, task: Task = TASK, layout: Layout = LAYOUT) -> Hello:
    return Hello(sender(id), task, layout.fingerprint, 2)


def hello_body(id: str = "ann", task: Task = TASK, layout: Layout = LAYOUT) -> bytes:
    return encode_hello(hello(id, task, layout))


@dataclass
class Site:
    """Implements network.app.Service. on_model, on_head: called with each model and its head, may raise."""

    id: str = "bob"
    task: Task = TASK
    layout: Layout = LAYOUT
    etag: str = '"1"'
    on_model: Callable[[Model], None] = lambda model: None
    on_head: Callable[[ModelHead], None] = lambda head: None
    models: list[tuple[Model, str, int]] = field(default_factory=list)
    hellos: list[tuple[Hello, str, int]] = field(default_factory=list)
    pulls: list[tuple[str, int]] = field(default_factory=list)
    askers: list[Pull | None] = field(default_factory=list)
    rejected: list[tuple[PeerError, str, str]] = field(default_factory=list)
    state: dict[str, object] = field(default_factory=dict)
    company: bool = True
    page: tuple[str, bytes] | None = ("text/plain; version=0.0.4; charset=utf-8", b"p2pfl_round 3.0\n")
    end: trio.Event = field(default_factory=trio.Event)
    operated: Operated | None = None

    def receive_model(self, model: Model, source: str, size: int) -> Chunks | None:
        self.on_model(model)
        self.models.append((model, source, size))
        return self.frame() if model.head.wants_reply else None

    async def receive_hello(self, hello: Hello, source: str, size: int) -> bytes:
        self.hellos.append((hello, source, size))
        return encode_hello(Hello(sender(self.id), self.task, self.layout.fingerprint, 7))

    def admit(self, head: ModelHead) -> None:
        self.on_head(head)

    def snapshot(self, pull: Pull | None) -> tuple[str, Chunks]:
        self.askers.append(pull)
        return self.etag, self.frame()

    def pulled(self, source: str, size: int) -> None:
        self.pulls.append((source, size))

    def reject(self, error: PeerError, source: str, peer: str) -> None:
        self.rejected.append((error, source, peer))

    def status(self) -> dict[str, object]:
        return {"state": "training", "round": 3, **self.state}

    def peers(self) -> list[dict[str, object]]:
        return [{"id": "cy"}]

    async def predict(self, content: bytes, drawn: bool, invert: str) -> dict[str, object]:
        return {"predicted": "no", "bytes": len(content), "drawn": drawn, "invert": invert}

    def exported(self) -> tuple[str, bytes]:
        return "toy-softmax.safetensors", b"weights"

    def lacks(self) -> list[str]:
        return [] if self.company else ["peer"]

    def metrics(self) -> tuple[str, bytes] | None:
        return self.page

    def history(self, since: int = 0) -> dict[str, object]:
        return {"sequence": 0, "rounds": []}

    async def change(self, since: int) -> None:
        await trio.sleep_forever()

    def frame(self) -> Chunks:
        return frame(self.id, task=self.task, layout=self.layout, seed=5)

    @property
    def reasons(self) -> list[str]:
        return [error.reason for error, _, _ in self.rejected]


@dataclass
class Answer:
    """What an application sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


DISCONNECT: Message = {"type": "http.disconnect"}


class Watched(Site):
    """Lets a test wait for a refusal, also for one that nobody is told of."""

    def __init__(self) -> None:
        super().__init__()
        self.refusal = trio.Event()

    def reject(self, error: PeerError, source: str, peer: str) -> None:
        super().reject(error, source, peer)
        self.refusal.set()

    async def refused(self) -> PeerError:
        with trio.fail_after(20):
            await self.refusal.wait()
        return self.rejected[-1][0]


def pieces(data: bytes, size: int, *, whole: bool = True) -> list[Message]:
    """A body as ASGI messages; unless it is whole, the client leaves after the last of them."""
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    messages: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    return [*messages, {"type": "http.request"} if whole else DISCONNECT]


async def call(
    app: ASGIApp,
    method: str,
    path: str,
    messages: Iterable[Message] = ({"type": "http.request"},),
    headers: Iterable[tuple[str, str]] = (("content-type", "application/msgpack"),),
    client: str = "192.0.2.1",
) -> Answer:
    """One request, straight to the application. After `messages` the client says nothing more."""
    coming = iter(messages)
    answer = Answer()

    async def receive() -> Message:
        for message in coming:
            await trio.lowlevel.checkpoint()
            return message
        await trio.sleep_forever()
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer.chunks.append(bytes(message.get("body", b"")))
            answer.complete = not message.get("more_body", False)

    scope: Scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "scheme": "http",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "client": (client, 50_000),
        "server": ("192.0.2.2", 8470),
    }
    await app(scope, receive, send)
    return answer


@asynccontextmanager
async def served(app: ASGIApp, listen: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """The application behind a real server; gives its URL."""
    async with trio.open_nursery() as nursery:
        yield await nursery.start(HttpNetwork(listen).serve, app)
        nursery.cancel_scope.cancel()


def app_of(site: Site, body_timeout: float = 60.0, max_streams: int = 32) -> ASGIApp:
    return make_app(site, Clock(), body_timeout=body_timeout, max_streams=max_streams)

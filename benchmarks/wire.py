"""The wire with a large model: codec against memory, exchanges between two processes against raw TCP.

The vector is as long as ResNet-18. Every push encodes anew (a node does so once per snapshot), and so does
the answer of every push-pull. Signed ones have the SHA-256 of the weights besides, made and checked.
`python -m benchmarks.wire http|tcp|https FOLDER` is the other process; FOLDER has its certificate.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import trio

from benchmarks.figures import Figure, median_ratio, median_seconds
from p2pfl.clock import Clock
from p2pfl.errors import PeerError
from p2pfl.gossip.codec import ModelDecoder, encode_hello, encode_model, encode_weights
from p2pfl.gossip.identity import Identity
from p2pfl.gossip.messages import Hello, Layout, Model, ModelHead, Pull, Sender, Task, TensorSpec, Vector
from p2pfl.network import authority, certificates
from p2pfl.network.app import make_app
from p2pfl.network.client import PeerClient
from p2pfl.network.security import OPEN, Security
from p2pfl.network.server import HttpNetwork
from p2pfl.network.tls import Tls
from p2pfl.network.transport import RECEIVE

ELEMENTS = 11_689_512  # weights of ResNet-18: 46.8 MB of float32
TASK = Task("wire", ("no", "yes"), (1,), (0.0,), (1.0,))
LAYOUT = Layout("wire", (TensorSpec("weight", (ELEMENTS,)),))
SIGNER = Identity(bytes(range(32)))
ENCODE, DECODE, PUSH, PUSH_PULL = 0.4, 0.2, 0.2, 0.1  # least shares of a copy, of raw TCP

Chunks = tuple[bytes, memoryview]


def weights(seed: int = 0) -> Vector:
    """(ELEMENTS,) float32, none of them zero pages."""
    return np.random.default_rng(seed).standard_normal(ELEMENTS, dtype=np.float32)


def frame(
    vector: Vector, *, wants_reply: bool = False, signer: Identity | None = None, re: bytes = b""
) -> Chunks:
    """A model frame, hashed and packed anew. signer: signs it; re: the imprint of what it answers."""
    sender = Sender("bench" if signer is None else signer.id, "http://127.0.0.1:8470", "training")
    head = ModelHead(sender, TASK, LAYOUT.fingerprint, 1, 1, 1.0, 1, wants_reply)
    if signer is None:
        return encode_model(head, encode_weights(vector))
    head = replace(head, envelope=signer.envelope("bench", re))
    return encode_model(head, encode_weights(vector), signer.sign)


def measure(quick: bool) -> Iterator[Figure]:
    runs = 5 if quick else 15
    vector, buffer = weights(), np.ones(ELEMENTS, np.float32)
    works: dict[str, Callable[[], object]] = {
        "copy": lambda: np.copyto(buffer, vector),
        "encode": lambda: frame(vector),
        "decode": partial(_decode, _pieces(frame(vector))),
        "encode, signed": lambda: frame(vector, signer=SIGNER),
        "decode, signed": partial(_decode, _pieces(frame(vector, signer=SIGNER))),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):  # in turn, so that a machine that slows down slows all of them
        for name, work in works.items():
            times[name].append(median_seconds(time.perf_counter, work, 1, 3))
    yield _share("46.8 MB: encode", "copy", times["encode"], times["copy"], ENCODE)
    yield _share("46.8 MB: decode with all checks", "copy", times["decode"], times["copy"], DECODE)
    yield _share("46.8 MB: encode, signed", "copy", times["encode, signed"], times["copy"])
    yield _share("46.8 MB: decode with all checks, signed", "copy", times["decode, signed"], times["copy"])

    with tempfile.TemporaryDirectory() as folder:
        _certify(Path(folder))
        with _other("tcp") as tcp, _other("http") as http, _other("https", folder) as https:
            over = trio.run(_over_loopback, tcp, (http, https), _security(Path(folder)), vector, runs)
    raw = over["raw"]
    yield _share("46.8 MB over loopback: push", "raw TCP", over["push"], raw, PUSH)
    yield _share("46.8 MB over loopback: push-pull", "raw TCP", over["push-pull"], raw, PUSH_PULL)
    yield _share("46.8 MB over loopback: push, signed", "raw TCP", over["push, signed"], raw)
    yield _share("46.8 MB over loopback: push-pull, signed", "raw TCP", over["push-pull, signed"], raw)
    yield _share("46.8 MB over loopback: push over TLS", "plain", over["push, TLS"], over["push"])
    yield _share("46.8 MB over loopback: pull over TLS", "plain", over["pull, TLS"], over["pull"])


def _pieces(chunks: Chunks) -> list[memoryview]:
    """A frame as it comes from a socket."""
    body = memoryview(b"".join(chunks))
    return [body[start : start + RECEIVE] for start in range(0, len(body), RECEIVE)]


def _decode(pieces: list[memoryview]) -> Model:
    decoder = ModelDecoder(TASK, LAYOUT)
    for piece in pieces:
        decoder.feed(piece)
    return decoder.finish()


def _share(
    name: str, floor: str, ours: list[float], floors: list[float], target: float | None = None
) -> Figure:
    """The floor's speed is 1: the same bytes in twice the time are 0.5 of it."""
    made_of = {"ms": 1e3 * statistics.median(ours), f"{floor}, ms": 1e3 * statistics.median(floors)}
    return Figure(name, median_ratio(floors, ours), f"of {floor}", "at least", target, made_of)


def _certify(folder: Path) -> None:
    """An authority and a certificate for this machine."""
    now = certificates.now()
    authority.create(folder / "ca", "bench", 30, now)
    authority.issue(folder / "ca", folder / "node", "bench", ["127.0.0.1"], 30, now)


def _security(folder: Path) -> Security:
    files = (authority.CERTIFICATE, authority.KEY, authority.AUTHORITY)
    return Security(tls=Tls.load(*(folder / "node" / file for file in files)))


async def _over_loopback(
    tcp: str, urls: tuple[str, str], security: Security, vector: Vector, runs: int
) -> dict[str, list[float]]:
    """Seconds of raw transfers of the vector's bytes one way, of pushes, pulls and push-pulls, in turn.

    urls: plain and over TLS.
    """
    parts, (http, _) = urlsplit(tcp), urls
    client = PeerClient(None, TASK, LAYOUT)
    secure = PeerClient(HttpNetwork("127.0.0.1:0", None, security).transport(), TASK, LAYOUT)
    times: defaultdict[str, list[float]] = defaultdict(list)
    with socket.create_connection((parts.hostname, parts.port)) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(runs + 1):
            start = time.perf_counter()
            raw.sendall(vector.data.cast("B"))
            assert raw.recv(1) == b"."
            times["raw"].append(time.perf_counter() - start)
            for signed in ("", ", signed"):
                signer = SIGNER if signed else None
                start = time.perf_counter()
                reply = await client.push(http, frame(vector, signer=signer))
                assert reply.model is None
                times[f"push{signed}"].append(time.perf_counter() - start)
                start = time.perf_counter()
                reply = await client.push(http, frame(vector, wants_reply=True, signer=signer))
                assert reply.model is not None
                assert (reply.model.head.envelope is None) == (not signed)
                times[f"push-pull{signed}"].append(time.perf_counter() - start)
            for asking, url, how in ((client, http, ""), (secure, urls[1], ", TLS")):
                start = time.perf_counter()
                await asking.pull(url, None)
                times[f"pull{how}"].append(time.perf_counter() - start)
            start = time.perf_counter()
            await secure.push(urls[1], frame(vector))
            times["push, TLS"].append(time.perf_counter() - start)
    await client.aclose()
    await secure.aclose()
    return {name: taken[1:] for name, taken in times.items()}  # the first ones open connections


@contextmanager
def _other(*words: str) -> Iterator[str]:
    """The other process, and its URL."""
    line = [sys.executable, "-m", "benchmarks.wire", *words]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=os.environ)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


class _Service:
    """The least that an application needs: takes models, answers a push-pull with its own."""

    task = TASK
    layout = LAYOUT
    operated = None

    def __init__(self) -> None:
        self._vector = weights(1)
        self._latest: Model | None = None
        self.end = trio.Event()

    def receive_model(self, model: Model, source: str, size: int) -> Chunks | None:
        self._latest = model
        signer = None if model.head.envelope is None else SIGNER
        return frame(self._vector, signer=signer, re=model.head.imprint) if model.head.wants_reply else None

    async def receive_hello(self, hello: Hello, source: str, size: int) -> bytes:
        return encode_hello(hello)

    def admit(self, head: ModelHead) -> None: ...

    def snapshot(self, pull: Pull | None) -> tuple[str, Chunks]:
        return '"1"', frame(self._vector)

    def pulled(self, source: str, size: int) -> None: ...

    def reject(self, error: PeerError, source: str, peer: str) -> None:
        sys.stderr.write(f"refused: {error}\n")

    def status(self) -> dict[str, object]:
        return {}

    def peers(self) -> list[dict[str, object]]:
        return []

    def history(self, since: int = 0) -> dict[str, object]:
        return {}

    async def change(self, since: int) -> None: ...

    async def predict(self, content: bytes, drawn: bool, invert: str) -> dict[str, object]:
        return {}

    def exported(self) -> tuple[str, bytes]:
        return "", b""

    def lacks(self) -> list[str]:
        return []

    def metrics(self) -> tuple[str, bytes] | None:
        return None


async def _serve_http(security: Security) -> None:
    async with trio.open_nursery() as nursery:
        network = HttpNetwork("127.0.0.1:0", None, security)
        url = await nursery.start(network.serve, make_app(_Service(), Clock()))
        print(url, flush=True)


def _serve_tcp() -> None:
    """Receives a vector's bytes into a buffer that exists, answers with one byte; until it is killed."""
    buffer = np.ones(ELEMENTS, np.float32).data.cast("B")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"tcp://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        connection, _ = listener.accept()
        with connection:
            while True:
                filled = 0
                while filled < len(buffer):
                    count = connection.recv_into(buffer[filled:])
                    if not count:
                        return
                    filled += count
                connection.sendall(b".")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The other process of the wire benchmark.")
    parser.add_argument("kind", choices=("http", "tcp", "https"))
    parser.add_argument("folder", nargs="?", type=Path)
    given = parser.parse_args()
    if given.kind == "tcp":
        _serve_tcp()
    else:
        trio.run(_serve_http, _security(given.folder) if given.kind == "https" else OPEN)

"""The networks that the contract is tested on: each gives hosts with `transport()` and `serve()`."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import httpx
import trio

from netsim.network import SimulatedNetwork, UniformLinks
from p2pfl.network.app import ASGIApp
from p2pfl.network.security import Security
from p2pfl.network.server import HttpNetwork
from p2pfl.network.tls import Tls
from tests.p2pfl.network import certified


class Host(Protocol):
    """One node's network seam."""

    def transport(self) -> httpx.AsyncBaseTransport | None: ...

    async def serve(self, app: ASGIApp, *, task_status: trio.TaskStatus[str]) -> None: ...


class Hosts(Protocol):
    unused: str
    """An address where nobody listens."""

    def host(self, index: int) -> Host: ...


class _Loopback:
    def __init__(self, unused: str) -> None:
        self.unused = unused

    def host(self, index: int) -> Host:
        return HttpNetwork("127.0.0.1:0")


@asynccontextmanager
async def loopback() -> AsyncIterator[Hosts]:
    # A bound socket that does not listen: connections to it are refused, and nobody else can take it.
    with trio.socket.socket() as sock:
        await sock.bind(("127.0.0.1", 0))
        yield _Loopback(f"http://127.0.0.1:{sock.getsockname()[1]}")


class _Guarded:
    """Loopback with mutual TLS and a token; each host has a certificate of its own."""

    def __init__(self, unused: str, folder: Path) -> None:
        self.unused = unused.replace("http:", "https:")
        self._folder = folder
        self._authority = certified.authority(folder)
        self._issued = 0

    def host(self, index: int) -> Host:
        files = certified.node(
            self._folder, self._authority, f"node{index}-{len(list(self._folder.iterdir()))}"
        )
        security = Security(tls=Tls.load(*files), token=certified.TOKEN)
        return HttpNetwork("127.0.0.1:0", None, security)


@asynccontextmanager
async def guarded() -> AsyncIterator[Hosts]:
    async with loopback() as plain:
        with tempfile.TemporaryDirectory() as folder:
            yield _Guarded(plain.unused, Path(folder))


class _Simulated:
    def __init__(self, network: SimulatedNetwork) -> None:
        self.unused = "http://10.9.9.9:8470"
        self._network = network

    def host(self, index: int) -> Host:
        return self._network.host(index)


@asynccontextmanager
async def simulated() -> AsyncIterator[Hosts]:
    network = SimulatedNetwork(UniformLinks(0.02))
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        yield _Simulated(network)
        nursery.cancel_scope.cancel()


Network = Callable[[], AbstractAsyncContextManager[Hosts]]

"""Stands in front of one node process: what its peers send and what it answers take the scenario's paths.

Peers call the proxy from addresses of their own, by which it knows them; it calls the node from the very same
ones, so that the node sees who calls. Beyond the wire the node notices nothing.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from functools import partial

import trio

from netsim.journal import MessageLost
from netsim.paths import Paths
from netsim.relay import Relay
from p2pfl.network.transport import socket_options

_AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: unsent bytes are dropped, the other end sees a reset


class Proxy:
    """index: of the node.  address: the node's own; peers call `front`, the node listens on `back` (ports).

    callers: which node calls from which address. What comes from elsewhere is reset.
    """

    def __init__(
        self,
        index: int,
        address: str,
        front: int,
        back: int,
        callers: Mapping[str, int],
        paths: Paths,
        lost: Callable[[MessageLost], None],
    ) -> None:
        self._index = index
        self._address = address
        self._front = front
        self._back = back
        self._callers = callers
        self._paths = paths
        self._lost = lost

    async def serve(
        self,
        connections: trio.Nursery,
        *,
        task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept until cancelled; raises OSError if the address is taken.

        connections: where they live. They end with their ends: what a node sent before it died still arrives.
        """
        serve = partial(trio.serve_tcp, self._handle, self._front, host=self._address)
        await serve(handler_nursery=connections, task_status=task_status)

    async def _handle(self, client: trio.SocketStream) -> None:
        orderly = False
        try:
            server = await self._call_on(client)
            if server is None:
                return
            caller = self._callers[_host(server.socket.getsockname())]
            there = self._paths.between(caller, self._index)
            back = self._paths.between(self._index, caller)
            try:
                orderly = await Relay(client, server, there, back, self._lost).run()
            finally:
                _close(server, reset=not orderly)
        finally:
            _close(client, reset=not orderly)

    async def _call_on(self, client: trio.SocketStream) -> trio.SocketStream | None:
        """A connection to the node from the caller's own address; None if one of the three is not there."""
        try:
            source = _host(client.socket.getpeername())
            if source not in self._callers:
                return None
            server = await trio.open_tcp_stream(self._address, self._back, local_address=source)
        except OSError:
            return None
        for stream in (client, server):
            for option in socket_options():
                stream.setsockopt(*option)
        return server


def _host(name: tuple[str, int]) -> str:
    return name[0]


def _close(stream: trio.SocketStream, *, reset: bool) -> None:
    if reset:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    stream.socket.close()

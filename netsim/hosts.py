"""One node's address in the simulated network: it calls, listens, hangs and crashes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import trio

from netsim.exchanges import PORT, AsgiApp, Parcel, Request, Response, Transport
from p2pfl.errors import ListenError

if TYPE_CHECKING:
    from netsim.network import SimulatedNetwork


@dataclass(slots=True)
class Traffic:
    """What one node sent to another. messages: requests and responses.  bytes: of their bodies."""

    messages: int = 0
    requests: int = 0
    bytes: int = 0


def address(index: int) -> str:
    """Node 0 is 10.0.0.1, and so on."""
    number = index + 1
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


class SimulatedHost:
    """One node's address: the network seam of a simulated node.

    callable: if not, others' connections to it are refused, as by the router of a home network. It can call.
    hangs: its process is stopped.
    """

    def __init__(self, network: SimulatedNetwork, index: int) -> None:
        self.network = network
        self.index = index
        self.name = address(index)
        self.url = f"http://{self.name}:{PORT}"
        self.callable = True
        self.hangs = False
        self.held: deque[tuple[Parcel, bool]] = (
            deque()
        )  # while it hangs: what came, and what it would send (True)
        self.sequence = 0  # of what it has sent so far
        self.sent: dict[int, Traffic] = {}  # by the receiver's index
        self.listener: tuple[AsgiApp, trio.Nursery] | None = None
        self._resumed = trio.Event()

    def transport(self) -> httpx.AsyncBaseTransport:
        return Transport(self)

    def is_reachable(self) -> bool:
        """A connection to it would be accepted."""
        return self.callable and self.listener is not None

    async def serve(
        self, app: AsgiApp, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Answer requests with `app` until cancelled; started(url). May be called again after that.

        Cancelled, it ends the handlers that run, and their callers see the connection reset, as the kernel of
        a killed process does it; a hung host hangs no longer. An exception from `app` ends the simulation: it
        is a bug of the application. ListenError if the address is served already.
        """
        if self.listener is not None:
            raise ListenError(f"{self.url} is served already")
        self._end_hang(crashed=True)  # a new process is not stopped
        async with trio.open_nursery() as nursery:
            self.listener = (app, nursery)
            try:
                task_status.started(self.url)
                await trio.sleep_forever()
            finally:
                self.listener = None
                self._end_hang(crashed=True)

    def hang(self) -> None:
        """Stop, as a process does on SIGSTOP: the kernel accepts and buffers, but nothing is read or sent.

        Its tasks go on, since they cannot be stopped; what they send waits for resume(). What lasts, such as
        a computation, waits in running().
        """
        if not self.hangs:
            self.hangs = True
            self._resumed = trio.Event()

    def resume(self) -> None:
        """Go on; what had to wait happens now, in its order. Nothing happens if the host does not hang."""
        self._end_hang(crashed=False)

    async def running(self) -> None:
        """Return at once, or when the host goes on."""
        while self.hangs:
            await self._resumed.wait()

    def hold(self, parcel: Parcel, *, outbound: bool = False) -> None:
        """Keep what came, or what would be sent (outbound), until the host goes on."""
        self.held.append((parcel, outbound))

    def _end_hang(self, *, crashed: bool) -> None:
        if not self.hangs:
            return
        self.hangs = False
        self._resumed.set()
        while self.held:
            parcel, outbound = self.held.popleft()
            if outbound:
                if crashed and isinstance(parcel, Response):
                    parcel.exchange.reset()
                elif not parcel.is_void():
                    self.network.dispatch(parcel)
            elif crashed and isinstance(parcel, Request):
                self.network.lose(parcel, "down")
                parcel.exchange.reset()
            else:
                parcel.arrive()

    def count(self, receiver: int, size: int, is_request: bool) -> None:
        traffic = self.sent.get(receiver)
        if traffic is None:
            traffic = self.sent[receiver] = Traffic()
        traffic.messages += 1
        traffic.requests += is_request
        traffic.bytes += size

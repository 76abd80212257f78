"""The simulated network: httpx requests delivered to ASGI applications in virtual time.

Everything on its way is one entry of one queue ordered by (time, sender, the sender's sequence number); one
task delivers. A request's handler runs in the destination's nursery: the caller's deadline does not end it,
the destination's crash does. Bodies travel as the chunks they were given, uncopied.

What happens to a message, in this order:

1. A hung sender's messages wait until it goes on.
2. During a cut between the two it is lost.
3. The links say if it is lost, and how long it takes; of a duplicated request each copy goes its own way.
4. Its bytes pass the limited rates (netsim/bandwidth.py). What was lost takes nothing of them, nor does a
   request to a host that does not listen. If the caller gives up meanwhile, its request breaks off; the
   response does so one latency later.
5. It takes its latency.
6. During a cut between the two it is lost.
7. A request is refused if nobody listens or the host cannot be called. A hung host holds what arrives.

Refusals, resets and the news that a caller has given up take one latency and are subject to cuts, to nothing
else: TCP would repeat them.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import httpx
import trio

from netsim.bandwidth import Sharing
from netsim.exchanges import PORT, AsgiApp, Message, Parcel, Request
from netsim.hosts import SimulatedHost, Traffic, address
from netsim.journal import MessageLost
from netsim.jumping import JumpingClock
from netsim.links import Delivery, Limits, Links, UniformLinks
from p2pfl.errors import SimulationError

__all__ = [
    "PORT",
    "Account",
    "AsgiApp",
    "Links",
    "SimulatedHost",
    "SimulatedNetwork",
    "Traffic",
    "UniformLinks",
    "address",
]


@dataclass(frozen=True)
class Account:
    """What has become of all messages so far: sent = delivered + lost + refused + in_flight.

    sent: by nodes, and the copies of duplicated requests.  delivered: requests to a handler, responses to the
    caller.  refused: requests where nobody listens.  lost: by the causes of MessageLost.
    in_flight: on their way, or held by a hung host.  duplicated, corrupted: how many of those sent were.
    """

    sent: int
    delivered: int
    refused: int
    lost: Mapping[str, int]
    in_flight: int
    duplicated: int
    corrupted: int

    @property
    def balances(self) -> bool:
        return self.sent == self.delivered + self.refused + sum(self.lost.values()) + self.in_flight


class SimulatedNetwork:
    """All nodes' network. Start run() in a nursery before any node.

    lost: called for every message that is neither delivered nor refused, when it gets lost. Its causes are
    "loss"; "cut"; "down": who should get it has crashed, or waits for it no longer; "surplus": an answer to
    the copy of a duplicated request, whose caller has one already.
    """

    def __init__(self, links: Links, lost: Callable[[MessageLost], None] = lambda event: None) -> None:
        self._links = links
        self._report_loss = lost
        self._hosts: dict[str, SimulatedHost] = {}
        self._queue: list[tuple[float, int, int, Parcel]] = []
        self._sharing: Sharing[Message] = Sharing()
        self._set_alarm: Callable[[float], None] | None = None  # while it runs
        self._alarm_time = math.inf
        self._cuts: dict[int, dict[int, int]] = {}  # number -> node -> its part
        self._sent = self._delivered = self._refused = self._duplicated = self._corrupted = 0
        self._lost: Counter[str] = Counter()

    def host(self, index: int) -> SimulatedHost:
        """Node `index`'s network; the same object each time."""
        name = address(index)
        if name not in self._hosts:
            self._hosts[name] = SimulatedHost(self, index)
        return self._hosts[name]

    @property
    def traffic(self) -> dict[tuple[int, int], Traffic]:
        """(sender, receiver) -> what was sent, whether it arrived or not; copies do not count."""
        hosts = self._hosts.values()
        return {(host.index, other): sent for host in hosts for other, sent in host.sent.items()}

    def account(self) -> Account:
        """What has become of all messages so far."""
        held = [parcel for host in self._hosts.values() for parcel, outbound in host.held if not outbound]
        queued = [entry[3] for entry in self._queue]
        on_way = sum(isinstance(parcel, Message) for parcel in queued + held) + len(self._sharing.messages())
        return Account(
            self._sent,
            self._delivered,
            self._refused,
            dict(sorted(self._lost.items())),
            on_way,
            self._duplicated,
            self._corrupted,
        )

    def cut(self, number: int, parts: Sequence[Sequence[int]]) -> None:
        """From now on messages pass only within a part. number: names the cut, for heal().

        parts: node indices; those that none names are one more part. Cuts may overlap.
        """
        part_of = {node: part for part, nodes in enumerate(parts) for node in nodes}
        if number in self._cuts:
            raise ValueError(f"cut {number} has not been healed yet")
        if len(part_of) != sum(map(len, parts)):
            raise ValueError(f"cut {number} has a node in two parts")
        self._cuts[number] = part_of

    def heal(self, number: int) -> None:
        """End a cut. KeyError if there is none of that number."""
        del self._cuts[number]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver messages at their times, until cancelled."""
        clock = trio.lowlevel.current_clock()
        if isinstance(clock, JumpingClock):
            await self._run_on(clock, task_status)
        else:
            await self._run_in_task(task_status)

    async def _run_on(self, clock: JumpingClock, task_status: trio.TaskStatus[None]) -> None:
        """Have the clock deliver: this task sleeps until something fails."""
        task = trio.lowlevel.current_task()
        failure: BaseException | None = None

        def deliver(now: float) -> None:
            nonlocal failure
            try:
                self._deliver(now)
            except BaseException as error:  # noqa: BLE001 - raised below: not in trio's own loop
                failure = error
                trio.lowlevel.reschedule(task)
            else:
                self._alarm_time = clock.alarm_time = self._next_time()

        clock.on_alarm = deliver
        self._set_alarm = partial(setattr, clock, "alarm_time")
        task_status.started()
        try:
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
        finally:
            self._set_alarm = lambda at: None  # callers that are cancelled too say so: nobody hears it
            clock.alarm_time = math.inf
        if failure is not None:
            raise failure

    async def _run_in_task(self, task_status: trio.TaskStatus[None]) -> None:
        """On any other clock: sleep until the next message is due."""
        task = trio.lowlevel.current_task()

        def wake(raise_cancel: object) -> trio.lowlevel.Abort:
            # Without the exception that a cancelled wait usually raises, which costs more than the wait.
            trio.lowlevel.reschedule(task)
            return trio.lowlevel.Abort.FAILED

        task_status.started()
        while True:
            self._alarm_time = self._next_time()
            with trio.CancelScope(deadline=self._alarm_time) as scope:
                self._set_alarm = partial(setattr, scope, "deadline")
                await trio.lowlevel.wait_task_rescheduled(wake)
            if not scope.cancel_called:
                await trio.lowlevel.checkpoint()  # it was not the alarm but the end of the simulation
            self._deliver(trio.current_time())

    def _next_time(self) -> float:
        first = self._queue[0][0] if self._queue else math.inf
        return min(first, self._sharing.next_end())

    def _deliver(self, now: float) -> None:
        """Everything that is due."""
        self._alarm_time = -math.inf  # whoever calls this sets the alarm anew
        for end, message in self._sharing.finished(now):
            self._off_link(message)
            self._push(end + message.delay, message)
        queue = self._queue
        while queue and queue[0][0] <= now:
            parcel = heapq.heappop(queue)[3]
            if not self._cuts or self._connects(parcel):
                parcel.arrive()
            elif isinstance(parcel, Message):
                self.lose(parcel, "cut")

    def find(self, url: httpx.URL) -> SimulatedHost | None:
        """The host with that address, whether it listens or not."""
        return self._hosts.get(url.host) if url.scheme == "http" and url.port == PORT else None

    def dispatch(self, parcel: Parcel) -> None:
        """Let it go, or let the hung host that sends it keep it for later."""
        if parcel.sender.hangs:
            parcel.sender.hold(parcel, outbound=True)
        elif isinstance(parcel, Message):
            self._send(parcel)
        else:
            self.signal(parcel)

    def signal(self, parcel: Parcel) -> None:
        """A refusal, a reset or the like: it arrives one latency from now."""
        latency = self._links.latency(parcel.sender.index, parcel.receiver.index)
        self._push(trio.current_time() + latency, parcel)

    def _send(self, message: Message) -> None:
        sender, receiver = message.sender, message.receiver
        is_request = isinstance(message, Request)
        self._sent += 1
        sender.count(receiver.index, message.size, is_request)
        if self._cuts and not self._connects(message):
            self.lose(message, "cut")
            return
        if not is_request and message.exchange.has_caller_left():
            self.lose(message, "down")
            return
        deliveries = self._links.deliveries(sender.index, receiver.index, is_request)
        if not deliveries:
            self.lose(message, "loss")
            return
        limits = None
        if message.size and sender is not receiver and (not is_request or receiver.is_reachable()):
            limits = self._links.limits(sender.index, receiver.index)
        self._forward(message, deliveries[0], limits)
        for delivery in deliveries[1:]:
            self._sent += 1
            self._duplicated += 1
            self._forward(Request(sender, receiver, message.exchange, message.size), delivery, limits)

    def _forward(self, message: Message, delivery: Delivery, limits: Limits | None) -> None:
        """On to the limited link, or at once to where only the latency is left."""
        message.delay = delivery.delay
        if delivery.flipped is not None and message.size:
            message.flipped = delivery.flipped
            self._corrupted += 1
        now = trio.current_time()
        if limits is None:
            self._push(now + delivery.delay, message)
            return
        sender, receiver = message.sender, message.receiver
        sender.sequence += 1
        message.exchange.under_way.append(message)
        message.transmission = self._sharing.start(
            now, limits, sender.index, receiver.index, sender.sequence, message.size, message
        )
        self._wake_at(self._sharing.next_end())

    def _off_link(self, message: Message) -> None:
        message.exchange.under_way.remove(message)
        message.transmission = None

    def _push(self, time: float, parcel: Parcel) -> None:
        sender = parcel.sender
        sender.sequence += 1
        heapq.heappush(self._queue, (time, sender.index, sender.sequence, parcel))
        self._wake_at(time)

    def _wake_at(self, time: float) -> None:
        if time < self._alarm_time:
            if self._set_alarm is None:
                raise SimulationError("the simulated network does not run")
            self._alarm_time = time
            self._set_alarm(time)

    def _connects(self, parcel: Parcel) -> bool:
        """No cut is between the two ends."""
        sender, receiver = parcel.sender.index, parcel.receiver.index
        return all(part.get(sender, -1) == part.get(receiver, -1) for part in self._cuts.values())

    # -- what becomes of messages

    def delivered(self, message: Message) -> None:
        self._delivered += 1

    def refused(self, message: Message) -> None:
        self._refused += 1

    def lose(self, message: Message, cause: str) -> None:
        """It is neither delivered nor refused. cause: see the class."""
        self._lost[cause] += 1
        sender, receiver = message.sender.index, message.receiver.index
        self._report_loss(MessageLost(sender, receiver, message.kind, message.size, cause))

    def break_off(self, message: Message) -> None:
        """A message whose bytes are passing a limited link is not wanted any more."""
        assert message.transmission is not None
        self._sharing.stop(trio.current_time(), message.transmission)
        self._off_link(message)
        self._wake_at(self._sharing.next_end())
        self.lose(message, "down")

"""A node's own requests: hellos, exchanges and pulls, each with its deadline, each accounted for.

An address that has not answered yet gets a hello first: a small message that shows whether it is a node,
which one, and of the same task, before any weights are sent to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal
from urllib.parse import urlsplit

import numpy as np
import trio

from p2pfl.clock import Clock
from p2pfl.config import GossipMode
from p2pfl.errors import (
    BadAnswer,
    FrameError,
    PeerError,
    Refused,
    TimedOut,
    Unreachable,
    WrongLayout,
    WrongTask,
)
from p2pfl.events import MODEL_MODES, Exchanged, Mode, Observe, PeerAdded, PeerDropped
from p2pfl.gossip import deadlines
from p2pfl.gossip.messages import Ask, Hello, Model, ViewEntry
from p2pfl.gossip.protocol import Gossip
from p2pfl.gossip.view import Contact
from p2pfl.network.client import Admit, PeerClient, Reply
from p2pfl.service import NodeService

# Bytes of a hello, generously; for its deadline only.
HELLO_BYTES = 4096
# Longest wait, in seconds, for requests under way when the node leaves.
LAST_CALLS = 1.0
# Reasons for which a node will never talk to us as we are.
INCOMPATIBLE = (WrongTask.reason, WrongLayout.reason)


class Courier:
    """Runs in the node's nursery; at most one request at a time to each contact."""

    def __init__(
        self,
        gossip: Gossip,
        service: NodeService,
        client: PeerClient,
        clock: Clock,
        observe: Observe,
        nursery: trio.Nursery,
    ) -> None:
        self._gossip = gossip
        self._service = service
        self._client = client
        self._clock = clock
        self._observe = observe
        self._nursery = nursery
        self._round_trip = deadlines.RoundTrip()
        self._partner: Contact | None = None  # of the last settle exchange
        self._owed: list[Contact] = []
        self._under_way = 0
        self._ended = trio.Event()

    def patience(self) -> float:
        """Seconds after which an exchange of one model is given up in any case."""
        return deadlines.longest(4 * self._gossip.layout.size)

    async def greet(self, limit: int | None, rng: np.random.Generator) -> None:
        """Say hello to (at most `limit` random) contacts that have not answered; returns when all ended."""
        strangers = self._gossip.view.strangers(self._clock.now())
        if limit is not None and len(strangers) > limit:
            strangers = [strangers[i] for i in rng.permutation(len(strangers))[:limit]]
        async with trio.open_nursery() as nursery:
            for contact in strangers:
                nursery.start_soon(self.hello, contact)

    def tell(self, fanout: int, mode: GossipMode) -> None:
        """Start exchanges with up to `fanout` random contacts; returns at once."""
        for contact in self._gossip.view.pick(fanout, self._clock.now()):
            self._start(contact, mode)

    async def settle(self) -> None:
        """One push-pull with one random live contact; waits for the reply, at most four usual times.

        Lost contacts are called again meanwhile, and the last partner is not taken again while another may
        come: or nodes that a cut or a lossy link has parted would settle in pairs that never meet. For that
        it waits, no longer than for a reply; if there is nobody at all, as long as an exchange may take.
        """
        gossip, now = self._gossip, self._clock.now
        patience = self._round_trip.deadline(4 * gossip.layout.size)
        for contact in gossip.view.lost(now()):
            self._start(contact, "hello")
        latest = now() + (patience if gossip.view.pick(1, now(), explore=False) else self.patience())
        while (partner := self._another()) is None:
            again = [gossip.view.next_retry(), gossip.view.next_pause(now())]
            until = min([latest, *(time for time in again if time is not None)])
            if until <= now() or not (self._under_way or until < latest):
                break  # there is nobody to wait for
            with self._clock.deadline(max(1e-6, until - now())):
                await self._next_end()
        for contact in [partner] if partner else gossip.view.pick(1, now(), explore=False):
            self._partner = contact
            await self.exchange(contact, "push-pull", patience)

    def _another(self) -> Contact | None:
        """A random contact to settle with that is not the last one; None if there is none now."""
        chosen = self._gossip.view.pick(2, self._clock.now(), explore=False)
        return next((contact for contact in chosen if contact is not self._partner), None)

    def call(self, contact: Contact) -> None:
        """Start a hello to a contact; returns at once."""
        if not contact.busy:
            self._start(contact, "hello")

    def call_strangers(self) -> None:
        """Start a hello to each contact that has not answered and may be called now; returns at once."""
        for contact in self._gossip.view.strangers(self._clock.now()):
            self._start(contact, "hello")

    async def ask_around(self) -> None:
        """Ask a random live contact whom it knows by now."""
        for contact in self._gossip.view.pick(1, self._clock.now(), explore=False):
            await self.hello(contact)

    def announce_done(self, *, to_all: bool) -> None:
        """Tell those who wait for us (to_all: everybody) that this node is done; returns at once."""
        for contact in self._gossip.view.live():
            if not (to_all or contact.awaits_us):
                continue
            if contact.busy:
                self._owed.append(contact)  # told when the request under way has ended
            else:
                self._start(contact, "hello")

    async def finish(self) -> None:
        """Wait for the requests under way, at most LAST_CALLS seconds."""
        with self._clock.deadline(LAST_CALLS):
            while self._under_way:
                await self._next_end()

    async def _next_end(self) -> None:
        """Wait until one of the requests started by tell() or announce_done() ends."""
        self._ended = trio.Event()
        await self._ended.wait()

    async def fetch(self, contact: Contact, models: list[Model]) -> None:
        """Pull a contact's model, whatever it is, and append it to `models`."""
        contact.etag = None
        await self.exchange(contact, "pull", self.patience(), models)

    async def hello(self, contact: Contact) -> bool:
        """Make sure who is at this address; True if it is (now) a live contact."""
        contact.busy = True
        try:
            await self.greeting(contact, deadlines.longest(HELLO_BYTES))
        finally:
            contact.busy = False
        return contact.state == "live" and self._gossip.view.knows(contact)

    async def greeting(
        self,
        contact: Contact,
        seconds: float,
        ask: Ask = "",
        target: ViewEntry | None = None,
        *,
        forgiving: bool = False,
    ) -> Hello | None:
        """A hello and its answer within `seconds`, also beside an exchange with that contact; None if there
        was no answer.

        forgiving: silence is not held against the contact yet, for others may reach it.
        """
        heard: list[Hello] = []

        async def send() -> Reply:
            mine = self._gossip.hello(contact.id, ask=ask, target=target)
            # One that was lost may come back as another: it was restarted without its state.
            to = "" if contact.state in ("unreachable", "refused") else contact.id
            frame = self._gossip.hello_frame(mine, to)
            theirs, reply = await self._client.hello(contact.url, frame, self._admit(contact))
            source = _host(reply, contact)
            contact.verified = theirs.envelope is not None
            self._met(contact, theirs.sender.id, source)
            self._gossip.heard(theirs, source, self._clock.now())
            heard.append(theirs)
            return reply

        took = await self._request(contact, ask or "hello", seconds, send, forgiving=forgiving)
        if not heard:
            return None
        if took is not None and not ask:
            contact.round_trip = contact.round_trip.measured(took)
        return heard[0]

    async def exchange(
        self, contact: Contact, mode: GossipMode, seconds: float, models: list[Model] | None = None
    ) -> None:
        """One exchange within `seconds`; what comes back goes to `models`, or the inbox if that is None."""
        if contact.state == "live" or await self.hello(contact):
            contact.busy = True
            try:
                took = await self._request(contact, mode, seconds, lambda: self._send(contact, mode, models))
            finally:
                contact.busy = False
            if took is not None:
                self._round_trip = self._round_trip.measured(took)

    def _start(self, contact: Contact, mode: GossipMode | Literal["hello"]) -> None:
        """A request in a task of its own; it counts from now on, not only once the task has begun."""
        contact.busy = True
        self._under_way += 1
        self._nursery.start_soon(self._tracked, contact, mode)

    async def _tracked(self, contact: Contact, mode: GossipMode | Literal["hello"]) -> None:
        try:
            if mode == "hello":
                await self.hello(contact)
            else:
                await self.exchange(contact, mode, self.patience())
            if contact in self._owed:
                self._owed.remove(contact)
                await self.hello(contact)
        finally:
            contact.busy = False
            self._under_way -= 1
            self._ended.set()

    async def _request(
        self,
        contact: Contact,
        mode: Mode,
        seconds: float,
        send: Callable[[], Awaitable[Reply]],
        *,
        forgiving: bool = False,
    ) -> float | None:
        """One request, its outcome noted in the view and observed. Raises nothing of a peer's making.

        Returns the seconds it took if it was answered.
        """
        started = self._clock.now()
        reply: Reply | None = None
        error: PeerError | None = None
        try:
            with self._clock.deadline(seconds) as scope:
                reply = await send()
            if scope.cancelled_caught:
                error = TimedOut(f"no answer within {seconds:.1f} s")
        except PeerError as caught:
            error = caught
        took = self._clock.now() - started
        if error is not None and not (forgiving and isinstance(error, TimedOut | Unreachable)):
            self._failed(contact, error)
        elif not contact.is_paused(self._clock.now()):
            contact.detail = ""
        sent, received = (reply.sent, reply.received) if reply else (0, 0)
        contact.bytes_out += sent
        contact.bytes_in += received
        contact.exchanges_out += mode in MODEL_MODES and error is None
        self._observe(
            Exchanged(
                mode=mode,
                peer=contact.id,
                url=contact.url,
                sent=sent,
                received=received,
                got_model=reply is not None and reply.model is not None,
                seconds=took,
                outcome=error.reason if error else "ok",
                detail=str(error) if error else "",
            )
        )
        return took if error is None else None

    async def _send(self, contact: Contact, mode: GossipMode, models: list[Model] | None) -> Reply:
        gossip = self._gossip
        if mode == "pull":
            asking = gossip.pull_frame(contact.id)
            admit = self._admit(contact)
            reply, contact.etag = await self._client.pull(contact.url, contact.etag, asking, admit)
        else:
            frame = gossip.frame(contact.id, wants_reply=mode == "push-pull")
            reply = await self._client.push(contact.url, frame, self._admit(contact))
        if reply.model is not None:
            sender = reply.model.head.sender
            if sender.id != contact.id:
                raise BadAnswer(f"{contact.url} answered as {sender.id[:8]}, not {contact.id[:8]}")
            if models is None:
                gossip.receive(reply.model, _host(reply, contact), self._clock.now())
                self._service.heard_news()
            else:
                models.append(reply.model)
        return reply

    def _admit(self, contact: Contact) -> Admit:
        return partial(self._gossip.admission.answer, must_sign=contact.verified)

    def _met(self, contact: Contact, id: str, source: str) -> None:
        """Somebody answered at this contact's address as `id`."""
        if not self._gossip.view.knows(contact):
            return
        new = contact.state != "live"
        dropped = self._gossip.view.answered(contact, id, source)
        if dropped:
            self._observe(PeerDropped(id, contact.url, dropped))
        elif new:
            self._observe(PeerAdded(id, contact.url))
        self._service.heard_news()

    def _failed(self, contact: Contact, error: PeerError) -> None:
        view, now = self._gossip.view, self._clock.now()
        if isinstance(error, FrameError):  # an answer that we refuse, as we would refuse it as a request
            self._service.reject(error, contact.url, contact.id)
        cause = error.cause if isinstance(error, Refused) else error.reason
        if cause in INCOMPATIBLE:
            if isinstance(error, Refused):
                self._service.reject(error, contact.url, contact.id)
            dropped = view.refused(contact, str(error), now)
        elif isinstance(error, Refused) and error.retry_after is not None:
            dropped = ""
            view.postponed(contact, str(error), now + min(error.retry_after, deadlines.LONGEST_PAUSE))
        else:
            dropped = view.failed(contact, str(error), now)
        if dropped and not contact.recalled:  # else it has been dropped before
            self._observe(PeerDropped(contact.id, contact.url, dropped))
        self._service.heard_news()


def _host(reply: Reply, contact: Contact) -> str:
    """The address that a reply came from: the same text as requests from that node show."""
    return reply.source or urlsplit(contact.url).hostname or ""

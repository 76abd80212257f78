"""A node's membership protocol in time: probes, syncs, and who is dead after all. Runs in the node's nursery.

What it means that somebody answers or does not is gossip/membership.py; how a request goes out is courier.py.
"""

from __future__ import annotations

import numpy as np
import trio

from p2pfl.clock import Clock
from p2pfl.courier import HELLO_BYTES, Courier
from p2pfl.gossip import deadlines
from p2pfl.gossip.addresses import callable_url
from p2pfl.gossip.membership import HEARTBEAT, HELPERS
from p2pfl.gossip.messages import ViewEntry
from p2pfl.gossip.protocol import Gossip
from p2pfl.gossip.view import Contact
from p2pfl.service import NodeService

# Probe periods between syncs; every second one goes to somebody gone or forgotten: that is how a cut heals.
SYNC = 4
# Members probed in a period while there is something to tell: news travels with probes.
PROBES_WITH_NEWS = 2
# Addresses called in a probe period that have not been yet, while there is room in the view and when not.
STRANGERS = 8
STRANGERS_WHEN_FULL = 1
# Probes for others under way at a time; more are not made.
MOST_FAVOURS = 16
# Those who are told that this node leaves.
FAREWELLS = 8


class Prober:
    """period: seconds, of the configuration."""

    def __init__(
        self,
        gossip: Gossip,
        service: NodeService,
        courier: Courier,
        clock: Clock,
        rng: np.random.Generator,
        nursery: trio.Nursery,
        period: float,
    ) -> None:
        self._gossip = gossip
        self._service = service
        self._courier = courier
        self._clock = clock
        self._rng = rng
        self._nursery = nursery
        self._period = period
        self._queue: list[str] = []  # ids still to be probed in this pass through the view
        self._probing: set[str] = set()
        self._favours = 0
        self._beats = 0

    async def run(self) -> None:
        """Once a period, until cancelled; at a moment of its own, so that not all nodes probe at once."""
        self._service.reach = self.reach
        await self._clock.sleep(self._period * self._rng.random())
        while True:
            self._beat()
            await self._clock.sleep(self._period)

    def _beat(self) -> None:
        gossip, now = self._gossip, self._clock.now()
        membership, view = gossip.membership, gossip.view
        membership.forget(view.callable_ids())
        gossip.apply(membership.expire(now))
        self._service.heard_news()
        for member in membership.to_check():
            self._start(member.id)
        if self._beats % (1 + membership.health) == 0:
            for _ in range(PROBES_WITH_NEWS if membership.has_news() else 1):
                if (id := self._next(now)) is not None:
                    self._start(id)
        room = STRANGERS_WHEN_FULL if view.is_full() else STRANGERS
        for stranger in self._strangers(now)[:room]:
            self._courier.call(stranger)
        self._beats += 1
        if self._beats % SYNC == 0:
            self._sync(now, lost=self._beats // SYNC % 2 == 0)
        if not gossip.url and self._beats % HEARTBEAT == 0:
            membership.sign_of_life()

    def _strangers(self, now: float) -> list[Contact]:
        """In random order, first those who called us: or some would be in nobody's view (a shuffle of Cyclon
        hands on whoever begins it, to the same end)."""
        strangers = self._gossip.view.strangers(now)
        shuffled = [strangers[index] for index in self._rng.permutation(len(strangers))]
        return sorted(shuffled, key=lambda contact: not contact.eager)

    # -- probing

    def _next(self, now: float) -> str | None:
        """Round-robin in random order (SWIM, section 4.3), leaving out those just heard of."""
        members, view = self._gossip.membership.members, self._gossip.view
        for _ in range(2):
            while self._queue:
                id = self._queue.pop()
                member, contact = members.get(id), view.known(id)
                if member is None or contact is None or contact.state == "refused" or id in self._probing:
                    continue
                if contact.is_paused(now):
                    continue
                if member.heard_at + self._period <= now:
                    return id
            ids = view.callable_ids()
            self._queue = [ids[index] for index in self._rng.permutation(len(ids))]
        return None

    def _start(self, id: str) -> None:
        if id not in self._probing:
            self._probing.add(id)
            self._nursery.start_soon(self._probe, id)

    async def _probe(self, id: str) -> None:
        """Call it; if it does not answer, have others call it; if nobody reaches it, suspect it."""
        try:
            contact = self._gossip.view.known(id)
            if contact is None:
                return
            if await self._answers(contact, id):
                self._gossip.membership.reached(id, self._clock.now())
                return
            await self._ask_others(contact, id)
            self._service.heard_news()
        finally:
            self._probing.discard(id)

    async def _answers(self, contact: Contact, id: str) -> bool:
        seconds = deadlines.probe(contact.round_trip, self._period) * (1 + self._gossip.membership.health)
        hello = await self._courier.greeting(contact, seconds, forgiving=True)
        if hello is None:  # who asks to be left alone is there
            return contact.is_paused(self._clock.now())
        return hello.sender.id == id

    async def _ask_others(self, target: Contact, id: str) -> None:
        """HELPERS random others call it at the same time; the first that reaches it ends the wait."""
        gossip = self._gossip
        others = [
            contact
            for contact in gossip.view.live()
            if contact.id != id and gossip.membership.standing(contact.id) == "alive"
        ]
        helpers = [others[index] for index in self._rng.permutation(len(others))[:HELPERS]]
        answers: list[bool] = []
        async with trio.open_nursery() as nursery:

            async def ask(helper: Contact) -> None:
                # It waits for an answer too, as long as it thinks right.
                usual = deadlines.probe(helper.round_trip, self._period)
                seconds = (usual + self._period) * (1 + gossip.membership.health)
                favour = ViewEntry(id, target.url)
                hello = await self._courier.greeting(helper, seconds, "probe", favour, forgiving=True)
                if hello is not None:
                    answers.append(hello.reached is True)
                    if hello.reached:
                        nursery.cancel_scope.cancel()

            for helper in helpers:
                nursery.start_soon(ask, helper)
        now = self._clock.now()
        if any(answers):
            change = gossip.membership.vouched(id, now)
        else:
            gossip.view.failed(target, f"neither this node nor {len(helpers)} others reach it", now)
            change = gossip.membership.unreached(id, now, len(helpers) - len(answers), len(helpers))
        if change is not None:
            gossip.apply([change])

    async def reach(self, target: ViewEntry, source: str) -> bool:
        """Probe somebody for the node at `source`, who cannot reach it."""
        contact = self._gossip.view.known(target.id)
        if contact is None:
            if self._favours >= MOST_FAVOURS or not callable_url(target.url, source):
                return False
            contact = Contact(target.url, id=target.id)
        self._favours += 1
        try:
            return await self._answers(contact, target.id)
        finally:
            self._favours -= 1

    # -- syncs

    def _sync(self, now: float, *, lost: bool) -> None:
        """Compare all that is known with one other node; lost: with one that is gone or was forgotten."""
        gossip = self._gossip
        if lost:
            gone = [ViewEntry(member.id, member.url) for member in gossip.membership.gone() if member.url]
            entries = gone + gossip.view.forgotten()
            contacts = [entry for entry in entries if entry.url]
            chosen = gossip.view.recall(contacts[self._rng.integers(len(contacts))]) if contacts else None
        else:
            chosen = next(iter(gossip.view.pick(1, now, explore=False)), None)
        if chosen is not None:
            self._nursery.start_soon(self._compare, chosen)

    async def _compare(self, contact: Contact) -> None:
        seconds = deadlines.longest(HELLO_BYTES)
        await self._courier.greeting(contact, seconds, "sync")

    async def leave(self) -> None:
        """Say farewell to some, who tell the others; waits for their answers."""
        self._gossip.membership.leave()
        contacts = self._gossip.view.live()
        async with trio.open_nursery() as nursery:
            for index in self._rng.permutation(len(contacts))[:FAREWELLS]:
                nursery.start_soon(self._compare, contacts[index])

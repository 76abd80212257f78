"""Whom a node knows: a bounded set of contacts, and whom of them to talk to next.

A contact comes from the user (configured) or from another node's word (announced). An announced address is
called once; it stays only if it answers as the id it was announced for. Only contacts that answered are
passed on. A view of fixed peers holds the configured contacts alone: it learns of no others, forgets none,
and passes none on. Sans-io: times are the node's clock, given by the caller; randomness is the generator
given.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from p2pfl.gossip import deadlines
from p2pfl.gossip.addresses import callable_url
from p2pfl.gossip.fields import MAX_VIEW
from p2pfl.gossip.identity import is_keyed
from p2pfl.gossip.messages import Hello, KnownPeer, ModelHead, NodeState, ViewEntry

ContactState = Literal["new", "live", "unreachable", "refused"]

# Entries of its view that a node passes on with a message: as many as one may carry.
PASSED_ON = MAX_VIEW

# Share of picks that try an address which has not answered yet, once enough others have: exploring costs a
# message, and the view needs to grow and renew itself only slowly.
EXPLORE = 0.25

# Failures in a row after which a contact that once answered is forgotten, unless the user named it.
FORGET_AFTER = 8

# A contact that may be called now: a clock's start is arbitrary, so what it shows may be below any number.
ANY_TIME = -math.inf


NEVER_MEASURED = deadlines.RoundTrip()


@dataclass(eq=False)
class Contact:
    """One address. id: "" until it answered or was announced.  source: the host that it answered from.

    retry_at: not called before this time.  node_state, round, accuracy: what it said last; age: of its
    last model.
    etag: names the snapshot of it that we pulled last.  bytes and exchanges: model exchanges and hellos.
    round_trip: of hellos and probes.  given: it was offered in the last shuffle, and may make room.
    eager: it spoke to us, and was not called since.  recalled: it was in the view before, not yet again.
    verified: what it answered last was signed; what is unsigned is not its answer any more.
    """

    url: str
    id: str = ""
    source: str = ""
    configured: bool = False
    state: ContactState = "new"
    name: str = ""
    node_state: NodeState | None = None
    round: int = 0
    age: float | None = None
    accuracy: float | None = None
    failures: int = 0
    retry_at: float = ANY_TIME
    busy: bool = False
    detail: str = ""
    etag: str | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    exchanges_in: int = 0
    exchanges_out: int = 0
    round_trip: deadlines.RoundTrip = NEVER_MEASURED
    given: bool = False
    eager: bool = False
    recalled: bool = False
    verified: bool = False
    awaits_us: bool = False  # it is done and told us so: it waits to hear the same of us

    def heard(self, message: Hello | ModelHead) -> None:
        """What it says of itself."""
        sender = message.sender
        self.name, self.node_state, self.round = sender.name, sender.state, message.round
        self.accuracy = sender.accuracy
        if isinstance(message, ModelHead):
            self.age = message.age

    def is_paused(self, now: float) -> bool:
        """It is there, and asked to be left alone for a while."""
        return self.state == "live" and self.retry_at > now

    def as_dict(self) -> dict[str, object]:
        """For /v1/peers and /v1/status."""
        return {
            "id": self.id,
            "name": self.name,
            "url": self.url,
            "state": self.state,
            "verified": self.verified,
            "node_state": self.node_state,
            "round": self.round,
            "age": self.age,
            "accuracy": self.accuracy,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "exchanges_in": self.exchanges_in,
            "exchanges_out": self.exchanges_out,
            "failures": self.failures,
            "detail": self.detail,
        }


class View:
    """At most `size` contacts that have answered, and as many that have not been called yet.

    fixed: the configured contacts and no others, however many they are.
    """

    def __init__(
        self,
        own_id: str,
        size: int,
        configured: Iterable[str],
        rng: np.random.Generator,
        *,
        fixed: bool = False,
    ) -> None:
        self._own_id = own_id
        self._own_url = ""
        self._size = size
        self._fixed = fixed
        self._rng = rng
        self._contacts: dict[str, Contact] = {}  # by url
        self._answered: dict[str, Contact] = {}  # by id: those that are live or were
        self._forgotten: deque[ViewEntry] = deque(maxlen=size)  # that once answered, the longest ago first
        self.set_configured(configured)

    def set_configured(self, urls: Iterable[str]) -> list[Contact]:
        """From now on the user names these, in the order given: new ones wait to be called.

        One that is named no longer is a contact like any other; with fixed peers it leaves the view. Returns
        those that left.
        """
        named = dict.fromkeys(url.rstrip("/") for url in urls)
        named.pop(self._own_url, None)
        left = []
        for contact in self.contacts():
            contact.configured = contact.url in named
            if self._fixed and not contact.configured:
                self._drop(contact, "")
                left.append(contact)
        for url in named:
            if url not in self._contacts:
                self._contacts[url] = Contact(url, configured=True)
        return left

    def listens_at(self, url: str) -> None:
        """The node's own address, known once it listens: never a contact."""
        self._own_url = url
        if url in self._contacts:
            self._drop(self._contacts[url], "")

    def remembered(self) -> tuple[KnownPeer, ...]:
        """Those that answered, for the node's next life: at most `size`, forgotten ones if there is room,
        the last forgotten first. Who is killed while cut off from all others finds back all the same."""
        known = {contact.id: contact.url for contact in self._answered.values()}
        for entry in reversed(self.forgotten()):
            if len(known) < self._size and entry.url != self._own_url:
                known.setdefault(entry.id, entry.url)
        return tuple(KnownPeer(id, url) for id, url in known.items())

    def remember(self, peers: Iterable[KnownPeer]) -> None:
        """In a former life these answered at these addresses; they are called again. Fixed peers: nobody."""
        for peer in peers:
            strange = peer.id not in self._answered and peer.url not in self._contacts
            if self._fixed or len(self._answered) >= self._size or peer.id == self._own_id:
                continue
            if peer.url and strange:
                contact = Contact(peer.url, id=peer.id, state="unreachable", detail="not called yet")
                contact.verified = is_keyed(peer.id)  # else it had not got into the view
                self._contacts[peer.url] = self._answered[peer.id] = contact

    def contacts(self) -> list[Contact]:
        return list(self._contacts.values())

    def live(self) -> list[Contact]:
        return [contact for contact in self._contacts.values() if contact.state == "live"]

    def known(self, id: str) -> Contact | None:
        """The contact that answered as `id`."""
        return self._answered.get(id)

    def knows(self, contact: Contact) -> bool:
        """Whether this very contact is still in the view (a call in flight may outlive it)."""
        return self._contacts.get(contact.url) is contact

    def passed_on(self) -> tuple[ViewEntry, ...]:
        """Up to PASSED_ON random contacts that answered.

        None of fixed ones: whoever draws a graph by hand does not want its nodes introduced to each other,
        not even those that would listen.
        """
        if self._fixed:
            return ()
        live = self.live()
        if len(live) > PASSED_ON:
            live = self._sample(live, PASSED_ON)
        return tuple(ViewEntry(contact.id, contact.url) for contact in live)

    def offer(self) -> tuple[ViewEntry, ...]:
        """As passed_on(), for a shuffle: these are the first to make room for what comes back (Cyclon:
        Voulgaris et al. 2005)."""
        offered = self.passed_on()
        for contact in self._answered.values():
            contact.given = False
        for entry in offered:
            self._answered[entry.id].given = True
        return offered

    def is_full(self) -> bool:
        """Whoever enters it displaces another."""
        return not self._fixed and len(self._answered) >= self._size

    def callable_ids(self) -> list[str]:
        """Of those that answered."""
        return list(self._answered)

    def forgotten(self) -> list[ViewEntry]:
        """Those that answered once, and are not in the view any more."""
        return [entry for entry in self._forgotten if entry.url not in self._contacts]

    def recall(self, entry: ViewEntry) -> Contact | None:
        """Call one that was in the view before, or is; None if that may not be."""
        contact = self._answered.get(entry.id) or self._contacts.get(entry.url)
        if contact is None and not self._fixed and entry.url not in ("", self._own_url):
            contact = self._contacts[entry.url] = Contact(entry.url, id=entry.id, recalled=True)
        return contact if contact is not None and not contact.busy else None

    def gone(self, id: str) -> None:
        """This node is dead or has left: it leaves the view, unless the user named it."""
        contact = self._answered.get(id)
        if contact is None:
            return
        if contact.configured or self._fixed:
            contact.state = "unreachable"
        else:
            self._drop(contact, "")

    def announced(self, id: str, url: str, source: str) -> bool:
        """Somebody at `source` named this node; True if it is a new address to call."""
        if self._fixed or id == self._own_id or not url or url == self._own_url:
            return False
        known = self._answered.get(id)  # of one that is not live this may be the new address
        if url in self._contacts or (known is not None and known.state == "live"):
            return False
        if not callable_url(url, source):
            return False
        waiting = [
            c.url for c in self._contacts.values() if c.state == "new" and not (c.configured or c.busy)
        ]
        if len(waiting) >= self._size:  # whoever floods us displaces a random one, not the oldest
            del self._contacts[waiting[self._rng.integers(len(waiting))]]
        self._contacts[url] = Contact(url, id=id)
        return True

    def spoke(self, url: str) -> None:
        """A node of our task spoke, and says that it listens at `url`: a contact is tried again at once."""
        contact = self._contacts.get(url)
        if contact is not None and contact.state != "live":  # a live one asked to be left alone
            contact.retry_at = ANY_TIME
            contact.eager = True

    def pick(self, count: int, now: float, *, explore: bool = True) -> list[Contact]:
        """Up to `count` random contacts to exchange with: not busy, not backing off.

        explore: now and then one that has not answered yet; otherwise such only for want of live ones.
        """
        due = [c for c in self._contacts.values() if not c.busy and c.retry_at <= now]
        tried = self._sample([c for c in due if c.state == "live"], count)
        fresh = self._sample([c for c in due if c.state != "live"], count)
        chosen: list[Contact] = []
        while len(chosen) < count and (tried or fresh):
            try_fresh = not tried or (fresh and explore and self._rng.random() < EXPLORE)
            chosen.append(fresh.pop() if try_fresh else tried.pop())
        return chosen

    def strangers(self, now: float) -> list[Contact]:
        """Contacts that have not answered (any more) and may be called now."""
        return [c for c in self._contacts.values() if c.state != "live" and not c.busy and c.retry_at <= now]

    def lost(self, now: float) -> list[Contact]:
        """Strangers that answered once or that the user named: most likely they will answer again."""
        return [c for c in self.strangers(now) if c.state == "unreachable" or c.configured]

    def next_retry(self) -> float | None:
        """When the next contact that is not live may be called; None if there is none."""
        times = [c.retry_at for c in self._contacts.values() if c.state != "live" and not c.busy]
        return min(times, default=None)

    def next_pause(self, now: float) -> float | None:
        """When the next live contact that asked to be left alone may be called; None if there is none."""
        times = [c.retry_at for c in self._contacts.values() if c.is_paused(now)]
        return min(times, default=None)

    def answered(self, contact: Contact, id: str, source: str) -> str:
        """`contact` answered as `id` from address `source`.

        Returns "" if it is (now) live, else why it left the view.
        """
        if not self.knows(contact):
            return "it had left the view"
        if id == self._own_id:
            return self._drop(contact, "it is this node")
        # One that answered before may come back as another: it was restarted without its state.
        if contact.state == "new" and contact.id and contact.id != id and not contact.configured:
            return self._drop(contact, f"announced as {contact.id[:8]}, answers as {id[:8]}")
        twin = self._answered.get(id)
        if twin is not None and twin is not contact:
            if twin.state == "live":
                return self._drop(contact, f"the same node as {twin.url}")
            if self._fixed:  # its place is kept for whoever comes to be there
                del self._answered[id]
                twin.id, twin.state = "", "new"
            else:
                self._drop(twin, f"moved to {contact.url}")
        if contact.id not in self._answered:
            self._make_room()
        self._answered.pop(contact.id, None)
        self._answered[id] = contact
        if contact.state != "live":  # a live one may have asked to be left alone
            contact.retry_at, contact.detail = ANY_TIME, ""
        contact.id, contact.source, contact.state = id, source, "live"
        contact.eager = False
        contact.failures = 0
        return ""

    def failed(self, contact: Contact, detail: str, now: float) -> str:
        """`contact` could not be reached: leave it alone for a while. Returns why if it left the view."""
        if not self.knows(contact):
            return ""
        contact.failures += 1
        contact.detail = detail
        contact.retry_at = now + deadlines.backoff(contact.failures, self._rng.random())
        if not contact.configured and (contact.state == "new" or contact.failures >= FORGET_AFTER):
            return self._drop(contact, detail)
        if contact.state in ("live", "unreachable"):
            contact.state = "unreachable"
        return ""

    def postponed(self, contact: Contact, detail: str, until: float) -> None:
        """`contact` is there and asks to be left alone until then: no failure, and no reason to forget it."""
        contact.detail = detail
        contact.retry_at = until

    def refused(self, contact: Contact, detail: str, now: float) -> str:
        """`contact` is of another task or model: it leaves the view, unless the user named it.

        Returns why if it left.
        """
        if not self.knows(contact):
            return ""
        if not contact.configured:
            return self._drop(contact, detail)
        self._answered.pop(contact.id, None)
        contact.state, contact.detail = "refused", detail
        contact.retry_at = now + deadlines.REFUSED_RETRY
        return ""

    def _drop(self, contact: Contact, why: str) -> str:
        if self.knows(contact):
            del self._contacts[contact.url]
        if self._answered.get(contact.id) is contact:
            del self._answered[contact.id]
            self._forgotten.append(ViewEntry(contact.id, contact.url))
        return why

    def _sample(self, contacts: list[Contact], count: int) -> list[Contact]:
        """Up to `count` of them in random order."""
        return [contacts[i] for i in self._rng.permutation(len(contacts))[:count]]

    def _make_room(self) -> None:
        """Forget one that answered before, so that at most `size` do: an unreachable one if there is one, or
        one that went to the partner of the last shuffle."""
        if self._fixed or len(self._answered) < self._size:
            return
        held = [contact for contact in self._answered.values() if not contact.busy]
        removable = [c for c in held if not c.configured] or held
        removable = (
            [c for c in removable if c.state == "unreachable"]
            or [c for c in removable if c.given]
            or removable
        )
        if removable:
            self._drop(removable[self._rng.integers(len(removable))], "replaced")

"""Who is alive: SWIM (Das et al. 2002) with suspicion, incarnations, and Lifeguard (Dadgar et al. 2018).

    probe a member -> no answer -> ask others to probe it -> none reached it -> suspect it, tell others
    suspect -> its timer runs out -> call it ourselves -> no answer -> dead, tell others
    suspect or dead -> it hears so -> it raises its incarnation, tells others -> alive

A rumour alone removes nobody: a node that can be called is dead for us only if our own probe of it failed
since we began to suspect it, and whoever answers us is alive. So a liar, or a node whose own network is bad,
does no harm to others. What spreads, spreads on messages that are sent anyway.

Members are those whom the view holds, and those who call us and cannot be called: a view that holds everybody
is full membership. Of the dead as many are remembered as may live. Sans-io: times are the node's clock, given
by the caller; randomness is the generator given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from p2pfl.gossip.messages import NodeState, Rumour, Standing

# Others asked to probe a member that did not answer (SWIM's k; memberlist: 3).
HELPERS = 3
# Independent accusers after which a suspicion's timer is at its shortest (Lifeguard's K).
ACCUSERS = 3
# A suspicion's timer in probe periods: at its shortest this, times log10 of the members, ...
SUSPICION = 2.0
# ... and so many times that while nobody else has the suspicion (memberlist: 6).
SUSPICION_STRETCH = 4.0
# A rumour is told this many times log10 of the members (memberlist: 4).
RETELLING = 4
# Rumours told with a message that is sent for something else.
PIGGYBACKED = 16
# About so many of those who hear of a suspicion call the suspect themselves.
CHECKS = 8
# Lifeguard's local health: how far a node that hears too little slows its own probing down.
WORST_HEALTH = 8
# Who cannot be called tells anew that it is alive after so many probe periods, and is suspected after ...
HEARTBEAT = 10
# ... so many without a word of it.
SILENCE = 4 * HEARTBEAT
# A claim about ourselves is outbid if it is not further ahead than this: nobody can run us out of numbers.
MOST_AHEAD = 2**20


@dataclass(eq=False)
class Member:
    """url: "" if it cannot be called.  heard_at: when it last spoke to us, or was told anew to be alive.

    accusers: ids of who suspects it, in order.  failed: our own probe failed since it became suspect.
    claimed: somebody says that it is gone.  check: it is to be probed, whatever the round-robin says.
    grievance: what is still said of it though it spoke to us; it should hear that, and object.
    state: what it said of its training.
    """

    id: str
    url: str
    start: int
    refuted: int
    heard_at: float
    standing: Standing = "alive"
    suspected_at: float = 0.0
    accusers: list[str] = field(default_factory=list)
    failed: bool = False
    claimed: Standing | None = None
    check: bool = False
    grievance: Rumour | None = None
    state: NodeState | None = None

    @property
    def incarnation(self) -> tuple[int, int]:
        return self.start, self.refuted


class Change(NamedTuple):
    """A member's standing has changed. new: we did not know of it."""

    member: Member
    standing: Standing
    new: bool = False


@dataclass
class _Told:
    rumour: Rumour
    times: int = 0


class Membership:
    """limit: most dead that are remembered.  period: seconds between a healthy node's probes.

    start: this node's incarnation, higher with each of its starts.
    """

    def __init__(
        self, own_id: str, *, start: int, limit: int, period: float, rng: np.random.Generator
    ) -> None:
        self.members: dict[str, Member] = {}
        # Lifeguard's local health: 0 is well. It grows while we seem to be the one that does not hear: then
        # we probe less often, wait longer for answers and are slower to believe that somebody is dead.
        self.health = 0
        self._own_id = own_id
        self._start = start
        self._refuted = 0
        self._leaving = False
        self._limit = limit
        self._period = period
        self._rng = rng
        self._gone: dict[str, Member] = {}  # dead or left, the longest gone first
        self._told: dict[str, _Told] = {}  # by the id that they are about

    # -- what we know

    def uncallable(self) -> list[Member]:
        return [member for member in self.members.values() if not member.url]

    def gone(self) -> list[Member]:
        """Those that died or left, the longest gone first."""
        return list(self._gone.values())

    def standing(self, id: str) -> Standing | None:
        """None of an id that we know nothing of."""
        member = self.members.get(id) or self._gone.get(id)
        return member.standing if member else None

    def suspicion(self, accusers: int) -> float:
        """Seconds from a suspicion to its end: shorter the more independent accusers agree.

        Lifeguard, section 3.B (dynamic suspicion): max(min, max - (max - min) log(c + 1) / log(k + 1)).
        """
        shortest = SUSPICION * max(1.0, math.log10(len(self.members) + 1)) * self._period
        longest = SUSPICION_STRETCH * shortest
        share = math.log(max(0, accusers - 1) + 1) / math.log(ACCUSERS)
        return max(shortest, longest - (longest - shortest) * share)

    # -- what we hear

    def heard(self, id: str, url: str, now: float) -> Change | None:
        """This node spoke to us, beyond doubt: it is alive."""
        if id == self._own_id:
            return None
        member = self.members.get(id) or self._gone.pop(id, None) or Member(id, url, 0, 0, now)
        member.url, member.heard_at = url, now
        if member.standing != "alive":
            member.grievance = _rumour(member)
        if id in self.members:
            return self._acquit(member) if member.standing == "suspect" else None
        self.members[id] = member
        self._clear(member)
        self._tell(_rumour(member))
        return Change(member, "alive", new=True)

    def introduced(self, rumour: Rumour) -> Change | None:
        """What a node that spoke to us, beyond doubt, says of itself; after heard()."""
        member = self.members.get(rumour.id)
        if member is None:
            return None
        if rumour.standing == "left":
            member.start, member.refuted = rumour.incarnation
            return self._bury(member, "left")
        if rumour.incarnation != member.incarnation:
            newer = rumour.incarnation > member.incarnation
            # Its own word, also where it is less than what others made us believe.
            member.start, member.refuted = rumour.incarnation
            if newer:
                member.grievance = None
                self._tell(_rumour(member))
        return None

    def told(self, rumours: Iterable[Rumour], now: float) -> list[Change]:
        """What somebody says of others, and of us."""
        changes = []
        for rumour in rumours:
            if rumour.id == self._own_id:
                self._defend(rumour)
            elif (change := self._weigh(rumour, now)) is not None:
                changes.append(change)
        return changes

    def is_news_of_return(self, rumour: Rumour) -> bool:
        """Whether somebody whom we hold for gone, or do not know, is said to be alive."""
        gone = self._gone.get(rumour.id)
        if rumour.standing != "alive" or rumour.id in self.members:
            return False
        return gone is None or rumour.incarnation > gone.incarnation

    def _weigh(self, rumour: Rumour, now: float) -> Change | None:
        member = self.members.get(rumour.id)
        if member is None or rumour.incarnation < member.incarnation:
            return None
        newer = rumour.incarnation > member.incarnation
        if newer:
            member.start, member.refuted = rumour.incarnation
        if rumour.standing == "alive":
            if not newer:
                return None
            self._tell(rumour)
            if not member.url:
                member.heard_at = now
            return self._acquit(member) if member.standing == "suspect" else None
        if newer:
            self._clear(member)  # what we suspected was an older life
        if rumour.standing != "suspect":
            member.claimed = rumour.standing
        return self._suspect(member, rumour.by, now, certain=rumour.standing != "suspect")

    def _suspect(self, member: Member, accuser: str, now: float, *, certain: bool = False) -> Change | None:
        """certain: it is told to be gone for good, and whoever hears that looks for itself."""
        first = member.standing == "alive"
        if first:
            member.standing, member.suspected_at = "suspect", now
            member.accusers, member.failed = [], False
        fresh = accuser not in member.accusers and len(member.accusers) < ACCUSERS
        if fresh:
            member.accusers.append(accuser)
        share = 1.0 if certain else CHECKS / max(1, len(self.members))
        if accuser != self._own_id and (first or certain) and not member.failed and member.url:
            member.check = member.check or self._rng.random() < share
        if fresh and accuser:
            self._tell(_rumour(member, by=accuser))
        return Change(member, "suspect") if first else None

    def _defend(self, rumour: Rumour) -> None:
        """Somebody says that we are not alive: raise the incarnation above what was said."""
        if rumour.standing == "alive" or self._leaving or rumour.start != self._start:
            return
        if self._refuted <= rumour.refuted < self._refuted + MOST_AHEAD:
            self._refuted = rumour.refuted + 1
            self._worsen()

    # -- what we find out

    def reached(self, id: str, now: float) -> None:
        """A probe of this member was answered, to us or to whom we asked."""
        self.health = max(0, self.health - 1)
        member = self.members.get(id)
        if member is not None:
            member.heard_at, member.check = now, False

    def vouched(self, id: str, now: float) -> Change | None:
        """Somebody whom we asked says that it reached this member."""
        member = self.members.get(id)
        self.reached(id, now)
        if member is None or member.standing != "suspect":
            return None
        member.failed = False  # the path from us to it is what fails
        return self._acquit(member)

    def unreached(self, id: str, now: float, silent_helpers: int, helpers: int) -> Change | None:
        """Neither we nor `helpers` others, of which some said nothing at all, reached this member.

        Helpers that answer, even that they failed too, show that it is not our own network (Lifeguard, 3.A).
        """
        if 2 * silent_helpers >= helpers:
            self._worsen()
        member = self.members.get(id)
        if member is None:
            return None
        if member.claimed is not None:  # what others say, and we saw for ourselves
            return self._bury(member, member.claimed)
        change = self._suspect(member, self._own_id, now)
        member.failed, member.check = True, False
        return change

    def expire(self, now: float) -> list[Change]:
        """Let timers run out: suspects die, or are to be called once more; the silent become suspects."""
        changes = []
        for member in list(self.members.values()):
            if member.standing == "suspect":
                if now < member.suspected_at + self.suspicion(len(member.accusers)) * (1 + self.health):
                    continue
                if member.url and not member.failed:
                    member.check = True
                else:
                    changes.append(self._bury(member, "dead"))
            elif not member.url and now > member.heard_at + SILENCE * self._period:
                changes += filter(None, [self._suspect(member, self._own_id, now)])
        return changes

    def to_check(self) -> list[Member]:
        """Members that we have reason to call now."""
        return [member for member in self.members.values() if member.check]

    def forget(self, known: Iterable[str]) -> None:
        """Keep, of those that can be called, only the ids in `known`: the others have left the view."""
        keep = set(known)
        for id in [id for id, member in self.members.items() if member.url and id not in keep]:
            del self.members[id]
            self._told.pop(id, None)

    # -- what we say

    def own(self, url: str) -> Rumour:
        """What we say of ourselves, with every message."""
        standing: Standing = "left" if self._leaving else "alive"
        return Rumour(self._own_id, url, standing, self._start, self._refuted)

    def sign_of_life(self) -> None:
        """We cannot be called, and live: so others hear of a newer incarnation of ours."""
        self._refuted += 1

    def leave(self) -> None:
        """From now on we say of ourselves that we have left."""
        self._leaving = True

    def has_news(self) -> bool:
        """There is something to tell others."""
        return bool(self._told)

    def news(self, own_url: str, to: str = "") -> tuple[Rumour, ...]:
        """What goes with a message to the node `to`: of ourselves, of it if we think ill of it, and what has
        been told least often."""
        told = [self.own(own_url)]
        if (ill := self._ill_of(to)) is not None:
            told.append(ill)
        if self._told:
            most = math.ceil(RETELLING * max(1.0, math.log10(len(self.members) + 1)))
            for item in sorted(self._told.values(), key=_times)[:PIGGYBACKED]:
                told.append(item.rumour)
                item.times += 1
                if item.times >= most:
                    del self._told[item.rumour.id]
        return tuple(told)

    def everything(self, own_url: str, most: int, to: str = "") -> tuple[Rumour, ...]:
        """Up to `most` rumours, for a sync: about us, about `to`, and of a random part of all we know."""
        told = [self.own(own_url)]
        if (ill := self._ill_of(to)) is not None:
            told.append(ill)
        known = [*self.members.values(), *self._gone.values()]
        for index in self._rng.permutation(len(known))[: most - len(told)]:
            told.append(_rumour(known[index]))
        return tuple(told)

    def _ill_of(self, id: str) -> Rumour | None:
        """What a member should hear of itself (Lifeguard's buddy system), so that it can object."""
        member = self.members.get(id) or self._gone.get(id)
        if member is None or member.standing == "alive":
            return member.grievance if member is not None else None
        return _rumour(member)

    def _tell(self, rumour: Rumour) -> None:
        """To be told to others; what was to be told about the same node no longer is."""
        self._told[rumour.id] = _Told(rumour)

    # -- small steps

    def _acquit(self, member: Member) -> Change:
        self._clear(member)
        return Change(member, "alive")

    def _clear(self, member: Member) -> None:
        member.standing, member.accusers = "alive", []
        member.failed = member.check = False
        member.claimed = None

    def _bury(self, member: Member, standing: Standing) -> Change:
        self.members.pop(member.id, None)
        member.standing, member.check = standing, False
        self._gone.pop(member.id, None)
        self._gone[member.id] = member
        while len(self._gone) > self._limit:
            del self._gone[next(iter(self._gone))]
        self._tell(_rumour(member))
        return Change(member, standing)

    def _worsen(self) -> None:
        self.health = min(WORST_HEALTH, self.health + 1)


def _rumour(member: Member, *, by: str = "") -> Rumour:
    if member.standing == "suspect" and not by:
        by = next((accuser for accuser in member.accusers if accuser), "")
    return Rumour(member.id, member.url, member.standing, member.start, member.refuted, by)


def _times(item: _Told) -> int:
    return item.times

"""The gossip of one node as a value that is told what happened and asked what to say. Sans-io.

It holds the node's own model (weights, age, round, version), its inbox and its view. It performs nothing:
node.py trains, sends and sleeps; service.py answers requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from p2pfl.config import GossipConfig
from p2pfl.gossip import merge
from p2pfl.gossip.addresses import complete
from p2pfl.gossip.admission import Admission
from p2pfl.gossip.codec import Payload, encode_hello, encode_model, encode_pull, encode_weights
from p2pfl.gossip.fields import MAX_COUNT, MAX_NEWS
from p2pfl.gossip.identity import Identity, is_keyed
from p2pfl.gossip.inbox import Inbox, Unmerged, capacity_for
from p2pfl.gossip.membership import Change, Membership
from p2pfl.gossip.messages import (
    Ask,
    Envelope,
    Hello,
    KnownPeer,
    Layout,
    Model,
    ModelHead,
    NodeState,
    Pull,
    Rumour,
    Sender,
    Statement,
    Task,
    Vector,
    ViewEntry,
)
from p2pfl.gossip.quorum import TooFew, check_attainable
from p2pfl.gossip.repeats import Repeats
from p2pfl.gossip.snapshot import all_finite
from p2pfl.gossip.view import PASSED_ON, Contact, View

# Models of which a median bears one liar; a node with a robust rule starts from no fewer.
JOIN_QUORUM = 3
# Senders of whom a checkpoint keeps what they have signed last, besides those of the view.
KEPT_SENDERS = 256


@dataclass(frozen=True)
class Merge:
    """What a merge did. senders: ids in the order of weights[1:]; weights[0] is the own share.

    fresh: one of the senders still trained, so that its last round is in what it sent.
    unmerged: what else was received since the Merge before this one.
    clipped: of how many senders the age or the sample count was beyond belief, and clipped.
    """

    senders: tuple[str, ...]
    weights: tuple[float, ...]
    age_before: float
    age: float
    fresh: bool
    unmerged: Unmerged
    clipped: int = 0


class Gossip:
    """weights: (P,) float32; never modified in place, so that snapshots and exchanges may share it.

    identity: signs all that is said; None: nothing is signed.  admission: whose messages may be heard.
    """

    def __init__(
        self,
        config: GossipConfig,
        *,
        id: str,
        name: str,
        task: Task,
        layout: Layout,
        weights: Vector,
        samples: int,
        peers: tuple[str, ...],
        rng: np.random.Generator,
        incarnation: int = 0,
        identity: Identity | None = None,
        admission: Admission | None = None,
    ) -> None:
        self.id = id
        self.name = name
        self.task = task
        self.layout = layout
        self.samples = samples
        self.weights = weights
        self.age = 0.0
        self.round = 0
        self.version = 0
        self.state: NodeState = "waiting"
        self.accuracy: float | None = None  # that peers are told of; nobody is while it is None
        self.url = ""
        self.view = View(id, config.view_size, peers, rng, fixed=config.fixed_peers)
        self.membership = Membership(
            id, start=incarnation, limit=config.view_size, period=config.probe_interval, rng=rng.spawn(1)[0]
        )
        self.changes: list[Change] = []  # of the membership, since whoever reports them took them over
        self.admission = Admission(id) if admission is None else admission
        self.admission.replays.kept = lambda id: self.view.known(id) is not None
        self._identity = identity
        self.watch_merge: Callable[[Vector, list[Vector]], None] | None = None  # of real nodes, before each
        self.kept_own = 0  # times that a robust rule had too few models and kept the own weights
        self.configure(config)
        self._told_of = 0  # arrivals in the inbox when too few were told of last
        self.inbox = Inbox(capacity_for(layout.size))
        self._repeats = Repeats()
        self._base: tuple[Vector, float] | None = None  # weights and age before the training just done
        self._payload: Payload | None = None
        self._published = Statement(weights, 0.0, 0, samples)  # the snapshot
        self._raw = False  # the snapshot is of a training round, nothing has been merged into it since

    def configure(self, config: GossipConfig) -> None:
        """From now on merge and encode as this says. ConfigError for a merge rule that could never merge."""
        check_attainable(config, self.layout.size)
        self._config, self._rule = config, config.rule

    # -- own model

    def resume(self, weights: Vector, age: float, round: int, version: int) -> None:
        """Go on from a checkpoint."""
        self.weights, self.age, self.round, self.version = weights, age, round, version
        self.publish()

    def remembered(self) -> tuple[KnownPeer, ...]:
        """For the node's next life: those that answered, and the newest that was heard of each that signs."""
        replays = self.admission.replays
        known = {peer.id: peer for peer in self.view.remembered()}
        for id in replays.latest(KEPT_SENDERS):
            known.setdefault(id, KnownPeer(id, ""))
        return tuple(KnownPeer(id, peer.url, *replays.newest(id)) for id, peer in known.items())

    def remember(self, peers: Iterable[KnownPeer]) -> None:
        """What remembered() gave in a former life."""
        peers = tuple(peers)
        signed = [peer for peer in peers if is_keyed(peer.id)]
        self.admission.replays.restore((peer.id, peer.incarnation, peer.counter) for peer in signed)
        self.view.remember(peers)

    def join(self, models: list[Model]) -> bool:
        """Start from the median of some peers' models: weights and age, never the round.

        False (nothing done) if none of them has trained, or their median overflows; with a robust rule also
        if fewer than JOIN_QUORUM have.
        """
        models = [model for model in models if model.head.age > 0]
        if len(models) < (JOIN_QUORUM if self._rule.robust else 1):
            return False
        median = merge.coordinate_median([model.weights for model in models])
        if not all_finite(median):
            return False
        self.weights = median
        self.age = float(np.median([model.head.age for model in models]))
        self.publish()
        return True

    def trained(self, weights: Vector, samples: int) -> None:
        """Local training went from the own weights to `weights` over `samples` samples."""
        self._base = (self.weights, self.age)
        self.weights = weights
        self.age += samples
        self.round += 1

    def merge(self) -> Merge | TooFew | None:
        """Merge the own model with the inbox; None if there was nothing new in it.

        If the result overflows, the own model is kept: it then has the whole weight in the Merge returned.

        What arrived while the node trained meets the weights that training started from, and what training
        did is added: rule(base, inbox) + (own - base). This is D-PSGD's step (Lian et al. 2017, algorithm 1),
        whose exchange and gradient overlap in just this way. Averaging the trained weights with models that
        are a round of training behind would undo most of that round (docs/adr/0004-merge-at-the-base.md).

        A robust rule that has too few models keeps the own weights, and the others wait for more
        (docs/adr/0009-robust-rules-wait.md).
        """
        waiting = self.inbox.waiting()
        models = self._repeats.news(waiting)
        lags = [self._lag(model.head) for model in models]
        enough = self._rule.fewest
        if models and (count := 1 + lags.count(0)) < enough:
            return self._wait(waiting, models, TooFew(count, enough))
        self.inbox.drain()
        self.inbox.unmerged.repeated += len(waiting) - len(models)
        if not models:
            return None
        self._repeats.remember(models)
        before, (base, base_age) = self.age, self._base or (self.weights, self.age)
        change = None if self._base is None else (self.weights, base)
        own = merge.Own(base, base_age, self.samples)
        if self.watch_merge is not None:
            self.watch_merge(base, [model.weights for model in models])
        merged = merge.merge_models(self._rule, own, models, lags, change)
        shares = merged.shares
        if all_finite(merged.weights):
            self.weights = merged.weights
            self.age = merged.age + (before - base_age)
        else:  # finite models may still overflow in sum; what cannot be represented is not taken over
            shares = np.eye(1, len(shares))[0]
        self._base = None
        heads = [model.head for model in models]
        clipped = merge.clipped(
            [base_age, *(head.age for head in heads)], [self.samples, *(head.samples for head in heads)]
        )
        senders = tuple(head.sender.id for head in heads)
        fresh = any(model.head.sender.state == "training" for model in merged.taken)
        unmerged, self.inbox.unmerged = self.inbox.unmerged, Unmerged()
        weights = tuple(float(share) for share in shares)
        return Merge(senders, weights, before, self.age, fresh, unmerged, clipped)

    def _wait(self, waiting: list[Model], models: list[Model], short: TooFew) -> TooFew | None:
        """Only news stays in the inbox; None if nothing has come since this was told last."""
        repeated = [model for model in waiting if all(model is not other for other in models)]
        self.inbox.remove(repeated)
        self.inbox.unmerged.repeated += len(repeated)
        if self.inbox.arrivals == self._told_of:
            return None
        self._told_of = self.inbox.arrivals
        self.kept_own += 1
        return short

    def _lag(self, head: ModelHead) -> int:
        """Rounds by which a model is behind our own: 0 unless we have trained to the end and its sender still
        trains. The last node that trains would draw all others to its own data (docs/adr/0005)."""
        trained_out = self.state in ("settling", "done") and head.sender.state == "training"
        return max(0, self.round - head.round) if trained_out else 0

    def publish(self) -> None:
        """From now on peers get the present weights."""
        self.version += 1
        self._base = None
        statement = self.statement()
        if self._published.weights is not statement.weights:
            self._payload = None
        self._published = statement
        self._raw = self.state == "training"

    def statement(self) -> Statement:
        """What publish() lets peers have: the node's own model, as it is."""
        return Statement(self.weights, self.age, self.round, self.samples)

    # -- what to say

    def frame(self, to: str = "", re: bytes = b"", *, wants_reply: bool = False) -> tuple[bytes, memoryview]:
        """The published snapshot as a model frame: head and weights.

        to: the receiver's id, "" if nobody knows it.  re: the imprint of the request that this answers.
        """
        head = replace(self._head(wants_reply=wants_reply), envelope=self._envelope(to, re))
        return encode_model(head, self._encoded(), self._sign)

    def hello_frame(self, hello: Hello, to: str = "", re: bytes = b"") -> bytes:
        """What hello() gave. to, re: as of a frame."""
        return encode_hello(replace(hello, envelope=self._envelope(to, re)), self._sign)

    def pull_frame(self, to: str) -> bytes | None:
        """Says for whom a model is pulled; None from a node that does not sign."""
        if self._identity is None:
            return None
        pull = Pull(self.id, self._identity.nonce(), self._envelope(to, b""))
        return encode_pull(pull, self._sign)

    @property
    def merge_rule(self) -> str:
        return self._config.merge

    @property
    def signs(self) -> bool:
        return self._identity is not None

    def _envelope(self, to: str, re: bytes) -> Envelope | None:
        return None if self._identity is None else self._identity.envelope(to, re)

    def _sign(self, head: bytes) -> bytes:
        assert self._identity is not None, "only what has an envelope is signed"
        return self._identity.sign(head)

    def _head(self, *, wants_reply: bool) -> ModelHead:
        published, sender = self._published, self.sender()
        if self._raw and self.state == "settling":  # its last round: whoever is done has to spread it
            sender = replace(sender, state="training")
        return ModelHead(
            sender=sender,
            task=self.task,
            fingerprint=self.layout.fingerprint,
            version=self.version,
            round=published.round,
            age=published.age,
            samples=published.samples,
            wants_reply=wants_reply,
            view=self.view.passed_on(),
            news=self.membership.news(self.url),
        )

    def check_head_fits(self) -> None:
        """DataError if task and sender leave no room in a frame's head for a view of the longest urls."""
        host = ".".join(["x" * 59] * 4)
        id, url = "x" * 64, f"https://{host}:65535"
        rumour = Rumour(id, url, "suspect", MAX_COUNT, MAX_COUNT, id)
        view, news = (ViewEntry(id, url),) * PASSED_ON, (rumour,) * MAX_NEWS
        envelope = self._envelope(id, bytes(32))
        head = replace(self._head(wants_reply=True), view=view, news=news, envelope=envelope)
        encode_model(head, self._encoded(), self._sign)

    def etag(self) -> str:
        """Names the published weights: equal on two nodes that publish equal weights."""
        return f'"{self._encoded().digest.hex()}"'

    def hello(
        self, to: str = "", *, ask: Ask = "", target: ViewEntry | None = None, reached: bool | None = None
    ) -> Hello:
        """to: the id of whom it goes to, if it is known.  A sync, and its answer, have all that fits."""
        if ask != "sync":
            view, news = self.view.passed_on(), self.membership.news(self.url, to)
        else:
            view, news = self.view.offer(), self.membership.everything(self.url, MAX_NEWS, to)
        sender, fingerprint = self.sender(), self.layout.fingerprint
        return Hello(sender, self.task, fingerprint, self.round, view, news, ask, target, reached)

    def sender(self) -> Sender:
        return Sender(self.id, self.url, self.state, self.name, self.accuracy)

    def _encoded(self) -> Payload:
        """The snapshot's weights as they travel: encoded and hashed once, when first asked for."""
        if self._payload is None:
            self._payload = encode_weights(self._published.weights, self._config.codec)
        return self._payload

    # -- what was heard

    def receive(self, model: Model, source: str, now: float) -> bool:
        """A valid model arrived from address `source`; False if the inbox had no room for it."""
        contact = self.heard(model.head, source, now)
        # If it does not sign, anybody could speak in its name, but not from its address.
        known = contact is not None and (model.head.envelope is not None or contact.source == source)
        return self.inbox.put(model, source, known=known)

    def set_peers(self, urls: Iterable[str]) -> list[Contact]:
        """These are the configured peers from now on; returns the contacts that left the view."""
        return self.view.set_configured(urls)

    def heard(self, message: Hello | ModelHead, source: str, now: float) -> Contact | None:
        """Somebody at `source` spoke: note its state and standing, remember whom it names.

        Returns its contact, if it is known.
        """
        sender = message.sender
        contact = self.view.known(sender.id)
        url = complete(sender.url, source)
        if contact is not None:
            contact.heard(message)
        self.view.announced(sender.id, url, source)  # one that was lost may be back at another address
        self.view.spoke(url)
        # Nobody else signs as it or speaks from where it answered us; who cannot be called can only be
        # believed, if it does not sign.
        signed = message.envelope is not None
        if signed or contact.source == source if contact is not None else not url:
            self._listen(message, contact.url if contact is not None else "", source, now)
        for entry in message.view:
            known = self.view.known(entry.id)
            gone = self.membership.standing(entry.id) in ("dead", "left")  # until there is news of its return
            welcome = self.admission.allows(entry.id)
            if welcome and not gone and (known is None or known.state != "live"):
                self.view.announced(entry.id, complete(entry.url, source), source)
        return contact

    def _listen(self, message: Hello | ModelHead, url: str, source: str, now: float) -> None:
        """What a node that spoke beyond doubt says of itself and of others."""
        membership, sender = self.membership, message.sender
        found = [membership.heard(sender.id, url, now)]
        if (member := membership.members.get(sender.id)) is not None:
            member.state = sender.state
        others = []
        for rumour in message.news:
            if rumour.id == sender.id:
                found.append(membership.introduced(rumour))
            else:
                others.append(rumour)
        found += membership.told(others, now)
        self.apply(change for change in found if change is not None)
        for rumour in others:
            if rumour.url and self.admission.allows(rumour.id) and membership.is_news_of_return(rumour):
                self.view.announced(rumour.id, complete(rumour.url, source), source)

    def apply(self, changes: Iterable[Change]) -> None:
        """The view follows the membership: who is gone is not called, who is back is called at once."""
        for change in changes:
            self.changes.append(change)
            if change.standing in ("dead", "left"):
                self.view.gone(change.member.id)
            elif change.standing == "alive":
                self.view.spoke(change.member.url)

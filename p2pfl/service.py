"""What a node answers: the requests of peers, and what it shows of itself to people and tools.

Handlers never touch weights in training: an incoming model goes to the inbox, a reply is the published
snapshot.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
import trio

from p2pfl.controls import Controls
from p2pfl.errors import CannotPredict, PeerError, Refused
from p2pfl.events import MODEL_MODES, Evaluated, Event, Mode, Observe, Rejected, Served, StandingChanged
from p2pfl.gossip.messages import Hello, Layout, Model, ModelHead, Pull, Sender, Task, ViewEntry
from p2pfl.gossip.protocol import Gossip
from p2pfl.history import History
from p2pfl.network.budget import Buckets
from p2pfl.network.service import Invert, Operated
from p2pfl.predicting import Predictor
from p2pfl.storage import exported
from p2pfl.storage.checkpoint import Checkpoint
from p2pfl.storage.health import StorageHealth
from p2pfl.thrift import Thrift

# The reason of models that find no room: no error, for the sender did nothing wrong.
INBOX_FULL = "inbox-full"
# Refusals that the status shows with their details; the counters hold all of them.
SHOWN_REFUSALS = 8
# Likewise, senders that do not sign; peers of the view are all shown, with whether they do.
SHOWN_UNVERIFIED = 8
# Of each reason, refusals that are observed at once, and then a second: a flood must fill no log and no
# journal. The counters hold all of them.
TOLD_BURST, TOLD_RATE = 100.0, 5.0


# Numbers of a picture, as the model saw it, that are shown: a 64x64 one in colour.
MOST_SEEN = 3 * 64 * 64

# Whether somebody whom a peer cannot reach answers us; source: the address that asks.
Reach = Callable[[ViewEntry, str], Awaitable[bool]]


async def _reaches_nobody(target: ViewEntry, source: str) -> bool:
    return False


@dataclass(frozen=True)
class Score:
    """What a node knows of its model after a completed round; replaced as a whole, never in part."""

    round: int = 0
    age: float = 0.0
    loss: float | None = None
    accuracy: float | None = None


class NodeService:
    """Implements network.app.Service over the node's gossip. on_news is called when a peer said something.

    operated: None as long as nobody controls the node by HTTP.
    """

    def __init__(
        self,
        gossip: Gossip,
        *,
        data_fingerprint: str,
        now: Callable[[], float],
        observe: Observe,
        on_news: Callable[[], None],
    ) -> None:
        self.reach: Reach = _reaches_nobody
        self.score = Score()
        self.storage: StorageHealth | None = None  # of a node that keeps something
        self.thrift: Thrift | None = None  # of a node that spares something
        self.exposition: Callable[[], tuple[str, bytes]] | None = None  # the page /metrics of a real node
        self.may_be_alone = False  # nobody told it of others: it is not waiting for anybody
        self.operated: Operated | None = None
        self.controls: Controls | None = None  # of a node that may be paused
        self._gossip = gossip
        self._data_fingerprint = data_fingerprint
        self._now = now
        self._observe = observe
        self._on_news = on_news
        self._rejected: Counter[str] = Counter()
        self._told = Buckets(TOLD_RATE, TOLD_BURST)
        self._refusals: deque[dict[str, str]] = deque(maxlen=SHOWN_REFUSALS)
        self._unverified: OrderedDict[str, None] = OrderedDict()  # ids, the one heard last at the end
        self.predictor: Predictor | None = None  # of a node whose learner predicts
        self._past: History | None = None  # made when it is wanted: simulated nodes keep none

    @property
    def task(self) -> Task:
        return self._gossip.task

    @property
    def layout(self) -> Layout:
        return self._gossip.layout

    def admit(self, head: ModelHead) -> None:
        self._gossip.admission.request(head)

    def receive_model(self, model: Model, source: str, size: int) -> tuple[bytes, memoryview] | None:
        """A valid model was posted; the reply frame of a push-pull, None for a push."""
        head = model.head
        self._gossip.admission.accept(head)
        self._note_unverified(head)
        reply = self._gossip.frame(head.sender_id, head.imprint) if head.wants_reply else None
        sent = sum(len(chunk) for chunk in reply) if reply else 0
        if not self._gossip.receive(model, source, self._now()):
            self._count(INBOX_FULL, source, head.sender_id, "the inbox is full of better known senders")
        self._served("push-pull" if reply else "push", head.sender, source, size, sent)
        return reply

    async def receive_hello(self, hello: Hello, source: str, size: int) -> bytes:
        self._gossip.admission.accept(hello)
        self._note_unverified(hello)
        contact = self._gossip.heard(hello, source, self._now())
        if contact is not None and hello.sender.state == "done":
            contact.awaits_us = True
        reached = None
        if hello.target is not None:
            reached = await self.reach(hello.target, source)
        to = hello.sender.id if contact is not None else ""
        ours = self._gossip.hello(to, ask="sync" if hello.ask == "sync" else "", reached=reached)
        answer = self._gossip.hello_frame(ours, hello.sender_id, hello.imprint)
        self._served(hello.ask or "hello", hello.sender, source, size, len(answer))
        return answer

    def snapshot(self, pull: Pull | None = None) -> tuple[str, tuple[bytes, memoryview]]:
        if pull is None:
            self._gossip.admission.anonymous()
            return self._gossip.etag(), self._gossip.frame()
        self._gossip.admission.accept(pull)
        return self._gossip.etag(), self._gossip.frame(pull.sender_id, pull.imprint)

    def pulled(self, source: str, size: int) -> None:
        self._observe(Served("pull", "", 0, size))

    def reject(self, error: PeerError, source: str, peer: str) -> None:
        self._count(error.cause if isinstance(error, Refused) else error.reason, source, peer, str(error))

    def lacks(self) -> list[str]:
        """What keeps this node from being of use to others: "data", "peer"; nothing of one that is ready."""
        gossip = self._gossip
        company = gossip.view.live() or gossip.membership.uncallable()
        met = gossip.view.contacts() or gossip.view.forgotten() or gossip.membership.gone()
        alone = self.may_be_alone and not met
        wanted = {"data": gossip.samples > 0, "peer": bool(company or alone)}
        return [name for name, there in wanted.items() if not there]

    def metrics(self) -> tuple[str, bytes] | None:
        return None if self.exposition is None else self.exposition()

    def rejected(self) -> dict[str, int]:
        """Refusals by reason."""
        return dict(sorted(self._rejected.items()))

    @property
    def state(self) -> str:
        """What the node does, for people. Peers are told gossip.state: one that is paused is not done."""
        return "paused" if self.controls is not None and self.controls.resting else self._gossip.state

    def status(self) -> dict[str, object]:
        """The JSON of /v1/status; round, age, loss and accuracy belong to one completed round."""
        gossip = self._gossip
        return {
            "id": gossip.id,
            "name": gossip.name,
            "url": gossip.url,
            "state": self.state,
            "paused": self.controls is not None and self.controls.paused,
            "round": self.score.round,
            "age": self.score.age,
            "loss": self.score.loss,
            "accuracy": self.score.accuracy,
            "version": gossip.version,
            "task": gossip.task.as_dict(),
            "task_digest": gossip.task.digest,
            "model": gossip.layout.model,
            "fingerprint": gossip.layout.fingerprint,
            "parameters": gossip.layout.size,
            "samples": gossip.samples,
            "merge": gossip.merge_rule,
            "kept_own": gossip.kept_own,
            "data_fingerprint": self._data_fingerprint,
            "storage": self.storage.as_dict() if self.storage is not None else None,
            "thrift": self.thrift.as_dict() if self.thrift is not None and self.thrift.spares else None,
            "peers": self.peers(),
            "callers": self._callers(),
            "gone": [
                {"id": member.id, "url": member.url, "standing": member.standing}
                for member in gossip.membership.gone()
            ],
            "health": gossip.membership.health,
            "signs": gossip.signs,
            "requires_signatures": gossip.admission.require_signed,
            "unverified": list(self._unverified),
            "rejected": self.rejected(),
            "refusals": list(self._refusals),
        }

    def peers(self) -> list[dict[str, object]]:
        """standing: what this node holds of it, None of one that has not answered yet."""
        standing = self._gossip.membership.standing
        return [
            contact.as_dict() | {"standing": standing(contact.id)} for contact in self._gossip.view.contacts()
        ]

    def keep_history(self) -> Observe:
        """The page shows what happens from now on, and peers are told how good the model is.

        Returns what has to be told of every event.
        """
        past = self._history()

        def note(event: Event) -> None:
            if isinstance(event, Evaluated):
                self._gossip.accuracy = event.accuracy
            past.note(event)

        return note

    def history(self, since: int = 0) -> dict[str, object]:
        return self._history().document(since)

    async def change(self, since: int) -> None:
        await self._history().change(since)

    async def predict(self, content: bytes, drawn: bool, invert: Invert) -> dict[str, object]:
        if self.predictor is None:
            raise CannotPredict("this node's learner cannot predict; only its framework can say more")
        version, round = self._gossip.version, self._gossip.round
        said = await self.predictor(self._gossip.weights, content, drawn, invert)
        classes, pixels = self._gossip.task.classes, said.pixels
        seen = {"shape": list(pixels.shape), "pixels": pixels.reshape(-1).tolist()}
        return {
            "classes": list(classes),
            "probabilities": list(said.probabilities),
            "predicted": classes[int(np.argmax(said.probabilities))],
            "round": round,
            "version": version,
            "seen": seen if pixels.size <= MOST_SEEN else None,
        }

    def exported(self) -> tuple[str, bytes]:
        gossip = self._gossip
        model = Checkpoint(
            id=gossip.id, round=gossip.round, age=gossip.age, weights=gossip.weights,
            optimiser=np.empty(0, np.float32), task=gossip.task, layout=gossip.layout, version=gossip.version,
        )  # fmt: skip
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{gossip.task.name}-{gossip.layout.model}.safetensors")
        return name, exported.encode(model)

    @property
    def end(self) -> trio.Event:
        return self._history().end

    def close(self) -> None:
        """The node stops."""
        if self._past is not None:
            self._past.close()

    def _history(self) -> History:
        if self._past is None:
            self._past = History(self._now, self._said)
        return self._past

    def _said(self, id: str) -> tuple[int, float] | None:
        """Round and accuracy of a peer by its own word."""
        contact = self._gossip.view.known(id)
        return None if contact is None or contact.accuracy is None else (contact.round, contact.accuracy)

    def _callers(self) -> list[dict[str, object]]:
        """Members that call us and cannot be called."""
        return [
            {"id": member.id, "standing": member.standing, "node_state": member.state}
            for member in self._gossip.membership.uncallable()
        ]

    def _served(self, mode: Mode, sender: Sender, source: str, received: int, sent: int) -> None:
        contact = self._gossip.view.known(sender.id)
        if contact is not None:
            contact.bytes_in += received
            contact.bytes_out += sent
            contact.exchanges_in += mode in MODEL_MODES
        self._observe(Served(mode, sender.id, received, sent))
        self.heard_news()

    def _note_unverified(self, message: ModelHead | Hello) -> None:
        """Somebody is taken at its word: the status says so."""
        if message.envelope is None:
            self._unverified[message.sender_id] = None
            self._unverified.move_to_end(message.sender_id)
            if len(self._unverified) > SHOWN_UNVERIFIED:
                self._unverified.popitem(last=False)

    def heard_news(self) -> None:
        """A peer said something, in a request or in an answer, or was found to be gone."""
        changes, self._gossip.changes = self._gossip.changes, []
        for member, standing, new in changes:
            self._observe(StandingChanged(member.id, member.url, standing, new))
        self._on_news()

    def _count(self, reason: str, source: str, peer: str, detail: str) -> None:
        self._rejected[reason] += 1
        self._refusals.append({"reason": reason, "source": source, "peer": peer, "detail": detail})
        if not self._told.wait(reason, self._now()):
            self._told.spend(reason, 1.0, self._now())
            self._observe(Rejected(source, peer, reason, detail))

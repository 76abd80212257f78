"""What nodes say to each other: frozen values, no bytes (those are codec.py) and no behaviour.

The nouns are those of docs/protocol.md.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]  # (P,) float32, contiguous

NodeState = Literal["waiting", "training", "settling", "done"]
NODE_STATES: tuple[NodeState, ...] = ("waiting", "training", "settling", "done")

Standing = Literal["alive", "suspect", "dead", "left"]
STANDINGS: tuple[Standing, ...] = ("alive", "suspect", "dead", "left")

Ask = Literal["", "probe", "sync"]
ASKS: tuple[Ask, ...] = ("", "probe", "sync")


def _digest(value: object) -> str:
    """32 hex digits (BLAKE2b-128) of a value's canonical JSON: sorted keys, no spaces, ASCII."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Task:
    """What is learnt: nodes exchange only with nodes of the same task.

    classes: names in label order.  input_shape: (channels, height, width) or (features,).
    mean, std: per channel, of inputs scaled to [0, 1]; the normalisation is part of the task because
    weights trained behind another normalisation compute another function.
    """

    name: str
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "classes": list(self.classes),
            "input_shape": list(self.input_shape),
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @cached_property
    def entries(self) -> dict[str, object]:
        """as_dict(), made once: for every message has it. Not to be modified."""
        return self.as_dict()

    @cached_property
    def digest(self) -> str:
        return _digest(self.as_dict())

    def difference(self, other: Task) -> str:
        """The first difference in words, "" if there is none: `name is 'mnist' here, 'digits' there`."""
        for key, ours in self.as_dict().items():
            theirs = other.as_dict()[key]
            if ours != theirs:
                return f"{key} is {ours!r} here, {theirs!r} there"
        return ""


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor inside the flat vector. dtype: its type in the module ("float32", ...)."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def size(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """How a model's tensors lie in the flat float32 vector (P,): in this order, each in C order.

    model: the model's name, so that two models of equal shapes but different functions differ.
    """

    model: str
    tensors: tuple[TensorSpec, ...]

    @cached_property
    def size(self) -> int:
        """P, the number of elements."""
        return sum(tensor.size for tensor in self.tensors)

    def as_dict(self) -> dict[str, object]:
        return {
            "model": self.model,
            "tensors": [{"name": t.name, "shape": list(t.shape), "dtype": t.dtype} for t in self.tensors],
        }

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits; also seeds the initial weights, so that nodes that never spoke start equal."""
        return _digest(self.as_dict())


class ViewEntry(NamedTuple):
    """A node that the sender has itself called and found to be `id`.

    url: http(s)://host:port, perhaps with /tasks/NAME.
    """

    id: str
    url: str


class KnownPeer(NamedTuple):
    """A node that a node knows again after its restart. url: "" if it cannot be called.

    incarnation, counter: the highest accepted of what it signed, each at most 2^53; 0 if it signed nothing.
    """

    id: str
    url: str
    incarnation: int = 0
    counter: int = 0


class Rumour(NamedTuple):
    """What somebody says of a node's standing.

    url: "" if it cannot be called.  start, refuted: the node's incarnation, which it alone raises: `start`
    with each start, `refuted` when it hears that it is not alive. Compared as a pair; the higher is newer.
    by: of a suspicion, who has it.
    """

    id: str
    url: str
    standing: Standing
    start: int
    refuted: int
    by: str = ""

    @property
    def incarnation(self) -> tuple[int, int]:
        return self.start, self.refuted


@dataclass(frozen=True)
class Sender:
    """Who speaks.

    id: 1 to 64 characters of [0-9A-Za-z._-].  name: for people, may be empty.
    url: where it can be called; "" if it cannot; an empty host ("http://:8470") asks the receiver to
    fill in the address that the message came from.  accuracy: of its model on its held-out data, by its own
    word, for people to see; None if it does not say.
    """

    id: str
    url: str
    state: NodeState
    name: str = ""
    accuracy: float | None = None


@dataclass(frozen=True)
class Envelope:
    """Of a signed message: whom it is for, and which of its sender's messages it is.

    key: 32 bytes, the sender's Ed25519 public key, of which its id is the fingerprint.
    to: the receiver's id; "" if the sender does not know who is there.
    incarnation, counter: no two messages of one key have both in common, and newer ones have a higher pair.
    re: what it answers: 32 bytes, the request's imprint; b"" if it is a request itself.
    """

    key: bytes
    to: str
    incarnation: int
    counter: int
    re: bytes = b""


@dataclass(frozen=True)
class Statement:
    """What a node publishes of its model. weights: (P,) float32, not modified any more."""

    weights: Vector
    age: float
    round: int
    samples: int


@dataclass(frozen=True)
class ModelHead:
    """A model's metadata.

    version: the sender's snapshot counter.  round: the sender's own completed rounds.
    age: samples that this lineage has seen.  samples: training samples that the sender holds.
    wants_reply: a push-pull: answer with your own model.
    envelope: None if it is not signed; of one that was received, the signature was good.
    imprint: of one that was received, 32 bytes, SHA-256: what an answer to it has as `re`.
    """

    sender: Sender
    task: Task
    fingerprint: str
    version: int
    round: int
    age: float
    samples: int
    wants_reply: bool = False
    view: tuple[ViewEntry, ...] = ()
    news: tuple[Rumour, ...] = ()
    envelope: Envelope | None = None
    imprint: bytes = field(default=b"", compare=False)

    @property
    def sender_id(self) -> str:
        return self.sender.id


@dataclass(frozen=True)
class Model:
    """A decoded model frame. weights: (P,) float32, finite, owned by the receiver.

    digest: of the encoded weights, which names the snapshot's content: 32 bytes, SHA-256, of a signed one,
    else 16 bytes, XXH3-128.
    """

    head: ModelHead
    weights: Vector
    digest: bytes


@dataclass(frozen=True)
class Hello:
    """A small message by which nodes make themselves and their view known, are checked and probed.

    Sent before the first exchange with an address, and answered with the receiver's own Hello.

    ask: what else is wanted: "probe": to call `target` and say whether it was reached; "sync": as much news
    as fits.  news: the sender's own standing first.  reached: in the answer to "probe".
    envelope, imprint: as of a ModelHead.
    """

    sender: Sender
    task: Task
    fingerprint: str
    round: int
    view: tuple[ViewEntry, ...] = ()
    news: tuple[Rumour, ...] = ()
    ask: Ask = ""
    target: ViewEntry | None = None
    reached: bool | None = None
    envelope: Envelope | None = None
    imprint: bytes = field(default=b"", compare=False)

    @property
    def sender_id(self) -> str:
        return self.sender.id


@dataclass(frozen=True)
class Pull:
    """Who asks for a model, so that the answer can be for it and for this request alone.

    nonce: 16 bytes that the sender has not used before.  envelope, imprint: as of a ModelHead.
    """

    sender_id: str
    nonce: bytes
    envelope: Envelope | None = None
    imprint: bytes = field(default=b"", compare=False)

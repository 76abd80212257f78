"""What a node can observe about itself: the vocabulary of the journal, the log and the metrics.

An event holds nothing of the host (no path, no wall time): whoever records it adds the time by the node's
clock and the node's id. Sizes are bytes, durations seconds by the node's clock.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from p2pfl.gossip.messages import NodeState, Standing


@dataclass(frozen=True)
class Event:
    """Fields are plain values and tuples of them."""

    kind: ClassVar[str] = "event"

    def __init_subclass__(cls) -> None:
        """The event's name in the journal: `StateChanged` is "state-changed"."""
        cls.kind = re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    def as_dict(self) -> dict[str, object]:
        """For JSON, which has no NaN and no infinity: they become null."""
        fields = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in vars(self).items()
        }
        return {"event": self.kind, **fields}


Observe = Callable[[Event], None]

# Requests: a hello makes acquainted and shows who is there, a probe has another say hello to somebody, a sync
# compares what is known.
Mode = Literal["hello", "probe", "sync", "push", "pull", "push-pull"]
MODEL_MODES: tuple[Mode, ...] = ("push", "pull", "push-pull")


@dataclass(frozen=True)
class Started(Event):
    """The node listens. labels: training samples of each class, in label order."""

    id: str
    name: str
    url: str
    task: str
    model: str
    fingerprint: str
    parameters: int
    samples: int
    labels: tuple[int, ...]
    resumed_round: int


@dataclass(frozen=True)
class StateChanged(Event):
    state: NodeState


@dataclass(frozen=True)
class TrainingHeld(Event):
    """No round begins, though some are left. reason: hours (it is not the time), load (of the machine)."""

    reason: str


@dataclass(frozen=True)
class TrainingReleased(Event):
    """It may train again. seconds: for which it was held."""

    seconds: float


@dataclass(frozen=True)
class Paused(Event):
    """An operator wants it: the node trains no more and starts no exchanges until it is Resumed."""

    round: int


@dataclass(frozen=True)
class Resumed(Event):
    round: int


@dataclass(frozen=True)
class SettingsChanged(Event):
    """An operator changed these; they hold for the training of this round and the later ones."""

    from_round: int
    settings: tuple[tuple[str, float | int | str | None], ...]


@dataclass(frozen=True)
class Joined(Event):
    """A late joiner started from the median of these peers' models."""

    peers: tuple[str, ...]
    age: float


@dataclass(frozen=True)
class PeerAdded(Event):
    """An address was called and answered as this id: it is in the view now."""

    peer: str
    url: str


@dataclass(frozen=True)
class PeerDropped(Event):
    peer: str
    url: str
    reason: str


@dataclass(frozen=True)
class StandingChanged(Event):
    """What this node holds of another: alive, suspect, dead or left. first: it did not know of it before."""

    peer: str
    url: str
    standing: Standing
    first: bool


@dataclass(frozen=True)
class Trained(Event):
    """One round's local training. loss: mean training loss over its batches."""

    round: int
    steps: int
    samples: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class Diverged(Event):
    """A round's training ended in NaN or infinity; its result was dropped."""

    round: int
    loss: float


@dataclass(frozen=True)
class Merged(Event):
    """Own model and inbox became one. weights: own first, then in the order of `senders`; they sum to 1.

    superseded, repeated, displaced: models received since the last Merged that were not merged, for a later
    one of the same sender came, they had been merged before, or the inbox was full. So between two of these
    events a node receives len(senders) + superseded + repeated + displaced models.
    clipped: of how many senders the claimed age or sample count was clipped, being beyond belief.
    """

    rule: str
    senders: tuple[str, ...]
    weights: tuple[float, ...]
    age_before: float
    age: float
    superseded: int = 0
    repeated: int = 0
    displaced: int = 0
    clipped: int = 0


@dataclass(frozen=True)
class KeptOwn(Event):
    """A robust rule had too few models for its guarantee: the own weights stay, and the others wait for more.

    models: with the own one.  needed: as many.  Told once for all that came since it was told last.
    """

    rule: str
    models: int
    needed: int


@dataclass(frozen=True)
class Published(Event):
    """A new snapshot is what peers get from now on."""

    version: int
    round: int
    age: float


@dataclass(frozen=True)
class Exchanged(Event):
    """One request of ours. outcome: "ok" or the failure's reason.

    sent, received: bytes of the bodies. got_model: a model came back and went to the inbox.
    """

    mode: Mode
    peer: str
    url: str
    sent: int
    received: int
    got_model: bool
    seconds: float
    outcome: str
    detail: str = ""


@dataclass(frozen=True)
class Served(Event):
    """One request of a peer that we answered with success. received, sent: bytes of the bodies."""

    mode: Mode
    peer: str
    received: int
    sent: int


@dataclass(frozen=True)
class Rejected(Event):
    """A peer's message was refused. source: the address it came from. reason: a PeerError's."""

    source: str
    peer: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Evaluated(Event):
    """The model on held-out data. confusion[i][j]: samples of class i taken for class j."""

    round: int
    age: float
    samples: int
    loss: float
    accuracy: float
    balanced_accuracy: float
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class RoundCompleted(Event):
    round: int
    age: float


@dataclass(frozen=True)
class Checkpointed(Event):
    round: int


@dataclass(frozen=True)
class CheckpointFailed(Event):
    """The state after this round could not be saved, or only a part of it; the last save is still there."""

    round: int
    reason: str


@dataclass(frozen=True)
class StateDamaged(Event):
    """A file of the state directory could not be read and was set aside. file: its name, no folder."""

    file: str
    reason: str


@dataclass(frozen=True)
class LinesLost(Event):
    """So many lines before this one could not be written to the journal."""

    lines: int


@dataclass(frozen=True)
class Stopped(Event):
    round: int
    state: NodeState

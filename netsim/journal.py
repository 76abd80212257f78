"""The journal: one JSON line for each event of a run, in the order of virtual time.

Every figure and picture is computed from it alone. It holds nothing of the host, so that equal scenario and
seed give equal bytes: the effective configuration (without workers and out), then what each node observed,
then what the simulator measured at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from p2pfl.errors import StorageError
from p2pfl.events import Event

SIMULATOR = "-"  # stands for a node's index in the simulator's own lines


@dataclass(frozen=True)
class RunStarted(Event):
    """config: the effective flat configuration, without what concerns only the host."""

    config: dict[str, object]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class ModelEvaluated(Event):
    """The simulator's evaluation of a model on all held-out samples asked for; costs no virtual time.

    of: "node" (after the run), "mean" (the nodes' mean model). round: completed rounds, averaged over nodes.
    """

    of: str
    round: float
    final: bool
    samples: int
    loss: float
    accuracy: float
    balanced_accuracy: float
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class BackDoorMeasured(Event):
    """How well a back door works on a model. of, round, final: as in ModelEvaluated.

    success: of `samples` held-out pictures of other classes that bear its trigger, the share that is taken
    for class `target`.
    """

    of: str
    round: float
    final: bool
    target: int
    samples: int
    success: float


@dataclass(frozen=True)
class ConsensusMeasured(Event):
    """distance: square root of the mean squared L2 distance of the nodes' weights to their mean.

    Kong et al. 2021, "Consensus control for decentralized deep learning", definition 1.
    nodes: how many ran and were measured.  round: their completed rounds, averaged.
    """

    distance: float
    nodes: int
    round: float
    final: bool


@dataclass(frozen=True)
class TopologyDrawn(Event):
    """The graph from now on: undirected edges (i, j), i < j, sorted. Of sampling there is none."""

    edges: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class FaultStruck(Event):
    """fault: crash, restart, leave, join, hang, resume, cut or heal.  nodes: whom it struck.

    parts: of a cut, the groups of nodes that reach each other and no others.  number: a heal names the cut.
    training: of the nodes that ran, how many had not completed their rounds yet; running: how many ran.
    """

    fault: str
    nodes: tuple[int, ...]
    parts: tuple[tuple[int, ...], ...]
    number: int
    running: int
    training: int


@dataclass(frozen=True)
class MessageLost(Event):
    """A message that the simulated network did not deliver. direction: request or response.

    cause: "loss", "cut", "down" (the receiver, or the caller that waited for it, is gone).
    bytes: of the body.
    """

    sender: int
    receiver: int
    direction: str
    bytes: int
    cause: str


@dataclass(frozen=True)
class BaselineEvaluated(Event):
    """Another way to train, on the same split, after `round` of its rounds.

    images: trained so far, by all its nodes.  bytes: of the models that travelled so far.
    The time of its line is modelled from the same devices and links.  nodes: whose accuracies are averaged.
    """

    baseline: str
    round: int
    nodes: int
    images: int
    bytes: int
    loss: float
    accuracy: float
    accuracy_min: float
    accuracy_max: float
    balanced_accuracy: float
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class RunEnded(Event):
    """nodes: how many survived.  reason: "done" (all that run), "time" or "accuracy" (a stop condition)."""

    nodes: int
    reason: str


class Journal:
    """Writes journal.jsonl. Use as a context manager. Raises StorageError if it cannot be written."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("w", encoding="utf-8", newline="\n")
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error
        self._encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False)

    def write(self, time: float, node: int | str, event: Event) -> None:
        """time: seconds of the run's clock; node: index, or SIMULATOR."""
        line = {"t": round(time, 6), "node": node, **event.as_dict()}
        self._file.write(self._encoder.encode(line) + "\n")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read(path: Path) -> Iterator[dict[str, object]]:
    """The journal's lines as dictionaries, in order. StorageError if it is missing or damaged.

    A last line that was cut short is left out: its writer was killed, and all before it holds.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield json.loads(line.decode(), parse_constant=_no_number)
                except (ValueError, RecursionError) as error:
                    if not line.endswith(b"\n"):
                        return
                    if number == 1:
                        raise StorageError(f"{path} is no journal: its first line is not JSON") from error
                    raise StorageError(f"{path}, line {number}: not JSON; the journal is damaged") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error


def _no_number(name: str) -> float:
    """NaN and Infinity are no JSON; Python would take them."""
    raise ValueError(name)

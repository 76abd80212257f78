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

# Keys of the configuration that must not change a journal.
HOST_KEYS = ("workers", "out")

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
class ConsensusMeasured(Event):
    """distance: square root of the mean squared L2 distance of the nodes' weights to their mean.

    Kong et al. 2021, "Consensus control for decentralized deep learning", definition 1.
    """

    distance: float


@dataclass(frozen=True)
class RunEnded(Event):
    """The last node is done."""

    nodes: int


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
    """The journal's lines as dictionaries, in order. StorageError if it is missing or damaged."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise StorageError(f"{path}, line {number}: not JSON; the journal is damaged") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error

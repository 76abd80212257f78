"""A node's figures as rows of its database: one of each completed round, one of each evaluation."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from p2pfl.events import Evaluated, Event, Merged, RoundCompleted, Trained

# Rows that wait for a database that cannot be written; of more the oldest go.
WAITING = 10_000


class RoundRow(NamedTuple):
    """One completed round.

    steps, samples, loss, seconds: of its training; loss is the mean over its batches.
    merged: models of others that were merged since the round before.  age: see docs/design.md.
    """

    round: int
    age: float
    steps: int
    samples: int
    loss: float
    seconds: float
    merged: int


class EvaluationRow(NamedTuple):
    """One evaluation on held-out data; of a round there may be several, of models of different ages."""

    round: int
    age: float
    samples: int
    loss: float
    accuracy: float
    balanced_accuracy: float


Row = RoundRow | EvaluationRow


class Metrics:
    """Makes rows of what a node observes; holds them until they are taken."""

    def __init__(self) -> None:
        self._rows: deque[Row] = deque(maxlen=WAITING)
        self._trained: Trained | None = None
        self._merged = 0

    def note(self, event: Event) -> None:
        match event:
            case Trained():
                self._trained = event
            case Merged():
                self._merged += len(event.senders)
            case Evaluated():
                figures = (event.samples, event.loss, event.accuracy, event.balanced_accuracy)
                self._rows.append(EvaluationRow(event.round, event.age, *figures))
            case RoundCompleted() if self._trained is not None:
                trained = self._trained
                training = (trained.steps, trained.samples, trained.loss, trained.seconds)
                self._rows.append(RoundRow(event.round, event.age, *training, self._merged))
                self._trained, self._merged = None, 0

    def take(self) -> list[Row]:
        """The rows since the last call, oldest first."""
        rows = list(self._rows)
        self._rows.clear()
        return rows

    def put_back(self, rows: Iterable[Row]) -> None:
        """They could not be written: they come first at the next take()."""
        newer = list(self._rows)
        self._rows.clear()
        self._rows.extend([*rows, *newer])

"""From what a node observes to rows of its database."""

from __future__ import annotations

from p2pfl.events import Evaluated, Merged, RoundCompleted, StateChanged, Trained
from p2pfl.storage import metrics
from p2pfl.storage.metrics import EvaluationRow, Metrics, RoundRow

EVALUATED = Evaluated(1, 64.0, 100, 0.6, 0.75, 0.7, ((1, 0), (0, 1)))


def completed(noted: Metrics, round: int) -> None:
    noted.note(Trained(round, 4, 64, 0.5, 0.25))
    noted.note(RoundCompleted(round, 64.0 * round))


def test_a_round_is_one_row_with_all_that_was_merged_since_the_last() -> None:
    noted = Metrics()
    noted.note(Merged("mean", ("a", "b"), (0.5, 0.25, 0.25), 0.0, 1.0))
    noted.note(StateChanged("training"))
    noted.note(Trained(1, 4, 64, 0.5, 0.25))
    noted.note(Merged("mean", ("a",), (0.5, 0.5), 0.0, 1.0))
    noted.note(EVALUATED)
    assert noted.take() == [EvaluationRow(1, 64.0, 100, 0.6, 0.75, 0.7)]
    noted.note(RoundCompleted(1, 64.0))
    completed(noted, 2)
    assert noted.take() == [
        RoundRow(1, 64.0, 4, 64, 0.5, 0.25, 3),
        RoundRow(2, 128.0, 4, 64, 0.5, 0.25, 0),
    ]
    assert noted.take() == []


def test_rows_that_could_not_be_written_come_first_and_not_for_ever(monkeypatch) -> None:
    monkeypatch.setattr(metrics, "WAITING", 3)
    noted = Metrics()
    for round in (1, 2):
        completed(noted, round)
    rows = noted.take()
    completed(noted, 3)
    noted.put_back(rows)
    assert [row.round for row in noted.take()] == [1, 2, 3]
    for round in range(9):
        completed(noted, round)
    assert [row.round for row in noted.take()] == [6, 7, 8]

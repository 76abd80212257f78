"""Reading journals while nodes write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from netsim.collect import Tail, restore
from p2pfl.errors import SimulationError
from p2pfl.events import Exchanged, Started, Trained

STARTED = (
    '"event":"started","id":"","name":"","url":"","task":"","model":"","fingerprint":"","parameters":1,'
    '"samples":0,"labels":[],"resumed_round":0}'
)


def test_events_survive_the_journal() -> None:
    started = Started("i", "n", "u", "t", "m", "f", 3, 2, (1, 1), 0)
    exchanged = Exchanged("push", "p", "u", 1, 2, False, 0.5, "ok")
    assert restore(started.as_dict()) == started
    assert restore(exchanged.as_dict()) == exchanged
    assert restore(Trained(1, 2, 3, float("nan"), 0.5).as_dict()).as_dict()["loss"] is None


@pytest.mark.parametrize("fields", [{"event": "no-such"}, {}, {"event": "trained", "speed": 3}])
def test_an_unknown_event_is_an_error(fields: dict[str, object]) -> None:
    with pytest.raises(SimulationError, match="unknown event"):
        restore(fields)


def test_a_tail_waits_for_whole_lines_and_for_the_start(tmp_path: Path) -> None:
    path = tmp_path / "node.jsonl"
    tail = Tail(path)
    assert list(tail.look()) == []
    with path.open("w") as file:
        file.write('{"t":1.0,"event":"checkpointed","round":1}\n')
        file.write('{"t":1.5,' + STARTED + '\n{"t":2.5,"eve')
        file.flush()
        assert list(tail.look()) == []
        tail.listens_at = 101.5
        assert [(time, event.kind) for time, event in tail.look()] == [
            (101.0, "checkpointed"),
            (101.5, "started"),
        ]
        file.write('nt":"checkpointed","round":2}\n')
        file.flush()
        assert [time for time, _ in tail.look()] == [102.5]
    assert list(tail.look()) == []


def test_a_last_line_that_a_death_cut_short_is_no_line(tmp_path: Path) -> None:
    path = tmp_path / "node.jsonl"
    path.write_text('{"t":0.0,' + STARTED + '\n{"t":2.5,"event":"checkp')
    tail = Tail(path)
    tail.listens_at = 7.0
    assert [event.kind for _, event in tail.look()] == ["started"]
    assert list(tail.look()) == []


def test_a_damaged_journal_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "node.jsonl"
    path.write_text("nonsense\n")
    with pytest.raises(SimulationError, match=r"node\.jsonl cannot be read"):
        list(Tail(path).look())

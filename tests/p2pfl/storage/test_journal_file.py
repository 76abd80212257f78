"""The journal file: one JSON object a line, whatever happened to the process before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pfl.errors import StorageError
from p2pfl.events import RoundCompleted
from p2pfl.storage.journal import JournalFile, to_line
from tests.p2pfl.storage.states import file_limit


def lines(path: Path) -> list[object]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_record_is_readable_at_once(tmp_path: Path) -> None:
    path = tmp_path / "node.jsonl"
    journal = JournalFile(path)
    journal.append({"t": 0.5, **RoundCompleted(round=1, age=10.0).as_dict()})
    assert lines(path) == [{"t": 0.5, "event": "round-completed", "round": 1, "age": 10.0}]
    journal.append({"t": 1.0})
    assert len(lines(path)) == 2
    journal.close()
    journal.close()


def test_existing_journal_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "node.jsonl"
    for number in range(2):
        journal = JournalFile(path)
        journal.append({"number": number})
        journal.close()
    assert lines(path) == [{"number": 0}, {"number": 1}]


def test_line_cut_short_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "node.jsonl"
    path.write_text('{"number":0}\n{"numb')
    journal = JournalFile(path)
    journal.append({"number": 2})
    journal.close()
    assert path.read_text() == '{"number":0}\n{"numb\n{"number":2}\n'


def test_text_from_outside_stays_on_its_line() -> None:
    line = to_line({"detail": 'two\nlines "quoted" \u2028 and \x1b[31mred'})
    assert line.count("\n") == 1
    assert line.isascii()


def test_numbers_that_json_lacks_become_null() -> None:
    record = {"loss": float("nan"), "deep": [{"x": (1.0, float("inf"))}], "age": 2.0}
    assert to_line(record) == '{"loss":null,"deep":[{"x":[1.0,null]}],"age":2.0}\n'


def test_equal_records_give_equal_lines() -> None:
    assert to_line({"b": 0.1, "a": 1}) == to_line({"b": 0.1, "a": 1}) == '{"b":0.1,"a":1}\n'


def test_journal_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"node\.jsonl cannot be written: No such file or directory"):
        JournalFile(tmp_path / "missing" / "node.jsonl")


def test_journal_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="choose another file"):
        JournalFile(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_full_disk_is_a_storage_error_each_time() -> None:
    journal = JournalFile("/dev/full")
    for _ in range(2):
        with pytest.raises(StorageError, match="No space left on device"):
            journal.append({"t": 0})
    journal.close()


def test_line_that_a_full_disk_cut_short_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "node.jsonl"
    journal = JournalFile(path)
    with file_limit(10):
        with pytest.raises(StorageError, match="No space left on device"):
            journal.append({"number": 0, "words": "more than there is room for"})
        with pytest.raises(StorageError, match="File too large"):
            journal.append({"number": 1})
    journal.append({"number": 2})
    journal.append({"number": 3})
    journal.close()
    assert path.read_text() == '{"number":\n{"number":2}\n{"number":3}\n'


def test_every_tear_of_the_last_line_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "node.jsonl"
    whole = '{"number":0}\n{"number":1,"words":"torn anywhere"}\n'
    for length in range(whole.index("\n") + 1, len(whole)):
        path.write_text(whole[:length])
        journal = JournalFile(path)
        journal.append({"number": 2})
        journal.close()
        first, *_, last = path.read_text().splitlines()
        assert (json.loads(first), json.loads(last)) == ({"number": 0}, {"number": 2})

from __future__ import annotations

import json

import pytest

from p2pfl.network import problems


def test_document_is_read_back() -> None:
    assert problems.decode(problems.encode("wrong-task", 409, "name differs")) == (
        "wrong-task",
        "name differs",
    )


def test_document_has_the_members_of_rfc_9457() -> None:
    assert json.loads(problems.encode("too-large", 413, "x")) == {
        "type": "urn:p2pfl:too-large",
        "title": "Too large",
        "status": 413,
        "detail": "x",
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"type": 3}',
        b'{"type": "about:blank"}',
        b'{"type": "urn:p2pfl:"}',
        b'{"type": "urn:p2pfl:Wrong Task"}',
        b'{"type": "urn:p2pfl:' + b"a" * 50 + b'"}',
        b"[" * 100_000,
        b"1" * 10_000,
    ],
    ids=lambda body: body[:20],
)
def test_what_is_no_problem_of_ours(body: bytes) -> None:
    assert problems.decode(body) is None


def test_detail_of_another_type_is_left_out() -> None:
    assert problems.decode(b'{"type": "urn:p2pfl:busy", "detail": {"a": 1}}') == ("busy", "")


def test_foreign_text_becomes_one_short_printable_line() -> None:
    assert problems.one_line("a\tb\r\n\x1b[31m c\u2028d\u202ee") == "a b [31m c d e"
    assert len(problems.one_line("x" * 10_000)) == problems.MAX_DETAIL

"""Log lines: text for people, JSON for programs, nothing in them that a terminal obeys."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from cli import logs


def record(message: str, fields: dict[str, object] | None = None) -> logging.LogRecord:
    made = logging.LogRecord("p2pfl.node", logging.INFO, __file__, 1, message, (), None)
    made.created, made.msecs = 1_700_000_000.25, 250.0
    if fields is not None:
        made.fields = fields
    return made


def with_traceback(message: str) -> logging.LogRecord:
    made = record(message)
    try:
        raise ValueError("the cause")
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


def test_text_line() -> None:
    fields = {"round": 3, "loss": 0.123456789, "name": "two words", "detail": 'a="b"\n\x1b[0m', "empty": ""}
    assert logs.KeyValues().format(record("trained", fields)) == (
        "time=2023-11-14T22:13:20.250Z level=info logger=p2pfl.node trained "
        'round=3 loss=0.123457 name="two words" detail="a=\\"b\\"\\n\\u001b[0m" empty=""'
    )


def test_text_message_stays_on_its_line() -> None:
    line = logs.KeyValues().format(record("event=rejected detail=a\nlevel=error fake \x1b[2J"))
    assert "\n" not in line
    assert "\x1b" not in line


def test_json_line() -> None:
    line = json.loads(
        logs.JsonLines().format(record("trained", {"round": 3, "labels": (1, 2), "level": "no"}))
    )
    assert line == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "p2pfl.node",
        "message": "trained",
        "round": 3,
        "labels": [1, 2],
    }


def test_traceback_is_shown() -> None:
    assert "ValueError: the cause" in logs.KeyValues().format(with_traceback("bug"))
    line = logs.JsonLines().format(with_traceback("bug"))
    assert "\n" not in line
    assert "ValueError: the cause" in json.loads(line)["exception"]


@pytest.mark.parametrize("as_json", [False, True])
def test_configured_level_and_stream(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    logs.configure("warning", as_json=as_json)
    logging.getLogger("p2pfl.node").info("quiet")
    logging.getLogger("p2pfl.node").warning("loud")
    out, err = capsys.readouterr()
    assert out == ""
    assert "quiet" not in err
    assert err.count("loud") == err.count("\n") == 1


def test_httpx_does_not_log_each_request(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", as_json=False)
    logging.getLogger("httpx").info("HTTP Request: GET http://a:1")
    logging.getLogger("httpcore.connection").debug("connect_tcp.started")
    assert capsys.readouterr().err == ""

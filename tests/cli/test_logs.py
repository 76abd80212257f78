"""Log lines: text for people, JSON for programs, nothing in them that a terminal obeys."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cli import failures, logs
from p2pfl.current_task import current_task
from p2pfl.errors import DataError


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


def test_one_of_several_tasks_is_named() -> None:
    token = current_task.set("x-rays")
    try:
        assert (
            logs.KeyValues()
            .format(record("trained", {"round": 3}))
            .endswith("trained task_name=x-rays round=3")
        )
        assert json.loads(logs.JsonLines().format(record("trained")))["task_name"] == "x-rays"
    finally:
        current_task.reset(token)


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


@contextmanager
def json_on(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Logging as --log-json has it, to this stream; afterwards as it was."""
    root, hook = logging.getLogger(), sys.excepthook
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(root, "handlers", [])  # configure() would close pytest's own
    level = root.level
    logs.configure("info", as_json=True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.setLevel(level)
        sys.excepthook = hook


def test_every_line_is_json_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    with json_on(stream, monkeypatch), warnings.catch_warnings():
        say_everything()
    shown = stream.getvalue().splitlines()
    lines = [json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in shown]
    assert [line["level"] for line in lines] == ["info", "warning", "critical", "error"]
    assert (lines[0]["age"], lines[0]["weights"]) == (None, [0.5, None])
    assert "an old thing" in lines[1]["message"]
    assert "KeyError: 'three'" in lines[2]["exception"]
    assert (lines[3]["message"], lines[3]["exit_code"]) == ("no\N{REPLACEMENT CHARACTER}[2J such file", 1)


def say_everything() -> None:
    """What a process may say: an event, a warning, a bug, and the error that ends it."""
    log = logging.getLogger("p2pfl.test")
    log.info("merged", extra={"fields": {"age": float("nan"), "weights": (0.5, float("inf"))}})
    warnings.simplefilter("always")
    logging.captureWarnings(False)  # pytest has put its own in its place
    logging.captureWarnings(True)
    warnings.warn("an old thing\nover two lines", UserWarning, stacklevel=1)
    try:
        raise ExceptionGroup("bugs", [ValueError("one\ntwo"), KeyError("three")])
    except ExceptionGroup as error:
        sys.excepthook(type(error), error, error.__traceback__)
    assert failures._report(DataError("no\x1b[2J such\nfile")) == 1

"""Log handlers, set here and nowhere else: `key=value` text or JSON lines on stderr.

The library logs through the stdlib: a message, which is an event's name or `key=value` text, and values as
`extra={"fields": {...}}`, which each format writes in its own way.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
import types

from cli.failures import one_line
from p2pfl.current_task import current_task


def configure(level: str, *, as_json: bool) -> None:
    """Send the root logger's records of `level` (debug, info, warning, error) and above to stderr.

    as_json: and all else that Python has to say there, so that every line is JSON: warnings, the traceback of
    a bug that ends the process, and the error that ends a command.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else KeyValues())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(as_json)
    sys.excepthook = _log_uncaught if as_json else sys.__excepthook__
    # httpx and httpcore log each request and each of its steps: the node's own events say the same.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def is_json() -> bool:
    """Whether stderr is for programs."""
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
    logging.getLogger("p2pfl").critical("uncaught: %s", error, exc_info=(kind, error, trace))


class KeyValues(logging.Formatter):
    """`time=... level=info logger=p2pfl.node started round=3`, a traceback on the lines below."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"time={_time(record)} level={record.levelname.lower()} logger={record.name}"
        values = [f"{name}={_quoted(value)}" for name, value in _fields(record).items()]
        line = " ".join([head, one_line(record.getMessage()), *values])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """One object a line: time, level, logger, message, the fields, and `exception` with a traceback.

    JSON has no NaN and no infinity: they are null.
    """

    def format(self, record: logging.LogRecord) -> str:
        line = {
            **{name: _finite(value) for name, value in _fields(record).items()},
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """What was given, after the task of several whose code logs."""
    task = current_task.get()
    named: dict[str, object] = {"task_name": task} if task else {}
    return named | dict(getattr(record, "fields", {}))


def _finite(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_finite(member) for member in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _time(record: logging.LogRecord) -> str:
    """UTC with milliseconds, ISO 8601."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def _quoted(value: object) -> str:
    """`value` as text, in JSON quotes where white space, quotes, `=` or control characters need them."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    plain = text and text.isprintable() and not any(c in text for c in ' "=')
    return text if plain else json.dumps(text)

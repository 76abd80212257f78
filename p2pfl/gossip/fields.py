"""The inside of a frame: messages <-> msgpack entries, every value checked for type and range.

The table of docs/protocol.md, "Wire", in code.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import get_args

from p2pfl.config import TASK_PATH
from p2pfl.errors import BadField, MissingField
from p2pfl.gossip.addresses import KNOWN
from p2pfl.gossip.frame import shown
from p2pfl.gossip.messages import (
    ASKS,
    NODE_STATES,
    STANDINGS,
    Ask,
    Envelope,
    Hello,
    NodeState,
    Rumour,
    Sender,
    Task,
    ViewEntry,
)

MAX_COUNT = 2**53
"""Largest integer: the largest up to which every integer is a double, so that any client can count."""
MAX_AGE = 1e18
MAX_NAME = 64
MAX_TEXT = 256
MAX_CLASSES = 10_000
MAX_URL = 256
MAX_VIEW = 8
"""View entries in one message; more would let one peer fill a view."""
MAX_NEWS = 64
"""Rumours in one message."""
ADDRESS = "http(s)://host:port or http(s)://host:port/tasks/NAME"

Entries = Mapping[str, object]

_ID = re.compile(r"[0-9A-Za-z._-]{1,64}")
_HEX128 = re.compile(r"[0-9a-f]{32}")
_LABEL = r"[0-9A-Za-z_](?:[0-9A-Za-z_-]{0,62})"
_URL = re.compile(
    rf"https?://(?P<host>(?:{_LABEL}(?:\.{_LABEL})*)?|\[(?P<v6>[0-9A-Fa-f:.]+)\]):(?P<port>[0-9]{{1,5}})"
    rf"(?:{TASK_PATH})?"
)
_DIGITS_AND_DOTS = re.compile(r"[0-9.]+")


def is_url(url: str, *, empty_host: bool = False) -> bool:
    """Whether `url` is http(s)://host:port, perhaps with /tasks/NAME.

    empty_host: it may be without a host.
    """
    return len(url) <= MAX_URL and _is_url(url, empty_host)


@lru_cache(maxsize=KNOWN)  # a network's views repeat its addresses over and over
def _is_url(url: str, empty_host: bool) -> bool:
    match = _URL.fullmatch(url)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        return False
    try:
        if match["v6"]:
            ipaddress.IPv6Address(match["v6"])
        elif _DIGITS_AND_DOTS.fullmatch(match["host"]):
            ipaddress.IPv4Address(match["host"])
    except ValueError:
        return False
    return bool(match["host"]) or empty_host


def of_sender(
    sender: Sender,
    task: Task,
    fingerprint: str,
    view: tuple[ViewEntry, ...],
    news: tuple[Rumour, ...],
) -> dict[str, object]:
    """What a model and a hello have in common, in the order of the wire.

    An entry of the view whose address is not as the protocol has it (a user may give a host that only this
    machine understands) is left out: one of them would make others refuse the whole message.
    """
    entries: dict[str, object] = {
        "id": sender.id,
        "url": sender.url,
        "name": sender.name,
        "state": sender.state,
        "task": task.entries,
        "layout": fingerprint,
        "view": [entry for entry in view if is_url(entry.url)],
        "news": [rumour for rumour in news if _is_reach(rumour.url)],
    }
    if sender.accuracy is not None:
        entries["accuracy"] = sender.accuracy
    return entries


def of_question(hello: Hello) -> dict[str, object]:
    """What only some hellos have: nothing, a question, or an answer."""
    entries: dict[str, object] = {}
    if hello.ask:
        entries["ask"] = hello.ask
    if hello.target is not None:
        entries["target"] = hello.target
    if hello.reached is not None:
        entries["reached"] = hello.reached
    return entries


def sender(entries: Entries) -> Sender:
    url = text(entries, "url", MAX_URL)
    if url and not is_url(url, empty_host=True):
        raise BadField(f"url is {shown(url)}, not '' or {ADDRESS}")
    state = text(entries, "state", MAX_TEXT)
    if state not in NODE_STATES:
        raise BadField(f"state is {shown(state)}, not one of {', '.join(get_args(NodeState))}")
    name = text(entries, "name", MAX_NAME)
    accuracy = _share("accuracy", entries["accuracy"]) if "accuracy" in entries else None
    return Sender(id=id(entries), url=url, state=state, name=name, accuracy=accuracy)


def view(entries: Entries) -> tuple[ViewEntry, ...]:
    return tuple(_entry("view", item) for item in _list("view", required(entries, "view"), 0, MAX_VIEW))


def news(entries: Entries) -> tuple[Rumour, ...]:
    """() of a sender that spreads none."""
    if "news" not in entries:
        return ()
    return tuple(_rumour(item) for item in _list("news", entries["news"], 0, MAX_NEWS))


def question(entries: Entries) -> tuple[Ask, ViewEntry | None, bool | None]:
    """(ask, target, reached) of a hello."""
    ask = entries.get("ask", "")
    if ask not in ASKS:
        raise BadField(f"ask is {shown(ask)}, not one of {', '.join(filter(None, ASKS))}")
    target = _entry("target", entries["target"]) if "target" in entries else None
    if (ask == "probe") != (target is not None):
        raise BadField("a hello that asks for a probe names its target, and no other does")
    return ask, target, flag(entries, "reached") if "reached" in entries else None


def _entry(key: str, member: object) -> ViewEntry:
    if type(member) is not list or len(member) != 2:
        raise BadField(f"{key} must have [id, url]")
    id, url = member
    if type(url) is not str or not is_url(url):
        raise BadField(f"{key} has the address {shown(url)}, not {ADDRESS}")
    return ViewEntry(_known_id(key, id), url)


def _rumour(item: object) -> Rumour:
    if type(item) is not list or len(item) != 6:
        raise BadField("news must be a list of [id, url, standing, start, refuted, by]")
    id, url, standing, start, refuted, by = item
    if type(url) is not str or not _is_reach(url):
        raise BadField(f"news has the address {shown(url)}, not '' or {ADDRESS}")
    if standing not in STANDINGS:
        raise BadField(f"news has the standing {shown(standing)}, not one of {', '.join(STANDINGS)}")
    if by != "":
        _known_id("news", by)
    return Rumour(
        _known_id("news", id),
        url,
        standing,
        _whole("news: start", start, 0, MAX_COUNT),
        _whole("news: refuted", refuted, 0, MAX_COUNT),
        by,
    )


def _is_reach(url: str) -> bool:
    """An address as a sender may give its own: with or without a host, or none."""
    return not url or is_url(url, empty_host=True)


def _known_id(key: str, value: object) -> str:
    """As _id, for ids that are read over and over."""
    if type(value) is not str or len(value) > MAX_NAME or not _is_id(value):
        raise _bad_id(key, value)
    return value


def task(entries: Entries, ours: Task) -> Task:
    """The sender's task; `ours` itself if it is the same."""
    value = required(entries, "task")
    if value == ours.entries:
        return ours
    if not isinstance(value, dict):
        raise BadField("task must be a map")
    unknown = [key for key in value if key not in ("name", "classes", "input_shape", "mean", "std")]
    if unknown:  # not ignored: it could change what the weights mean
        raise BadField(f"task has the unknown entry {shown(unknown[0])}")
    classes = _list("classes", required(value, "classes"), 1, MAX_CLASSES)
    shape = _list("input_shape", required(value, "input_shape"), 1, 8)
    return Task(
        name=text(value, "name", MAX_TEXT, least=1),
        classes=tuple(_text("classes", name, MAX_TEXT, least=1) for name in classes),
        input_shape=tuple(_whole("input_shape", extent, 1, 2**31) for extent in shape),
        mean=tuple(
            _real("mean", x, -MAX_AGE) for x in _list("mean", required(value, "mean"), 0, MAX_CLASSES)
        ),
        std=tuple(_real("std", x, 0) for x in _list("std", required(value, "std"), 0, MAX_CLASSES)),
    )


SIGNED = ("key", "to", "inc", "seq", "re", "sig")
"""The entries of a signed frame: all of them or none."""


def of_envelope(envelope: Envelope) -> dict[str, object]:
    """All of SIGNED but the signature, in the order of the wire."""
    return {
        "key": envelope.key,
        "to": envelope.to,
        "inc": envelope.incarnation,
        "seq": envelope.counter,
        "re": envelope.re,
    }


def envelope(entries: Entries) -> Envelope | None:
    """None if the frame is not signed. The signature itself is not looked at."""
    if not any(key in entries for key in SIGNED):
        return None
    required(entries, "sig")
    to, re = required(entries, "to"), required(entries, "re")
    if type(re) is not bytes or len(re) not in (0, 32):
        raise BadField("re must be 32 bytes (bin), or none in a request")
    return Envelope(
        key=raw(entries, "key", 32),
        to="" if to == "" else _id("to", to),
        incarnation=whole(entries, "inc"),
        counter=whole(entries, "seq"),
        re=re,
    )


def id(entries: Entries) -> str:
    return _id("id", required(entries, "id"))


def fingerprint(entries: Entries) -> str:
    value = required(entries, "layout")
    if type(value) is not str or not _HEX128.fullmatch(value):
        raise BadField(f"layout is {shown(value)}, not 32 lower-case hex digits")
    return value


def whole(entries: Entries, key: str) -> int:
    """An integer in [0, 2^53]."""
    return _whole(key, required(entries, key), 0, MAX_COUNT)


def age(entries: Entries) -> float:
    return _real("age", required(entries, "age"), 0)


def flag(entries: Entries, key: str) -> bool:
    value = required(entries, key)
    if type(value) is not bool:
        raise BadField(f"{key} is {shown(value)}, not true or false")
    return value


def raw(entries: Entries, key: str, size: int) -> bytes:
    value = required(entries, key)
    if type(value) is not bytes or len(value) != size:
        raise BadField(f"{key} must be {size} bytes (bin)")
    return value


def text(entries: Entries, key: str, most: int, least: int = 0) -> str:
    return _text(key, required(entries, key), most, least)


def required(entries: Entries, key: str) -> object:
    try:
        return entries[key]
    except KeyError:
        raise MissingField(f"{key} is missing") from None


def _id(key: str, value: object) -> str:
    if type(value) is not str or not _ID.fullmatch(value):
        raise _bad_id(key, value)
    return value


def _bad_id(key: str, value: object) -> BadField:
    return BadField(f"{key} has the id {shown(value)}, not 1 to 64 characters of [0-9A-Za-z._-]")


@lru_cache(maxsize=KNOWN)
def _is_id(value: str) -> bool:
    return _ID.fullmatch(value) is not None


def _text(key: str, value: object, most: int, least: int = 0) -> str:
    if type(value) is not str or not least <= len(value) <= most or not value.isprintable():
        raise BadField(f"{key} is {shown(value)}, not {least} to {most} printable characters")
    return value


def _whole(key: str, value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise BadField(f"{key} is {shown(value)}, not an integer from {least} to {most}")
    return value


def _real(key: str, value: object, least: float) -> float:
    """Finite by the range: a NaN compares False. Whole numbers may come as integers."""
    if (type(value) is not float and type(value) is not int) or not least <= value <= MAX_AGE:
        raise BadField(f"{key} is {shown(value)}, not a number from {least:g} to {MAX_AGE:g}")
    return float(value)


def _share(key: str, value: object) -> float:
    """A number from 0 to 1."""
    if (type(value) is not float and type(value) is not int) or not 0 <= value <= 1:
        raise BadField(f"{key} is {shown(value)}, not a number from 0 to 1")
    return float(value)


def _list(key: str, value: object, least: int, most: int) -> list[object]:
    if type(value) is not list or not least <= len(value) <= most:
        raise BadField(f"{key} must be a list of {least} to {most} entries")
    return value

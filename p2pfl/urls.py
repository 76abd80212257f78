"""What addresses look like: where a node listens, and the URLs at which its peers call it.

A URL is `http(s)://host:port`, or that and `/tasks/NAME` for one of several nodes behind one port.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from p2pfl.errors import ConfigError

TASKS = "/tasks"
TASK_PATH = r"/tasks/[a-z0-9-]{1,32}"
"""Pattern of the only path that an address may have: no dots, escapes or further slashes."""

# A name or an IPv4 address, or an IPv6 address in brackets; no user:password@ in front.
_HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\]")
_TASK = re.compile(TASK_PATH)
_WITHIN = re.compile(rf"({TASK_PATH})(/.*)", re.DOTALL)


def is_task_path(path: str) -> bool:
    """Whether this is `/tasks/NAME`, with nothing behind it."""
    return _TASK.fullmatch(path) is not None


def is_task_name(name: str) -> bool:
    return is_task_path(f"{TASKS}/{name}")


def split_path(path: str) -> tuple[str, str] | None:
    """`/tasks/NAME/rest` of a request -> (NAME, "/rest"); None of any other path."""
    match = _WITHIN.fullmatch(path)
    return None if match is None else (match[1].removeprefix(f"{TASKS}/"), match[2])


def parse_listen(listen: str) -> tuple[str, int]:
    """ "HOST:PORT" -> (host, port); IPv6 hosts stand in brackets. ConfigError if it is neither."""
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"listen {listen!r} is not HOST:PORT; for example 127.0.0.1:8470 or [::1]:8470")
    return host.strip("[]"), int(port)


def check_url(key: str, url: str) -> None:
    """ConfigError unless url is http(s)://host:port, perhaps with /tasks/NAME, and nothing behind it."""
    try:
        parts = urlsplit(url)
        bare = url.rstrip("/")
        good = (
            parts.scheme in ("http", "https")
            and parts.port is not None
            and _HOST.fullmatch(parts.netloc.rpartition(":")[0]) is not None
            and bare.startswith(f"{parts.scheme}://{parts.netloc}")
            and _is_path(bare.removeprefix(f"{parts.scheme}://{parts.netloc}"))
        )
    except ValueError:
        good = False
    if not good:
        raise ConfigError(
            f"{key}: {url!r} is not http://HOST:PORT; for example http://127.0.0.1:8470, or "
            "http://127.0.0.1:8470/tasks/digits for one of several tasks"
        )


def _is_path(rest: str) -> bool:
    return not rest or is_task_path(rest)


def check_address(key: str, address: str) -> None:
    """ConfigError unless address is an IPv4 or IPv6 address, and not a name."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise ConfigError(f"{key}: {address!r} is not an IP address; for example 192.168.1.5") from None

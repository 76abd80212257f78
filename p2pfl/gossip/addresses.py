"""Which addresses a node is willing to call when somebody else names them."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

from p2pfl.config import NOWHERE, is_task_path

KNOWN = 16_384
"""Addresses whose reading is remembered: of at most 256 characters each, so 8 MiB at the very most."""

_WILDCARDS = ("0.0.0.0", "::")


def open_host(url: str) -> str:
    """The address to tell peers: a wildcard host is left out, for the receiver to fill in."""
    parts = urlsplit(url)
    return f"{parts.scheme}://:{parts.port}{parts.path}" if parts.hostname in _WILDCARDS else url


def presented(advertise: str | None, listens_at: str) -> str:
    """The address by which a node presents itself; "" if it cannot be called. advertise: as in NodeConfig."""
    if advertise == NOWHERE:
        return ""
    return (advertise or open_host(listens_at)).rstrip("/")


def complete(url: str, source: str) -> str:
    """A sender's announced url with its empty host filled in by `source`, the address it came from.

    "" stays "": that node cannot be called.
    """
    rest = _open_port(url)
    if rest is None:
        return url.rstrip("/")
    scheme, port, path = rest
    host = f"[{source}]" if ":" in source else source
    return f"{scheme}://{host}:{port}{path}"


def callable_url(url: str, source: str) -> bool:
    """Whether an address learned from `source` may be called.

    It must be http(s)://host:port or http(s)://host:port/tasks/NAME and nothing more. An address literal must
    be one that a machine can have: not unspecified, multicast, broadcast or link-local (where clouds keep
    their secrets); and loopback only if whoever named it is on loopback too, since to anybody else it means
    another machine.
    """
    reach = _reach(url)
    return reach == "any" or (reach == "loopback" and _is_loopback(source))


# The three below are asked about the same addresses over and over, in every message.


@lru_cache(maxsize=KNOWN)
def _open_port(url: str) -> tuple[str, int | None, str] | None:
    """(scheme, port, path) of an address without a host; None of any other, and of none."""
    parts = urlsplit(url)
    return None if not url or parts.hostname else (parts.scheme, parts.port, parts.path.rstrip("/"))


@lru_cache(maxsize=KNOWN)
def _reach(url: str) -> Literal["none", "loopback", "any"]:
    """From where this address may be called."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "none"
    if parts.scheme not in ("http", "https") or not parts.hostname or not port:
        return "none"
    if "@" in parts.netloc or not (parts.path in ("", "/") or is_task_path(parts.path)):
        return "none"
    if url != f"{parts.scheme}://{parts.netloc}{parts.path}":  # a query, or what urlsplit() passes over
        return "none"
    if parts.hostname == "localhost":
        return "loopback"
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:  # a name
        return "none" if parts.hostname.replace(".", "").isdecimal() else "any"
    if address.is_unspecified or address.is_multicast or address.is_link_local or address.is_reserved:
        return "none"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return "none"  # a second spelling of an IPv4 address, used to get around the rules above
    return "loopback" if address.is_loopback else "any"


@lru_cache(maxsize=KNOWN)
def _is_loopback(source: str) -> bool:
    try:
        return ipaddress.ip_address(source).is_loopback
    except ValueError:
        return source == "localhost"

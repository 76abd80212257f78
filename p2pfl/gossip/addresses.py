"""Which addresses a node is willing to call when somebody else names them."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

_WILDCARDS = ("0.0.0.0", "::")


def open_host(url: str) -> str:
    """The address to tell peers: a wildcard host is left out, for the receiver to fill in."""
    parts = urlsplit(url)
    return f"{parts.scheme}://:{parts.port}" if parts.hostname in _WILDCARDS else url


def complete(url: str, source: str) -> str:
    """A sender's announced url with its empty host filled in by `source`, the address it came from.

    "" stays "": that node cannot be called.
    """
    parts = urlsplit(url)
    if not url or parts.hostname:
        return url.rstrip("/")
    host = f"[{source}]" if ":" in source else source
    return f"{parts.scheme}://{host}:{parts.port}"


def callable_url(url: str, source: str) -> bool:
    """Whether an address learned from `source` may be called.

    It must be http(s)://host:port and nothing more. An address literal must be one that a machine can have:
    not unspecified, multicast, broadcast or link-local (where clouds keep their secrets); and loopback only
    if whoever named it is on loopback too, since to anybody else it means another machine.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port:
        return False
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        return False
    if parts.hostname == "localhost":
        return _is_loopback(source)
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:  # a name
        return not parts.hostname.replace(".", "").isdecimal()
    if address.is_unspecified or address.is_multicast or address.is_link_local or address.is_reserved:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return False  # a second spelling of an IPv4 address, used to get around the rules above
    return not address.is_loopback or _is_loopback(source)


def _is_loopback(source: str) -> bool:
    try:
        return ipaddress.ip_address(source).is_loopback
    except ValueError:
        return source == "localhost"

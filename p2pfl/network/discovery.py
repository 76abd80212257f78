"""Finding nodes of the same task on a local network: mDNS (RFC 6762) with DNS-SD (RFC 6763), by zeroconf.

A node announces itself as a service `_p2pfl._tcp.local.` and listens for others. What it hears is a claim of
anybody on the network: an address to call and the id that should answer there, no more. Nothing secret is
announced, for the same reason: id, scheme, and which protocol, task and layout the node has.

A node with a token calls only addresses whose announcement proves that its author has it too: or anybody
could have the token sent to himself.

zeroconf has a thread of its own. It lives inside join(); what it hears enters trio through a bounded queue.
"""

from __future__ import annotations

import importlib
import importlib.util
import ipaddress
import logging
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import trio

from p2pfl.config import is_task_path
from p2pfl.errors import SetupError
from p2pfl.network.tokens import Token

TYPE = "_p2pfl._tcp.local."
PREFIX = 16
"""Hex digits of the digests of task and layout that are announced: enough to leave strangers alone."""
MOST_ADDRESSES = 4
"""Addresses of one service that are called: a machine has few, a liar many."""
MOST_HEARD = 64
"""Services that wait to be looked up; more are forgotten, and heard again with the next reminder."""
MOST_KNOWN = 256
"""Services that are remembered for reminders."""
REMIND = 60.0
"""Seconds after which services that are still there are offered again: a call may have failed."""
LOOK_UP = 1000
"""Milliseconds to wait for a service's address."""

_ID = re.compile(r"[0-9A-Za-z._-]{1,64}")

Found = Callable[[str, str], None]
"""Called with an id and a URL at which it is said to answer."""
Heard = Callable[[str, bool], None]
"""Called, from any thread, with a service's name and whether it is there (False: it said goodbye)."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """One service of the local network, as announced. addresses: literals of either family."""

    name: str
    addresses: tuple[str, ...]
    port: int
    text: Mapping[str, str]


@dataclass(frozen=True)
class Presence:
    """What a node tells the local network of itself. task, layout: the beginnings of their digests.

    speaks_on: addresses of the interfaces on which it tells so; () stands for all.
    path: /tasks/NAME of one of several nodes behind a port.
    token: the network's; proofs of it are told, and asked of others.
    """

    id: str
    scheme: str
    addresses: tuple[str, ...]
    port: int
    version: int
    task: str
    layout: str
    speaks_on: tuple[str, ...] = ()
    token: Token | None = None
    path: str = ""

    @property
    def on_loopback(self) -> bool:
        """No other machine can call it: it looks for nodes of this machine only."""
        return all(ipaddress.ip_address(address).is_loopback for address in self.addresses)

    @property
    def service(self) -> Service:
        text = {"v": str(self.version), "id": self.id, "scheme": self.scheme, "task": self.task}
        text["layout"] = self.layout
        if self.path:
            text["path"] = self.path
        if self.token is not None:
            urls = _urls(self.scheme, self.addresses[:MOST_ADDRESSES], self.port, self.path)
            text["proofs"] = ",".join(_proof(self.token, self.id, url) for url in urls)
        return Service(f"{self.id[:63]}.{TYPE}", self.addresses, self.port, text)


class Lan(Protocol):
    """The local network. Calls may take a second: join() makes them in a worker thread."""

    def announce(self, service: Service) -> None: ...

    def browse(self, heard: Heard) -> None:
        """From now on, and for what is there already."""

    def look_up(self, name: str) -> Service | None:
        """None if nobody answers."""

    def close(self) -> None:
        """Say goodbye; `heard` is not called any more."""


def check_installed() -> None:
    """SetupError unless zeroconf can be imported."""
    if importlib.util.find_spec("zeroconf") is None:
        raise SetupError("--discover mdns needs zeroconf: pip install 'p2pfl-gossip[lan]'")


def presence(
    listens: str,
    announced: str,
    *,
    id: str,
    version: int,
    task: str,
    layout: str,
    interfaces: Iterable[str],
    token: Token | None = None,
) -> Presence:
    """Of a node that listens at the URL `listens` and tells peers `announced`, perhaps without a host.

    interfaces: this machine's addresses; those of the same family stand for a wildcard.  task, layout: hex.
    """
    own, told, known = urlsplit(listens), urlsplit(announced), tuple(interfaces)
    host = told.hostname or own.hostname or ""
    speaks_on: tuple[str, ...] = ()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a name, which the machine's addresses stand for
        addresses = tuple(one for one in known if _callable(one))
    else:
        if address.is_unspecified:
            family = tuple(one for one in known if ipaddress.ip_address(one).version == address.version)
            # A machine without a network has its loopback.
            addresses = tuple(one for one in family if _callable(one)) or family
        else:
            addresses = (str(address),)
            if address.is_loopback and address.version == 6:
                speaks_on = ("127.0.0.1",)  # the same machine, and no multicast leaves an IPv6 loopback
            elif address.is_loopback or host in known:  # else it is that of a router before us
                speaks_on = addresses
    scheme, port = told.scheme or own.scheme, told.port or own.port or 0
    path = (told.path if told.hostname or told.port else own.path).rstrip("/")
    return Presence(
        id, scheme, addresses, port, version, task[:PREFIX], layout[:PREFIX], speaks_on, token, path
    )


def _callable(address: str) -> bool:
    """By another machine."""
    known = ipaddress.ip_address(address)
    return not (known.is_loopback or known.is_link_local or known.is_unspecified or known.is_multicast)


def urls_of(service: Service, own: Presence) -> tuple[str, list[str]]:
    """(id, URLs) of a service that speaks our protocol and has our task and layout; no URLs of any other."""
    text, expected = service.text, own.service.text
    id = text.get("id", "")
    alike = all(text.get(key) == expected[key] for key in ("v", "task", "layout"))
    scheme = text.get("scheme")
    if not alike or scheme not in ("http", "https") or not _ID.fullmatch(id) or id == own.id:
        return id, []
    path = text.get("path", "")
    if not 1 <= service.port <= 65535 or not (path == "" or is_task_path(path)):
        return id, []
    known = []
    for address in service.addresses:
        try:
            literal = ipaddress.ip_address(address)
        except ValueError:
            continue
        if _callable(address) or (literal.is_loopback and own.on_loopback):
            known.append(str(literal))
    urls = _urls(scheme, known[:MOST_ADDRESSES], service.port, path)
    if own.token is not None:
        proofs = text.get("proofs", "").split(",")
        urls = [url for url in urls if _proof(own.token, id, url) in proofs]
    return id, urls


def _urls(scheme: str, addresses: Iterable[str], port: int, path: str) -> list[str]:
    return [f"{scheme}://{f'[{one}]' if ':' in one else one}:{port}{path}" for one in addresses]


def _proof(token: Token, id: str, url: str) -> str:
    """Shows that a node with the token said that `id` is at `url`: 32 hex digits."""
    return token.proof(f"mdns {id} {url}".encode())[:32]


async def join(own: Presence, found: Found, open_lan: Callable[[Presence], Lan]) -> None:
    """Announce this node and offer others to `found`, until cancelled; then say goodbye.

    A local network that cannot be used is a warning: the node lives without.
    """
    send, receive = trio.open_memory_channel[None](1)
    queue = _Queue(send, trio.lowlevel.current_trio_token())
    lan: Lan | None = None
    try:
        lan = await trio.to_thread.run_sync(open_lan, own)
        await trio.to_thread.run_sync(lan.announce, own.service)
        await trio.to_thread.run_sync(lan.browse, queue.heard)
        await _offer(lan, own, found, queue, receive)
    except OSError as error:
        log.warning("discovery=mdns cannot be used on this network: %s", error)
    finally:
        if lan is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(lan.close)


class _Queue:
    """Names that zeroconf's thread has heard, for trio to take; at most MOST_HEARD of them."""

    def __init__(self, send: trio.MemorySendChannel[None], token: trio.lowlevel.TrioToken) -> None:
        self._send = send
        self._token = token
        self._names: deque[tuple[str, bool]] = deque()

    def heard(self, name: str, is_there: bool) -> None:
        if len(self._names) >= MOST_HEARD:
            return
        self._names.append((name, is_there))
        try:
            self._token.run_sync_soon(self._wake, idempotent=True)
        except trio.RunFinishedError:
            return  # the node has gone

    def _wake(self) -> None:
        try:
            self._send.send_nowait(None)
        except (trio.WouldBlock, trio.BrokenResourceError):
            return  # it is awake already, or has ended

    def take(self) -> tuple[str, bool] | None:
        return self._names.popleft() if self._names else None


async def _offer(
    lan: Lan, own: Presence, found: Found, queue: _Queue, receive: trio.MemoryReceiveChannel[None]
) -> None:
    known: dict[str, None] = {}  # services that are there, in the order in which they came
    remind = trio.current_time() + REMIND
    while True:
        with trio.move_on_at(remind):
            await receive.receive()
        names = []
        if trio.current_time() >= remind:
            remind, names = trio.current_time() + REMIND, list(known)
        while (heard := queue.take()) is not None:
            name, is_there = heard
            known.pop(name, None)
            if is_there:
                known[name] = None
                names.append(name)
        while len(known) > MOST_KNOWN:
            del known[next(iter(known))]
        for name in names:
            service = await trio.to_thread.run_sync(lan.look_up, name)
            id, urls = ("", []) if service is None else urls_of(service, own)
            for url in urls:
                found(id, url)


# -- zeroconf


def own_addresses() -> list[str]:
    """Addresses of this machine's interfaces."""
    ifaddr = importlib.import_module("ifaddr")  # zeroconf's own
    return [
        ip.ip if isinstance(ip.ip, str) else ip.ip[0]
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
    ]


class ZeroconfLan:
    """Lan by zeroconf. Raises OSError where there is no interface to speak on."""

    def __init__(self, own: Presence) -> None:
        self._zeroconf: Any = importlib.import_module("zeroconf")
        version = self._zeroconf.IPVersion
        # All: in both families, whichever the node listens in, since others may hear only one of them.
        speaks_on = own.speaks_on or [one for one in own_addresses() if ":" not in one or _callable(one)]
        families = {":" in address for address in speaks_on}
        self._lan = self._zeroconf.Zeroconf(
            interfaces=list(speaks_on),
            ip_version=version.All
            if len(families) > 1
            else version.V6Only
            if True in families
            else version.V4Only,
        )

    def announce(self, service: Service) -> None:
        info = self._zeroconf.ServiceInfo(
            TYPE,
            service.name,
            port=service.port,
            properties=dict(service.text),
            parsed_addresses=list(service.addresses),
            server=f"{service.name.removesuffix('.' + TYPE)}.local.",
        )
        try:
            self._lan.register_service(info, allow_name_change=True)
        except self._zeroconf.Error as error:
            raise OSError(f"the service cannot be announced: {error!r}") from error

    def browse(self, heard: Heard) -> None:
        self._lan.add_service_listener(TYPE, _Listener(heard))

    def look_up(self, name: str) -> Service | None:
        try:
            info = self._lan.get_service_info(TYPE, name, LOOK_UP)
        except self._zeroconf.Error:  # a name that is none
            return None
        if info is None or info.port is None:
            return None
        return Service(name, tuple(info.parsed_addresses()), info.port, _text(info.properties))

    def close(self) -> None:
        self._lan.close()


class _Listener:
    """What zeroconf calls, in its thread."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard

    def add_service(self, lan: object, kind: str, name: str) -> None:
        self._heard(name, True)

    def update_service(self, lan: object, kind: str, name: str) -> None:
        self._heard(name, True)

    def remove_service(self, lan: object, kind: str, name: str) -> None:
        self._heard(name, False)


def _text(properties: Mapping[bytes, bytes | None]) -> dict[str, str]:
    """Those entries of a TXT record that are ASCII."""
    return {
        key.decode("ascii"): (value or b"").decode("ascii")
        for key, value in properties.items()
        if key.isascii() and (value or b"").isascii()
    }

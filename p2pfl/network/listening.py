"""Where a node listens, and from where it calls: sockets, and why they cannot be had."""

from __future__ import annotations

import errno
import os
import socket

import trio

from p2pfl.errors import ListenError

BACKLOG = 128


async def listen(host: str, port: int) -> trio.SocketListener:
    """A listening TCP socket on the first address of `host`."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        addresses = await trio.socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError):
        raise ListenError(f"{where}: there is no such host; choose another --listen") from None
    family, kind, protocol, _, address = addresses[0]
    sock = trio.socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        await sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(f"{where} {_why_not(error)}") from None
    except BaseException:
        sock.close()
        raise
    return trio.SocketListener(sock)


def check_own(address: str) -> None:
    """ListenError unless connections can be made from this address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        raise ListenError(
            f"{address} is not an address of this machine; choose another --call-from, or leave it out"
        ) from None


def _why_not(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "is in use; choose another --listen or stop the other program"
    if error.errno == errno.EADDRNOTAVAIL:
        return "is not an address of this machine; choose another --listen"
    if error.errno == errno.EACCES:
        return "is not permitted; choose a port above 1023"
    return f"cannot be listened on: {os.strerror(error.errno) if error.errno else error}"

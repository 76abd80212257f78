"""Whether multicast on loopback comes back, as mDNS on one machine needs; some sandboxes have none."""

from __future__ import annotations

import importlib.util
import socket
from functools import cache

import pytest

GROUP = "224.0.0.251"  # mDNS's, at a port of our own
PATIENCE = 5.0  # seconds that a datagram to oneself never takes


@cache
def works() -> bool:
    own = socket.inet_aton("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.bind(("", 0))
            one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + own)
            one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
            one.settimeout(PATIENCE)
            one.sendto(b"here", (GROUP, one.getsockname()[1]))
            return one.recv(4) == b"here"
        except OSError:
            return False


needed = pytest.mark.skipif(
    importlib.util.find_spec("zeroconf") is None or not works(),
    reason="no zeroconf (pip install -e '.[lan]'), or no multicast on this machine",
)

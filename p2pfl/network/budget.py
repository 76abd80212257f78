"""How much one address may ask and send: token buckets, told what happens and at what time. No clock in here.

A bucket holds at most `burst` and fills by `rate` a second; what is asked or sent is taken out. It may be
overdrawn by what was under way already; then its owner waits until it holds one unit again.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

MOST = 4096
"""Addresses that are remembered; of more, those are forgotten that were quiet for longest."""


class Buckets:
    """A bucket for each source, full at first. rate: a second, 0: no limit.  burst: at once."""

    def __init__(self, rate: float, burst: float, most: int = MOST) -> None:
        self._rate = rate
        self._burst = burst
        self._most = most
        self._levels: dict[str, tuple[float, float]] = {}  # source -> (level, when); the quietest first

    def __len__(self) -> int:
        return len(self._levels)

    def wait(self, source: str, now: float) -> float:
        """Seconds until the source may go on; 0 if it may now."""
        if not self._rate:
            return 0.0
        return max(0.0, (1.0 - self._level(source, now)) / self._rate)

    def spend(self, source: str, amount: float, now: float) -> None:
        """Take it out, also more than there is."""
        if not self._rate:
            return
        level = self._level(source, now) - amount
        self._levels.pop(source, None)
        if len(self._levels) >= self._most:
            del self._levels[next(iter(self._levels))]
        self._levels[source] = (level, now)

    def _level(self, source: str, now: float) -> float:
        level, when = self._levels.get(source, (self._burst, now))
        return min(self._burst, level + (now - when) * self._rate)


@lru_cache(maxsize=MOST)
def origin(host: str) -> str:
    """Whom an address stands for: itself, or of IPv6 the network of 64 bits, which is one customer's."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return host
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))

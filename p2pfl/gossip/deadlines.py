"""How long to wait: pure formulas over measured times. No clock is read here."""

from __future__ import annotations

from dataclasses import dataclass, replace

# Before anything was measured, and as the upper bound for a given size: a slow uplink of 50 kB/s and ten
# seconds for a busy peer to answer. Waiting costs nothing (it never delays training), giving up early does.
SLOWEST_RATE = 50_000.0  # bytes a second
PATIENCE = 10.0  # seconds
SHORTEST = 2.0  # seconds; below this a pause of the other side's process would look like a failure

BACKOFF_FIRST = 1.0  # seconds
BACKOFF_LONGEST = 60.0  # seconds
LONGEST_PAUSE = 60.0  # seconds; a peer may ask to be left alone, not to be forgotten
REFUSED_RETRY = 600.0  # seconds; a peer of another task may be restarted with the right one


def longest(size: int) -> float:
    """Seconds after which an exchange of `size` bytes is given up in any case."""
    return PATIENCE + size / SLOWEST_RATE


@dataclass(frozen=True)
class RoundTrip:
    """Smoothed exchange time and its deviation, in seconds (RFC 6298 section 2, alpha 1/8, beta 1/4)."""

    smoothed: float | None = None
    deviation: float = 0.0

    def measured(self, seconds: float) -> RoundTrip:
        if self.smoothed is None:
            return RoundTrip(seconds, seconds / 2)
        deviation = 0.75 * self.deviation + 0.25 * abs(self.smoothed - seconds)
        return replace(self, smoothed=0.875 * self.smoothed + 0.125 * seconds, deviation=deviation)

    def deadline(self, size: int) -> float:
        """Seconds to wait for an exchange of `size` bytes when somebody waits for it (the settle phase).

        Four times the usual time plus four deviations, within SHORTEST and longest(size).
        """
        if self.smoothed is None:
            return longest(size)
        return min(longest(size), max(SHORTEST, 4 * (self.smoothed + self.deviation)))


def probe(round_trip: RoundTrip, period: float) -> float:
    """Seconds to wait for the answer to a probe: four usual times and deviations, at least half a period.

    Nothing measured yet: PATIENCE, for the device may be slow.
    """
    if round_trip.smoothed is None:
        return PATIENCE
    return min(PATIENCE, max(period / 2, 4 * (round_trip.smoothed + round_trip.deviation)))


def backoff(failures: int, jitter: float) -> float:
    """Seconds to leave an unreachable peer alone after its n-th failure in a row (n >= 1).

    Doubles from BACKOFF_FIRST to BACKOFF_LONGEST. jitter: uniform in [0, 1), spreads the retries over
    0.5 to 1.5 times that, so that a peer that comes back is not called by everybody at once.
    """
    return float(min(BACKOFF_LONGEST, BACKOFF_FIRST * 2.0 ** min(failures - 1, 30)) * (0.5 + jitter))

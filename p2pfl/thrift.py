"""When a node may train and send, where its machine, its link or its owner wants it to be sparing.

The loop asks before each round and before each exchange, and waits until the time that it is told; an answer
is never in the way of those who ask. What is injected (clock, local time, load, link) may be made up in a
test.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from p2pfl.config import GossipConfig, ThriftConfig, check
from p2pfl.events import Observe, TrainingHeld, TrainingReleased
from p2pfl.hours import Hours
from p2pfl.network.hourly import HourlyBudget

# Between exchanges on a link that is paid for by volume: so many intervals, and with so many peers.
METERED_INTERVALS, METERED_FANOUT = 10, 1
# The link is asked for at most so often, in seconds.
ASK_LINK = 600.0
# The load average moves slowly: asked again after so many seconds.
ASK_LOAD = 30.0
# Longest wait before the hours are looked at again, in seconds: a machine may have slept, its clock may have
# been set, and there is no event for either.
ASK_HOURS = 600.0

# Bytes of what goes with a model's weights, generously: heads, view entries, news, HTTP.
HEADS = 8192

Closed = Literal["hours", "load"]

log = logging.getLogger(__name__)


def seconds_since_midnight() -> float:
    """By the machine's local time."""
    now = datetime.now().astimezone()
    return now.hour * 3600 + now.minute * 60 + now.second


def one_minute_load() -> float:
    return os.getloadavg()[0]


def exchange_size(config: GossipConfig, parameters: int) -> int:
    """Bytes of one exchange of models, both ways together, at most: deflated ones may take less."""
    model = parameters * (2 if config.codec.startswith("f16") else 4) + HEADS
    return 2 * model if config.gossip == "push-pull" else model


async def _unknown() -> bool:
    return False


@dataclass(frozen=True)
class Surroundings:
    """local_time: seconds since midnight.  load: of the machine.  is_metered: whether the link is."""

    local_time: Callable[[], float] = seconds_since_midnight
    load: Callable[[], float] = one_minute_load
    is_metered: Callable[[], Awaitable[bool]] = _unknown


class Thrift:
    """One node's. now: the node's clock.  size: bytes of one exchange, both ways.

    budget: what the network counts and the loop asks.  ConfigError if it is too small for any exchange.
    """

    def __init__(
        self,
        config: ThriftConfig,
        now: Callable[[], float],
        size: int = 0,
        budget: HourlyBudget | None = None,
        surroundings: Surroundings | None = None,
        observe: Observe = lambda event: None,
    ) -> None:
        self._config = config
        self._now = now
        self._hours = Hours.parse(config.train_hours)
        self._budget = budget or HourlyBudget(config.bytes_per_hour, now)
        self._budget.exchange = max(size, self._budget.exchange)  # of several nodes, the largest
        check(
            not config.bytes_per_hour or size <= config.bytes_per_hour,
            f"bytes-per-hour {config.bytes_per_hour:,} is less than one exchange of this model takes, "
            f"{size:,}; allow more, or take --codec f16",
        )
        self._observe = observe
        self._around = surroundings or Surroundings()
        self._metered = config.metered == "yes"
        self._asked_link: float | None = None
        self.put_off = 0  # exchanges that were not begun because the bytes of the hour were spent

    # -- training

    def closed(self) -> tuple[Closed, float] | None:
        """Why no round may begin now, and in how many seconds to ask again; None if one may."""
        if (wait := self._hours.opens_in(self._around.local_time()) if self._hours.spans else 0.0) > 0:
            return "hours", min(wait, ASK_HOURS)
        if self._config.max_load and self._around.load() > self._config.max_load:
            return "load", ASK_LOAD
        return None

    def held(self) -> Iterator[float]:
        """Until when to wait before asking again, by the node's clock, as long as no round may begin."""
        if (closed := self.closed()) is None:
            return
        since = self._now()
        self._observe(TrainingHeld(closed[0]))
        while closed is not None:
            yield self._now() + closed[1]
            closed = self.closed()
        self._observe(TrainingReleased(self._now() - since))

    # -- sending

    async def look_at_link(self) -> None:
        """Find out whether the link is metered, if it is time to and somebody wants to know."""
        if self._config.metered != "auto":
            return
        if self._asked_link is not None and self._now() < self._asked_link + ASK_LINK:
            return
        self._asked_link = self._now()
        metered = await self._around.is_metered()
        if metered != self._metered:
            log.info("link metered=%s", str(metered).lower())
        self._metered = metered

    def interval(self, usual: float) -> float:
        """Least seconds between a node's exchanges."""
        return usual * METERED_INTERVALS if self._metered else usual

    def fanout(self, usual: int) -> int:
        """Peers to exchange with now: fewer where bytes are short or dear."""
        wanted = min(usual, METERED_FANOUT) if self._metered else usual
        size, wait = self._budget.exchange, self._budget.wait
        allowed = next((count for count in range(wanted, 0, -1) if not wait(count * size)), 0)
        self.put_off += wanted - allowed
        return allowed

    def wait(self) -> float:
        """Seconds until an exchange fits into the hour's bytes; 0 if it does now."""
        return self._budget.wait(self._budget.exchange)

    # -- to be seen

    @property
    def spares(self) -> bool:
        """Anything at all."""
        return self._config != ThriftConfig()

    @property
    def metered(self) -> bool:
        """Whether the link is, as far as is known."""
        return self._metered

    def bytes_of_hour(self) -> tuple[int | None, int | None]:
        """(most, spent) bytes of an hour; None, None if they are not limited."""
        most = self._config.bytes_per_hour
        return (most, self._budget.spent()) if most else (None, None)

    def as_dict(self) -> dict[str, object]:
        """For the status."""
        closed = self.closed()
        most, spent = self.bytes_of_hour()
        return {
            "training_waits_for": closed[0] if closed else None,
            "train_hours": list(self._config.train_hours),
            "max_load": self._config.max_load or None,
            "bytes_per_hour": most,
            "bytes_last_hour": spent,
            "exchanges_put_off": self.put_off,
            "metered": self._metered,
        }

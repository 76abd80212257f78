"""What lies between real nodes, as their proxies apply it: the links of the scenario, capacities, cuts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import trio

from netsim.links import Delivery, Limits, Links

PIECE = 128 * 1024
"""Most bytes carried at a time: few wake-ups for a model, and still in the CPU's cache."""
LEAST_PIECE = 512
SLICE = 0.02
"""Seconds that a piece takes on a narrow path: what shares it takes turns so often."""
CREDIT = 0.02
"""Seconds by which a wake-up may be late, on a busy machine, without the path losing capacity."""


class Capacity:
    """Bytes a second for all that is under way.

    Whoever carries one piece after another, each when the last has passed, gets a fair share: pieces pass in
    the order in which they come.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._free_at = -math.inf

    def passed(self, size: int, now: float) -> float:
        """When `size` bytes that come now have passed; in seconds of the clock of `now`."""
        self._free_at = max(self._free_at, now - CREDIT) + size / self.rate
        return self._free_at


class Cuts:
    """Which nodes do not reach each other at present. Several cuts may overlap."""

    def __init__(self) -> None:
        self._parts: dict[int, dict[int, int]] = {}  # of each cut: node -> part
        self._changed = trio.Event()

    def cut(self, number: int, parts: Sequence[Sequence[int]]) -> None:
        """Nodes in no part form one more part."""
        self._parts[number] = {node: part for part, nodes in enumerate(parts) for node in nodes}

    def heal(self, number: int) -> None:
        """End a cut; 0 ends all of them."""
        if number:
            self._parts.pop(number, None)
        else:
            self._parts.clear()
        self._changed.set()
        self._changed = trio.Event()

    def part(self, one: int, other: int) -> bool:
        """Whether a cut lies between the two."""
        return any(parts.get(one) != parts.get(other) for parts in self._parts.values())

    async def until_passable(self, one: int, other: int) -> None:
        while self.part(one, other):
            await self._changed.wait()


class Path:
    """One direction between two nodes. capacities: of all that has to be passed; the narrowest counts."""

    def __init__(
        self, sender: int, receiver: int, links: Links, capacities: Sequence[Capacity], cuts: Cuts
    ) -> None:
        self.sender = sender
        self.receiver = receiver
        self._links = links
        self._capacities = capacities
        self._cuts = cuts
        narrowest = min((capacity.rate for capacity in capacities), default=math.inf)
        self.piece = int(min(PIECE, max(LEAST_PIECE, narrowest * SLICE)))

    def delay(self, *, is_request: bool) -> float | None:
        """Seconds that the next message is on its way, besides what its bytes take; None if it is lost.

        Asked once for each request and each response, as by the simulated network.
        """
        for delivery in self._links.deliveries(self.sender, self.receiver, is_request):
            return delivery.delay
        return None

    def passed(self, size: int, now: float) -> float:
        """When `size` bytes that come now have passed what is narrow."""
        return max((capacity.passed(size, now) for capacity in self._capacities), default=now)

    async def until_passable(self) -> None:
        """Returns once no cut lies between the two nodes."""
        await self._cuts.until_passable(self.sender, self.receiver)


class Prelude:
    """Links on which every message arrives, and at once, until the run begins: what comes before, while
    processes start one after the other, is no part of the scenario."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._begun = False

    def begin(self) -> None:
        self._begun = True

    def latency(self, sender: int, receiver: int) -> float:
        return self._links.latency(sender, receiver) if self._begun else 0.0

    def deliveries(self, sender: int, receiver: int, is_request: bool) -> Sequence[Delivery]:
        return self._links.deliveries(sender, receiver, is_request) if self._begun else (Delivery(0.0),)

    def limits(self, sender: int, receiver: int) -> Limits | None:
        return self._links.limits(sender, receiver)


class Paths:
    """The paths between all nodes."""

    def __init__(self, links: Links) -> None:
        self.cuts = Cuts()
        self._links = links
        self._uplinks: dict[int, Capacity] = {}
        self._downlinks: dict[int, Capacity] = {}
        self._paths: dict[tuple[int, int], Path] = {}

    def between(self, sender: int, receiver: int) -> Path:
        """The same object each time: what is under way between two nodes shares its capacity."""
        if (sender, receiver) not in self._paths:
            limits = self._links.limits(sender, receiver) or Limits(None, None, None)
            shared = []
            if limits.uplink is not None:
                shared.append(self._uplinks.setdefault(sender, Capacity(limits.uplink)))
            if limits.pair is not None:
                shared.append(Capacity(limits.pair))
            if limits.downlink is not None:
                shared.append(self._downlinks.setdefault(receiver, Capacity(limits.downlink)))
            self._paths[sender, receiver] = Path(sender, receiver, self._links, shared, self.cuts)
        return self._paths[sender, receiver]

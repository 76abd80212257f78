"""Limited rates: messages under way at the same time share what a link carries, as TCP connections do.

The model is a fluid one. A message is a quantity of bytes that flows at a rate; it occupies all capacities on
its way at once (the sender's uplink, the pair's bandwidth, the receiver's downlink), so that alone it takes
its size divided by the smallest of them, and nothing is stored and forwarded in between. Each capacity is
divided equally among the messages under way through it, and a message flows at the smallest of its shares:

    rate = min over its capacities of (capacity / messages under way through it)

With one bottleneck for all, this is exactly the max-min fair share. With several it is a simplification: what
a message leaves of its share, because it is slower elsewhere, is not given to the others. No capacity is ever
exceeded, and no message is faster than by max-min fairness. In return the beginning or end of a message
concerns only those that share a capacity with it; max-min fairness can change every rate in the network.
"""

from __future__ import annotations

import heapq
import math
from typing import Any, Generic, TypeVar

from netsim.links import Limits

T = TypeVar("T")

# Outdated entries that the queue of ends may hold beside one for each message, before it is cleaned.
_OUTDATED = 64


class _Capacity:
    """bytes_per_second, and what is under way through it: a dictionary for its order and quick removal."""

    __slots__ = ("bytes_per_second", "name", "under_way")

    def __init__(self, name: tuple[int, int], bytes_per_second: float) -> None:
        self.name = name
        self.bytes_per_second = bytes_per_second
        self.under_way: dict[Transmission[Any], None] = {}


class Transmission(Generic[T]):
    """One message under way, at a constant rate from `since` on until something else begins or ends.

    left: bytes at `since`.  rate: bytes a second.  ends: by the present rate; infinity once it is over.
    """

    __slots__ = ("capacities", "ends", "left", "message", "order", "rate", "since")

    def __init__(
        self, message: T, size: int, now: float, order: tuple[int, int], capacities: list[_Capacity]
    ) -> None:
        self.message = message
        self.order = order
        self.capacities = capacities
        self.since = now
        self.left = float(size)
        self.rate = 0.0
        self.ends = math.inf


class Sharing(Generic[T]):
    """All messages under way on limited links. Times are seconds of one clock and must not decrease."""

    def __init__(self) -> None:
        self._capacities: dict[tuple[int, int], _Capacity] = {}
        self._ends: list[tuple[float, tuple[int, int], Transmission[T]]] = []
        self._under_way: dict[Transmission[T], None] = {}

    def start(
        self, now: float, limits: Limits, sender: int, receiver: int, sequence: int, size: int, message: T
    ) -> Transmission[T]:
        """`message` begins. sequence: orders messages of one sender that end at the same instant.

        size: bytes, above 0.  limits: of a name always the same, as long as anything is under way through it.
        """
        names = (sender, -1), (sender, receiver), (-1, receiver)
        rates = zip(names, limits, strict=True)
        passed = [self._capacity(name, rate) for name, rate in rates if rate is not None]
        transmission = Transmission(message, size, now, (sender, sequence), passed)
        self._under_way[transmission] = None
        for capacity in passed:
            capacity.under_way[transmission] = None
        self._share_anew(now, passed)
        return transmission

    def stop(self, now: float, transmission: Transmission[T]) -> None:
        """A transmission breaks off."""
        self._remove(transmission)
        self._share_anew(now, transmission.capacities)

    def finished(self, now: float) -> list[tuple[float, T]]:
        """What has ended by now, each with its end: ordered by it, then by sender and sequence."""
        finished: list[tuple[float, T]] = []
        while self.next_end() <= now:
            touched: list[_Capacity] = []
            while (end := self.next_end()) <= now:
                transmission = heapq.heappop(self._ends)[2]
                self._remove(transmission)
                finished.append((end, transmission.message))
                touched += transmission.capacities
            self._share_anew(now, touched)
        return finished

    def next_end(self) -> float:
        """When the next one ends by the present rates; infinity if nothing is under way."""
        ends = self._ends
        while ends and ends[0][2].ends != ends[0][0]:
            heapq.heappop(ends)
        return ends[0][0] if ends else math.inf

    def messages(self) -> list[T]:
        """What is under way, in the order of its start."""
        return [transmission.message for transmission in self._under_way]

    def _capacity(self, name: tuple[int, int], bytes_per_second: float) -> _Capacity:
        capacity = self._capacities.get(name)
        if capacity is None:
            capacity = self._capacities[name] = _Capacity(name, bytes_per_second)
        return capacity

    def _remove(self, transmission: Transmission[T]) -> None:
        del self._under_way[transmission]
        transmission.ends = math.inf
        for capacity in transmission.capacities:
            del capacity.under_way[transmission]
            if not capacity.under_way:
                del self._capacities[capacity.name]

    def _share_anew(self, now: float, capacities: list[_Capacity]) -> None:
        """The number of messages through these has changed: so have rates and ends."""
        for capacity in capacities:
            for transmission in capacity.under_way:
                rate = min([each.bytes_per_second / len(each.under_way) for each in transmission.capacities])
                if rate == transmission.rate:
                    continue
                gone = transmission.rate * (now - transmission.since)
                transmission.left = max(0.0, transmission.left - gone)  # 0: the last bit of a float
                transmission.since, transmission.rate = now, rate
                ends = now + transmission.left / rate
                if ends != transmission.ends:
                    transmission.ends = ends
                    heapq.heappush(self._ends, (ends, transmission.order, transmission))
        if len(self._ends) > 2 * len(self._under_way) + _OUTDATED:
            self._ends = [(each.ends, each.order, each) for each in self._under_way]
            heapq.heapify(self._ends)

"""What lies between the nodes: delays, rates, and the chances that a message is lost, doubled or damaged.

Nothing here knows of time or of trio: for each message the links say what happens to it, the network does it.
Imports nothing heavy: scenario.py takes LinkRule from here, and the command line imports scenario.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from netsim.config import LinksConfig
from netsim.units import Distribution, parse_duration, parse_rate
from p2pfl.config import check

if TYPE_CHECKING:
    from numpy.random import Generator

# How long a message is held back to be overtaken, in times its own delay: uniform between these.
HELD_BACK = 1.0, 10.0

_SHARES = ("loss", "duplication", "reordering", "corruption")


class Delivery(NamedTuple):
    """One arrival of a message. delay: seconds, beside what its bytes take.

    flipped: where in the body one bit is flipped, as a share of its bits, in [0, 1); None for nowhere.
    """

    delay: float
    flipped: float | None = None


class Limits(NamedTuple):
    """Rates that a message's bytes have to pass, in bytes a second; None is no limit.

    uplink: of all that the sender sends.  pair: of all from this sender to this receiver.
    downlink: of all that the receiver receives.
    """

    uplink: float | None
    pair: float | None
    downlink: float | None


class Links(Protocol):
    """Asked once for each message, in a repeatable order, so that seeded links give equal runs."""

    def latency(self, sender: int, receiver: int) -> float:
        """Seconds that a refusal or a reset takes: what no rate, loss or damage applies to."""
        ...

    def deliveries(self, sender: int, receiver: int, is_request: bool) -> Sequence[Delivery]:
        """When a message arrives: usually once; never if it is lost; twice if it is duplicated."""
        ...

    def limits(self, sender: int, receiver: int) -> Limits | None:
        """None if no rate is limited between the two."""
        ...


@dataclass(frozen=True)
class UniformLinks:
    """The same latency between all: seconds x (1 +- jitter, uniform). rng: only a jitter above 0 needs it."""

    seconds: float = 0.02
    jitter: float = 0.0
    rng: Generator | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.seconds < math.inf and 0 <= self.jitter <= 1):
            raise ValueError(f"latency {self.seconds} must be 0 or more, jitter {self.jitter} in [0, 1]")
        if self.jitter and self.rng is None:
            raise ValueError("jitter needs a generator")

    def latency(self, sender: int, receiver: int) -> float:
        if not self.jitter or self.rng is None:
            return self.seconds
        return self.seconds * (1 + self.jitter * (2 * self.rng.random() - 1))

    def deliveries(self, sender: int, receiver: int, is_request: bool) -> Sequence[Delivery]:
        return (Delivery(self.latency(sender, receiver)),)

    def limits(self, sender: int, receiver: int) -> Limits | None:
        return None


@dataclass(frozen=True)
class LinkRule:
    """Other conditions for all messages from one of `senders` to one of `receivers` (indices).

    latency: seconds.  jitter: seconds, at most.  bandwidth: bytes a second, of each pair.  The rest are
    shares of messages, of requests for duplication.  None leaves a condition as it was.
    """

    senders: tuple[int, ...]
    receivers: tuple[int, ...]
    latency: Distribution | None = None
    jitter: float | None = None
    bandwidth: float | None = None
    loss: float | None = None
    duplication: float | None = None
    reordering: float | None = None
    corruption: float | None = None

    def __post_init__(self) -> None:
        check(self.jitter is None or 0 <= self.jitter < math.inf, "jitter must be 0 or more")
        check(self.bandwidth is None or 0 < self.bandwidth < math.inf, "bandwidth must be above 0")
        for key in _SHARES:
            share = getattr(self, key)
            check(share is None or 0 <= share <= 1, f"{key} must be a share between 0 and 1")


@dataclass(frozen=True)
class _Conditions:
    """What holds from one node to another, with the units of LinkRule. steady: nothing in it is random."""

    latency: Distribution
    jitter: float
    bandwidth: float | None
    loss: float
    duplication: float
    reordering: float
    corruption: float
    steady: tuple[Delivery] | None = None

    def settled(self) -> _Conditions:
        """The same with `steady` filled in."""
        random = self.jitter or any(getattr(self, key) for key in _SHARES)
        constant = self.latency.kind == "constant" and not random
        return replace(self, steady=(Delivery(self.latency.first),) if constant else None)

    def under(self, rule: LinkRule) -> _Conditions:
        given = {field.name: getattr(rule, field.name) for field in fields(rule)}
        del given["senders"], given["receivers"]
        return replace(self, **{key: value for key, value in given.items() if value is not None})


class ScenarioLinks:
    """The links of a scenario: its defaults, changed by rules for some pairs; later rules win.

    uplinks, downlinks: bytes a second of those nodes that have other rates than the default.
    rng: makes the generator of one sender, once and when it is first needed. Each message draws from its
    sender's only, and only for what may happen to it: is it lost? its latency, its jitter, is it held back?
    how long? is it damaged? where? is it doubled? and the second delivery likewise.
    """

    def __init__(
        self,
        config: LinksConfig,
        rules: Sequence[LinkRule],
        uplinks: Mapping[int, float],
        downlinks: Mapping[int, float],
        rng: Callable[[int], Generator],
    ) -> None:
        self._default = _defaults(config)
        self._rules = tuple(rules)
        self._uplink, self._downlink = _rate("uplink", config.uplink), _rate("downlink", config.downlink)
        self._uplinks, self._downlinks = dict(uplinks), dict(downlinks)
        self._make_rng = rng
        self._rngs: dict[int, Generator] = {}
        # Pairs are too many for a table. Each node has a number instead, with a bit for each rule that
        # names it: the bits that sender and receiver share are the rules between them.
        self._sending = _membership([rule.senders for rule in self._rules])
        self._receiving = _membership([rule.receivers for rule in self._rules])
        self._known: dict[int, _Conditions] = {0: self._default}
        bandwidths = [config.bandwidth, *[rule.bandwidth for rule in self._rules]]
        rates = [*bandwidths, self._uplink, self._downlink, *uplinks.values(), *downlinks.values()]
        self._limited = any(rate is not None for rate in rates)

    def latency(self, sender: int, receiver: int) -> float:
        conditions = self._between(sender, receiver)
        if conditions.steady is not None:
            return conditions.steady[0].delay
        return _delay(conditions, self._rng(sender))

    def deliveries(self, sender: int, receiver: int, is_request: bool) -> Sequence[Delivery]:
        conditions = self._between(sender, receiver)
        if conditions.steady is not None:
            return conditions.steady
        rng = self._rng(sender)
        if conditions.loss and rng.random() < conditions.loss:
            return ()
        first = _delivery(conditions, rng)
        if is_request and conditions.duplication and rng.random() < conditions.duplication:
            return first, _delivery(conditions, rng)
        return (first,)

    def limits(self, sender: int, receiver: int) -> Limits | None:
        if not self._limited:
            return None
        uplink = self._uplinks.get(sender, self._uplink)
        pair = self._between(sender, receiver).bandwidth
        downlink = self._downlinks.get(receiver, self._downlink)
        if uplink is None and pair is None and downlink is None:
            return None
        return Limits(uplink, pair, downlink)

    def _between(self, sender: int, receiver: int) -> _Conditions:
        if not self._rules:
            return self._default
        bits = self._sending.get(sender, 0) & self._receiving.get(receiver, 0)
        conditions = self._known.get(bits)
        if conditions is None:
            conditions = self._default
            for number, rule in enumerate(self._rules):
                if bits >> number & 1:
                    conditions = conditions.under(rule)
            self._known[bits] = conditions = conditions.settled()
        return conditions

    def _rng(self, sender: int) -> Generator:
        rng = self._rngs.get(sender)
        if rng is None:
            rng = self._rngs[sender] = self._make_rng(sender)
        return rng


def _defaults(config: LinksConfig) -> _Conditions:
    return _Conditions(
        config.latency_of,
        parse_duration("jitter", config.jitter),
        _rate("bandwidth", config.bandwidth),
        config.loss,
        config.duplication,
        config.reordering,
        config.corruption,
    ).settled()


def _rate(key: str, text: str | None) -> float | None:
    return None if text is None else parse_rate(key, text)


def _membership(groups: Sequence[tuple[int, ...]]) -> dict[int, int]:
    """Node -> a number whose n-th bit says that the n-th group has it."""
    bits: dict[int, int] = {}
    for number, group in enumerate(groups):
        for node in group:
            bits[node] = bits.get(node, 0) | 1 << number
    return bits


def _delay(conditions: _Conditions, rng: Generator) -> float:
    delay = conditions.latency.draw(rng)
    if conditions.jitter:
        delay += conditions.jitter * rng.random()
    return delay


def _delivery(conditions: _Conditions, rng: Generator) -> Delivery:
    delay = _delay(conditions, rng)
    if conditions.reordering and rng.random() < conditions.reordering:
        delay += delay * float(rng.uniform(*HELD_BACK))
    if conditions.corruption and rng.random() < conditions.corruption:
        return Delivery(delay, rng.random())
    return Delivery(delay)

"""What a scenario writes as text: durations, rates, amounts, nodes, moments, distributions.

Each parse function takes the name of the key for its error and raises ConfigError, in one line with examples.
Imports nothing heavy: the command line checks its flags with this.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from p2pfl.config import check, keys
from p2pfl.errors import ConfigError

_DURATIONS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
# Bytes a second. A prefix is decimal, as network rates are given.
_RATES = {f"{prefix}{unit}/s": factor * size
          for prefix, factor in (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9))
          for unit, size in (("bit", 0.125), ("B", 1.0))}  # fmt: skip
_NUMBER = r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"

# Longest duration that is taken for meant: a hundred years.
_LONGEST = 3.2e9


class Generator(Protocol):
    """What is asked of a random generator here: numpy's has it."""

    def uniform(self, low: float, high: float) -> float: ...

    def normal(self, mean: float, deviation: float) -> float: ...


def parse_duration(key: str, text: str) -> float:
    """ "20ms" -> 0.02 seconds; units us, ms, s, min, h; a bare number is seconds."""
    match = re.fullmatch(_NUMBER + r"\s*(us|ms|s|min|h)?", text.strip())
    if match is None:
        raise ConfigError(f"{key} {text!r} is not a duration; for example 20ms, 1.5s or 2min")
    seconds = float(match[1]) * _DURATIONS[match[2] or "s"]
    check(seconds < _LONGEST, f"{key} {text!r} is too long")
    return seconds


def parse_rate(key: str, text: str) -> float:
    """ "1Mbit/s" -> 125,000 bytes a second."""
    match = re.fullmatch(_NUMBER + r"\s*([kMG]?(?:bit|B)/s)", text.strip())
    if match is None:
        raise ConfigError(f"{key} {text!r} is not a data rate; for example 1Mbit/s, 250kbit/s or 2MB/s")
    rate = float(match[1]) * _RATES[match[2]]
    check(0 < rate < math.inf, f"{key} must be above 0")
    return rate


def parse_share(key: str, text: str) -> float:
    """ "30%" -> 0.3."""
    match = re.fullmatch(_NUMBER + r"\s*%", text.strip())
    if match is None or float(match[1]) > 100:
        raise ConfigError(f"{key} {text!r} is not a share between 0% and 100%")
    return float(match[1]) / 100


def parse_amount(key: str, text: str, total: int) -> int:
    """How many of `total`: "10", or "30%" of them, rounded to the nearest."""
    if text.strip().endswith("%"):
        return math.floor(parse_share(key, text) * total + 0.5)
    if re.fullmatch(r"\d+", text.strip()) is None:
        raise ConfigError(f"{key} {text!r} is neither a number nor a share; for example 10 or 30%")
    check(int(text) <= total, f"{key} {text} is more than there are: {total}")
    return int(text)


def parse_nodes(key: str, text: str, total: int) -> tuple[int, ...]:
    """ "0-4,7" -> (0, 1, 2, 3, 4, 7), in ascending order; "*" is every node below `total`."""
    if text.strip() == "*":
        return tuple(range(total))
    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if match is None:
            raise ConfigError(f"{key} {text!r} does not name nodes; for example 0-4,7 or * for all")
        first, last = int(match[1]), int(match[2] or match[1])
        check(first <= last, f"{key}: the range {part.strip()} runs backwards")
        check(last < total, f"{key}: there is no node {last}; the last of {total} is {total - 1}")
        chosen.update(range(first, last + 1))
    return tuple(sorted(chosen))


def nodes_text(nodes: Iterable[int]) -> str:
    """(0, 1, 2, 5) -> "0-2,5": what parse_nodes reads."""
    parts: list[list[int]] = []
    for node in sorted(nodes):
        if parts and parts[-1][-1] == node - 1:
            parts[-1][1:] = [node]
        else:
            parts.append([node])
    return ",".join("-".join(map(str, part)) for part in parts)


@dataclass(frozen=True)
class Moment:
    """A point of a run: seconds of its clock, or a share of its rounds. Exactly one is not None."""

    seconds: float | None = None
    share: float | None = None


def parse_moment(key: str, text: str) -> Moment:
    """ "12s", or "30%": when the nodes have completed 30 % of their rounds."""
    if text.strip().endswith("%"):
        return Moment(share=parse_share(key, text))
    return Moment(seconds=parse_duration(key, text))


def parse_window(key: str, text: str) -> tuple[Moment, Moment]:
    """ "10%-70%" or "5s-20s": from the first moment to the second."""
    first, dash, last = text.partition("-")
    if not dash:
        raise ConfigError(f"{key} {text!r} is not FROM-TO; for example 10%-70% or 5s-20s")
    start, end = parse_moment(key, first), parse_moment(key, last)
    check((start.share is None) == (end.share is None), f"{key}: give both ends as times or both as shares")
    check((start.seconds or start.share or 0.0) <= (end.seconds or end.share or 0.0), f"{key} ends too early")
    return start, end


@dataclass(frozen=True)
class Distribution:
    """constant: first.  uniform: from first to second.  lognormal: median first, sigma second.

    sigma: standard deviation of the natural logarithm, without unit.
    """

    kind: Literal["constant", "uniform", "lognormal"]
    first: float
    second: float = 0.0

    def draw(self, rng: Generator) -> float:
        """One value; a constant draws nothing from the generator."""
        if self.kind == "uniform":
            return float(rng.uniform(self.first, self.second))
        if self.kind == "lognormal":
            return self.first * math.exp(float(rng.normal(0.0, self.second)))
        return self.first

    @property
    def typical(self) -> float:
        """The median."""
        return (self.first + self.second) / 2 if self.kind == "uniform" else self.first


def parse_distribution(key: str, text: str, unit: Literal["duration", "number"]) -> Distribution:
    """ "20ms", "uniform:10ms,50ms" or "lognormal:20ms,0.5"; of numbers likewise, without units."""
    kind, colon, rest = text.strip().partition(":")
    if not colon:
        return Distribution("constant", _value(key, text, unit))
    parts = rest.split(",")
    if kind not in ("uniform", "lognormal") or len(parts) != 2:
        examples = "20ms, uniform:10ms,50ms or lognormal:20ms,0.5"
        if unit == "number":
            examples = "1000, uniform:500,1500 or lognormal:1000,0.5"
        raise ConfigError(f"{key} {text!r} is not a distribution; for example {examples}")
    first = _value(key, parts[0], unit)
    second = _value(key, parts[1], unit if kind == "uniform" else "number")
    if kind == "uniform":
        check(first <= second, f"{key}: the uniform range ends before it begins")
        return Distribution("uniform", first, second)
    check(first > 0, f"{key}: the median must be above 0")
    check(second <= 5, f"{key}: a sigma of {second:g} spreads over more than 20 powers of ten; 5 is the most")
    return Distribution("lognormal", first, second)


def _value(key: str, text: str, unit: Literal["duration", "number"]) -> float:
    if unit == "duration":
        return parse_duration(key, text)
    if re.fullmatch(_NUMBER, text.strip()) is None or not math.isfinite(float(text)):
        raise ConfigError(f"{key} {text!r} is not a number")
    return float(text)


def quantities_as_text(kind: type[Any], table: Mapping[str, object]) -> dict[str, object]:
    """Plain numbers where `kind` wants text with a unit or a share: `amount = 10` is as good as "10".

    A list of numbers is as good as their text too: `nodes = [3, 7]`.
    """
    texts = {key.name for key in keys(kind) if key.type in (str, str | None)}
    return {key: _as_text(value) if key.replace("-", "_") in texts else value for key, value in table.items()}


def _as_text(value: object) -> object:
    if type(value) in (int, float):
        return str(value)
    if isinstance(value, list) and value and all(type(item) is int for item in value):
        return ",".join(map(str, value))
    return value

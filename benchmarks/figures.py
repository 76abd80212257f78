"""A measured figure beside its target."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Sense = Literal["at least", "at most"]


@dataclass(frozen=True)
class Figure:
    """One line of the report. target: None for a figure that only explains another.

    details: what the value was made of, in SI units; for the JSON file and the reader.
    """

    name: str
    value: float
    unit: str
    sense: Sense = "at most"
    target: float | None = None
    details: dict[str, float] | None = None

    @property
    def holds(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.sense == "at least" else self.value <= self.target

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "sense": self.sense if self.target is not None else None,
            "target": self.target,
            "holds": self.holds,
            "details": self.details or {},
        }

    def as_line(self) -> str:
        verdict = {True: "holds", False: "misses", None: ""}[self.holds]
        aim = "" if self.target is None else f"{self.sense} {self.target:g}"
        made_of = ", ".join(f"{key} {shown(value)}" for key, value in (self.details or {}).items())
        line = f"{self.name:<44} {shown(self.value):>9} {self.unit:<9} {aim:<15} {verdict:<6} {made_of}"
        return line.rstrip()


def shown(value: float) -> str:
    """Three significant digits at least, thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def median_seconds(
    clock: Callable[[], float], work: Callable[[], object], runs: int, inner: int = 1
) -> float:
    """Median over `runs` of the mean time of `inner` calls, by `clock`."""
    times = []
    for _ in range(runs):
        start = clock()
        for _ in range(inner):
            work()
        times.append((clock() - start) / inner)
    return statistics.median(times)


def median_ratio(ours: Sequence[float], floors: Sequence[float]) -> float:
    """Median of ours / floor, pair by pair: a pair ran one after the other, on equally busy cores."""
    return statistics.median(a / b for a, b in zip(ours, floors, strict=True))

"""What was asked and what was measured, side by side: the lines that `python -m soak` prints and keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """asked: "" for a figure that only explains another; holds: None then."""

    name: str
    measured: str
    asked: str = ""
    holds: bool | None = None

    def as_line(self) -> str:
        """A row of a Markdown table, wide enough to be read on a terminal too."""
        verdict = {True: "holds", False: "misses", None: ""}[self.holds]
        return f"| {self.name:<58} | {self.asked:<24} | {self.measured:<44} | {verdict:<6} |"

    def as_dict(self) -> dict[str, object]:
        return {"name": self.name, "asked": self.asked, "measured": self.measured, "holds": self.holds}


HEADER = Figure("figure", "measured", "asked").as_line()
RULE = "|---|---|---|---|"


def at_most(name: str, value: float, limit: float, unit: str = "") -> Figure:
    """A figure that has to be at most `limit`; a NaN misses."""
    return Figure(name, _with_unit(value, unit), f"at most {_with_unit(limit, unit)}", value <= limit)


def at_least(name: str, value: float, limit: float, unit: str = "") -> Figure:
    return Figure(name, _with_unit(value, unit), f"at least {_with_unit(limit, unit)}", value >= limit)


def none_of(name: str, found: Sequence[str]) -> Figure:
    """Nothing of that kind may be found; the first three are shown."""
    shown = "none" if not found else f"{len(found)}: " + "; ".join(found[:3])
    return Figure(name, shown, "none", not found)


def explains(name: str, text: str) -> Figure:
    return Figure(name, text)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them do not exceed; NaN of none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _with_unit(value: float, unit: str) -> str:
    number = f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.4g}"
    return f"{number} {unit}".rstrip()

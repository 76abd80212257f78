"""Numbers and names as people read them: units on axes and in tables, text that is safe to draw."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

NAME_LENGTH = 20  # characters of a class name beside a picture

# What XML cannot hold, and what would break a line or turn the direction of writing.
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


class Scale(NamedTuple):
    """A unit for an axis: values are divided by `factor`."""

    unit: str
    factor: float


_BYTES = (Scale("GB", 1e9), Scale("MB", 1e6), Scale("kB", 1e3), Scale("B", 1.0))
_SECONDS = (Scale("h", 3600.0), Scale("min", 60.0), Scale("s", 1.0), Scale("ms", 1e-3))


def plain(text: str) -> str:
    """The text without what cannot be shown: names come from data, and data from anywhere."""
    return _UNSHOWN.sub("\ufffd", str(text))


def short(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"


def class_names(classes: Sequence[str], count: int) -> list[str]:
    """`count` short names; classes without a name are shown by number."""
    return [short(classes[i]) if i < len(classes) else str(i) for i in range(count)]


def bytes_scale(most: float) -> Scale:
    """The unit in which `most` is a number of up to three digits."""
    return next((scale for scale in _BYTES if most >= scale.factor), _BYTES[-1])


def seconds_scale(most: float) -> Scale:
    """Minutes from five on, hours from three on: before that the smaller unit reads better."""
    if most <= 0:
        return _SECONDS[2]
    begins = (3 * 3600.0, 5 * 60.0, 0.1, 0.0)
    return next(scale for scale, begin in zip(_SECONDS, begins, strict=True) if most >= begin)


def bytes_text(size: float) -> str:
    """123456789 -> `123 MB`; there is no part of a byte."""
    scale = bytes_scale(size)
    if scale.factor == 1:
        return f"{size:.0f} {scale.unit}"
    return f"{_three(size / scale.factor)} {scale.unit}"


def seconds_text(seconds: float) -> str:
    """12.345 -> `12.3 s`."""
    scale = seconds_scale(seconds)
    return f"{_three(seconds / scale.factor)} {scale.unit}"


def count_text(count: float) -> str:
    return f"{count:,.0f}"


def counted(count: int, noun: str) -> str:
    """`1 node`, `2,000 nodes`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def accuracy_text(accuracy: float | None) -> str:
    return "-" if accuracy is None or not math.isfinite(accuracy) else f"{accuracy:.3f}"


def _three(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"

"""Hours of the day, as "22:00-06:00" says them: pure, in seconds since local midnight."""

from __future__ import annotations

import re
from dataclasses import dataclass

from p2pfl.errors import ConfigError

DAY = 86_400

_SPAN = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)-([01]?\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class Hours:
    """spans: (from, to) in seconds since midnight, the end not included; one may go over midnight.

    None at all: always.
    """

    spans: tuple[tuple[int, int], ...] = ()

    @classmethod
    def parse(cls, texts: tuple[str, ...]) -> Hours:
        """ConfigError if one of them is not HH:MM-HH:MM, or is empty."""
        spans = []
        for text in texts:
            match = _SPAN.fullmatch(text.strip())
            if match is None:
                raise ConfigError(f"train-hours {text!r} is not HH:MM-HH:MM; for example 22:00-06:00")
            hours, minutes, to_hours, to_minutes = map(int, match.groups())
            span = (hours * 60 + minutes) * 60, (to_hours * 60 + to_minutes) * 60
            if span[0] == span[1]:
                raise ConfigError(f"train-hours {text!r} is no time at all; leave it out to train always")
            spans.append(span)
        return cls(tuple(spans))

    def opens_in(self, at: float) -> float:
        """Seconds from `at`, since midnight, until it is time; 0 if it is."""
        if not self.spans:
            return 0.0
        return min(0.0 if (at - start) % DAY < (end - start) % DAY else (start - at) % DAY
                   for start, end in self.spans)  # fmt: skip

"""Hours of the day: when they are, and how long until they are."""

from __future__ import annotations

import pytest

from p2pfl.errors import ConfigError
from p2pfl.hours import DAY, Hours


def at(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60


@pytest.mark.parametrize(
    ("spans", "now", "seconds"),
    [
        ((), "12:00", 0),
        (("22:00-06:00",), "22:00", 0),
        (("22:00-06:00",), "00:00", 0),
        (("22:00-06:00",), "5:59", 0),
        (("22:00-06:00",), "06:00", 16 * 3600),
        (("22:00-06:00",), "21:59", 60),
        (("9:00-17:00",), "8:00", 3600),
        (("9:00-17:00",), "17:00", 16 * 3600),
        (("9:00-17:00", "22:00-23:00"), "21:30", 1800),
        (("00:00-23:59",), "23:59", 60),
    ],
)
def test_it_opens_in(spans: tuple[str, ...], now: str, seconds: int) -> None:
    assert Hours.parse(spans).opens_in(at(now)) == seconds


def test_waiting_leads_to_an_open_time() -> None:
    hours = Hours.parse(("23:30-00:30", "12:00-12:01"))
    for now in range(0, DAY, 77):
        assert hours.opens_in((now + hours.opens_in(now)) % DAY) == 0


@pytest.mark.parametrize("text", ["", "22-6", "24:00-06:00", "22:00", "22:60-06:00", "a-b", "22:00-06:00x"])
def test_what_is_no_span_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="is not HH:MM-HH:MM; for example"):
        Hours.parse((text,))


def test_an_empty_span_is_an_error() -> None:
    with pytest.raises(ConfigError, match="is no time at all"):
        Hours.parse(("08:00-08:00",))

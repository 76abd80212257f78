"""What is printed of a figure, and when one misses."""

from __future__ import annotations

import math

import pytest

from soak.figures import HEADER, RULE, at_least, at_most, explains, none_of, percentile


@pytest.mark.parametrize(("value", "holds"), [(14.9, True), (15.0, True), (15.1, False), (math.nan, False)])
def test_a_figure_holds_up_to_its_limit(value: float, holds: bool) -> None:
    assert at_most("x", value, 15.0).holds is holds


def test_nothing_measured_is_not_enough() -> None:
    assert at_least("x", math.nan, 0.95).holds is False
    assert at_least("x", 0.95, 0.95).holds is True


def test_the_first_of_what_should_not_be_are_shown() -> None:
    assert none_of("x", []).holds
    found = none_of("x", ["a", "b", "c", "d"])
    assert (found.measured, found.holds) == ("4: a; b; c", False)


def test_lines_are_rows_of_one_table() -> None:
    lines = [HEADER, RULE, at_most("x", 1234.5, 2e6, "MB").as_line(), explains("y", "z").as_line()]
    assert {line.count("|") for line in lines} == {5}
    assert "| at most 2,000,000 MB" in lines[2]
    assert "| holds  |" in lines[2]
    assert "holds" not in lines[3]


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        (list(range(1, 101)), 0.99, 99),
        ([5.0], 0.99, 5.0),
        ([1.0, 2.0], 1.0, 2.0),
    ],
)
def test_percentiles(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


def test_no_value_has_no_percentile() -> None:
    assert math.isnan(percentile([], 0.99))

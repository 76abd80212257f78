"""Bytes of an hour: what fits, when more does, and that no hour has more."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfl.network.hourly import HOUR, SLOT, HourlyBudget


class Hand:
    """A clock that is set by hand."""

    def __init__(self, now: float = 1e6) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_what_fits_passes_at_once_and_more_when_the_hour_is_over() -> None:
    clock = Hand()
    budget = HourlyBudget(1000, clock)
    budget.spend(600)
    assert (budget.spent(), budget.wait(400)) == (600, 0.0)
    clock.now += 600
    budget.spend(300)
    wait = budget.wait(400)
    assert HOUR - 600 <= wait <= HOUR - 600 + SLOT
    clock.now += wait
    assert (budget.wait(400), budget.spent()) == (0.0, 300)


def test_without_a_limit_nothing_is_counted() -> None:
    budget = HourlyBudget(0, Hand())
    budget.spend(10**12)
    assert (budget.spent(), budget.wait(10**12)) == (0, 0.0)


def test_more_than_the_budget_waits_until_nothing_is_spent() -> None:
    clock = Hand()
    budget = HourlyBudget(1000, clock)
    assert budget.wait(5000) == 0.0
    budget.spend(1)
    clock.now += budget.wait(5000)
    assert (budget.spent(), budget.wait(5000)) == (0, 0.0)


def test_what_is_under_way_counts_until_it_is_given_back() -> None:
    budget = HourlyBudget(1000, Hand())
    with budget.reserved(800):
        assert budget.wait(300) == SLOT
        assert budget.wait(200) == 0.0
    assert budget.wait(300) == 0.0


@settings(derandomize=True, deadline=None, database=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 2000), st.integers(1, 400)), max_size=60))
def test_whoever_asks_first_never_passes_it_in_any_hour(steps: list[tuple[float, int]]) -> None:
    clock, sent = Hand(), list[tuple[float, int]]()
    budget = HourlyBudget(1000, clock)
    for pause, size in steps:
        clock.now += pause
        clock.now += budget.wait(size)
        assert budget.wait(size) == 0.0
        budget.spend(size)
        sent.append((clock.now, size))
    for end, _ in sent:
        assert sum(size for time, size in sent if end - HOUR < time <= end) <= 1000


@pytest.mark.parametrize("size", [0, 1])
def test_memory_is_bounded(size: int) -> None:
    clock = Hand()
    budget = HourlyBudget(10**9, clock)
    for _ in range(5000):
        clock.now += 7.0
        budget.spend(size)
    assert len(budget._slots) <= HOUR / SLOT + 2

"""Budgets of addresses: pure, so the clock is a number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.network.budget import Buckets, origin


def test_a_burst_and_then_the_rate() -> None:
    buckets = Buckets(10.0, 20.0)
    spent = 0
    while not buckets.wait("a", 100.0):
        buckets.spend("a", 1.0, 100.0)
        spent += 1
    assert spent == 20
    assert buckets.wait("a", 100.0) == pytest.approx(0.1)
    assert buckets.wait("a", 100.06) == pytest.approx(0.04)
    assert buckets.wait("a", 100.11) == 0.0
    assert buckets.wait("b", 100.0) == 0.0


def test_what_was_under_way_is_paid_for_later() -> None:
    buckets = Buckets(100.0, 200.0)
    buckets.spend("a", 1200.0, 0.0)
    assert buckets.wait("a", 0.0) == pytest.approx(10.01)
    assert buckets.wait("a", 10.02) == 0.0


def test_a_quiet_source_is_given_no_more_than_the_burst() -> None:
    buckets = Buckets(10.0, 20.0)
    buckets.spend("a", 5.0, 0.0)
    buckets.spend("a", 20.0, 1e9)
    assert buckets.wait("a", 1e9) > 0


def test_no_rate_is_no_limit_and_no_memory() -> None:
    buckets = Buckets(0.0, 0.0)
    for number in range(100):
        buckets.spend(str(number), 1e9, 0.0)
    assert (buckets.wait("1", 0.0), len(buckets)) == (0.0, 0)


def test_memory_is_bounded_and_the_busy_are_not_forgotten() -> None:
    buckets = Buckets(1.0, 2.0, most=10)
    for number in range(1000):
        buckets.spend("busy", 1.0, 0.0)
        buckets.spend(f"passing {number}", 1.0, 0.0)
    assert len(buckets) == 10
    assert buckets.wait("busy", 0.0) > 900


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 50)), max_size=60),
    st.floats(0.5, 100),
    st.floats(1, 100),
)
def test_no_more_passes_than_burst_and_rate_allow(
    steps: list[tuple[float, float]], rate: float, burst: float
) -> None:
    """Over any time: what passed while it was allowed is at most burst + rate x time + the last amount."""
    buckets, now, passed, largest = Buckets(rate, burst), 0.0, 0.0, 0.0
    for pause, amount in steps:
        now += pause
        if not buckets.wait("a", now):
            buckets.spend("a", amount, now)
            passed += amount
            largest = max(largest, amount)
    assert passed <= burst + rate * now + largest + 1e-6


@pytest.mark.parametrize(
    ("host", "known_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", ""),
        ("a name", "a name"),
    ],
)
def test_one_customer_is_one_origin(host: str, known_as: str) -> None:
    assert origin(host) == known_as

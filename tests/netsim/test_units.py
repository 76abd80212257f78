"""Quantities of a scenario as text."""

from __future__ import annotations

import numpy as np
import pytest

from netsim.units import (
    Moment,
    nodes_text,
    parse_amount,
    parse_distribution,
    parse_duration,
    parse_moment,
    parse_nodes,
    parse_rate,
    parse_window,
)
from p2pfl.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20ms", 0.02), ("1.5 s", 1.5), ("2min", 120), ("1h", 3600), ("7", 7), ("5us", 5e-6)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration("latency", text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("1Mbit/s", 125_000), ("8bit/s", 1), ("2 MB/s", 2e6), ("1.6kbit/s", 200), ("1GB/s", 1e9)],
)
def test_rates_are_bytes_a_second(text: str, rate: float) -> None:
    assert parse_rate("bandwidth", text) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "total", "amount"),
    [("10", 50, 10), ("30%", 50, 15), ("50%", 15, 8), ("0", 1, 0), ("100%", 7, 7)],
)
def test_amounts(text: str, total: int, amount: int) -> None:
    assert parse_amount("crash", text, total) == amount


def test_nodes_are_sorted_and_taken_once() -> None:
    assert parse_nodes("nodes", "7, 0-2,2", 8) == (0, 1, 2, 7)
    assert parse_nodes("nodes", "*", 3) == (0, 1, 2)


def test_moments_and_windows() -> None:
    assert parse_moment("at", "12s") == Moment(seconds=12)
    assert parse_moment("at", "30%") == Moment(share=0.3)
    assert parse_window("window", "10%-70%") == (Moment(share=0.1), Moment(share=0.7))
    assert parse_window("window", "5s-1min") == (Moment(5.0), Moment(60.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parse_duration("latency", "fast"), "latency 'fast' is not a duration"),
        (lambda: parse_duration("latency", "1e30s"), "too long"),
        (lambda: parse_rate("uplink", "1 Mb"), "uplink '1 Mb' is not a data rate"),
        (lambda: parse_rate("uplink", "0bit/s"), "uplink must be above 0"),
        (lambda: parse_amount("crash", "51", 50), "crash 51 is more than there are: 50"),
        (lambda: parse_amount("crash", "101%", 50), "crash '101%' is not a share"),
        (lambda: parse_amount("crash", "some", 50), "neither a number nor a share"),
        (lambda: parse_nodes("nodes", "4-2", 8), "the range 4-2 runs backwards"),
        (lambda: parse_nodes("nodes", "8", 8), "there is no node 8; the last of 8 is 7"),
        (lambda: parse_nodes("nodes", "x", 8), "does not name nodes"),
        (lambda: parse_window("window", "10%"), "is not FROM-TO"),
        (lambda: parse_window("window", "50%-10%"), "window ends too early"),
        (lambda: parse_window("window", "1s-10%"), "both ends as times or both as shares"),
        (lambda: parse_distribution("latency", "normal:1s,2s", "duration"), "is not a distribution"),
        (lambda: parse_distribution("latency", "uniform:2s,1s", "duration"), "ends before it begins"),
        (lambda: parse_distribution("latency", "lognormal:0s,1", "duration"), "median must be above 0"),
        (lambda: parse_distribution("speed", "1e999", "number"), "is not a number"),
    ],
)
def test_what_is_wrong_is_said(call: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        call()  # type: ignore[operator]


def test_a_constant_draws_nothing() -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    assert parse_distribution("latency", "20ms", "duration").draw(rng) == 0.02
    assert rng.bit_generator.state == before


@pytest.mark.parametrize(("text", "median"), [("uniform:10ms,30ms", 0.02), ("lognormal:20ms,0.5", 0.02)])
def test_draws_lie_around_the_median(text: str, median: float) -> None:
    distribution = parse_distribution("latency", text, "duration")
    rng = np.random.default_rng(0)
    draws = [distribution.draw(rng) for _ in range(4001)]
    assert distribution.typical == pytest.approx(median)
    assert np.median(draws) == pytest.approx(median, rel=0.05)
    assert min(draws) > 0


@pytest.mark.parametrize("nodes", [(), (3,), (0, 1, 2, 5), (1, 3, 5), tuple(range(40))])
def test_nodes_as_text_are_read_again(nodes: tuple[int, ...]) -> None:
    text = nodes_text(reversed(nodes))
    assert (parse_nodes("nodes", text, 40) if text else ()) == nodes


def test_runs_of_nodes_are_ranges() -> None:
    assert nodes_text([7, 0, 1, 2, 4, 5]) == "0-2,4-5,7"

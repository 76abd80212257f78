import pytest

from p2pfl.gossip import deadlines
from p2pfl.gossip.deadlines import RoundTrip, backoff, longest


@pytest.mark.parametrize(
    ("failures", "jitter", "seconds"),
    [(1, 0.5, 1.0), (2, 0.5, 2.0), (4, 0.0, 4.0), (6, 0.5, 32.0), (7, 0.5, 60.0), (10_000, 0.0, 30.0)],
)
def test_backoff_doubles_up_to_a_minute(failures, jitter, seconds):
    assert backoff(failures, jitter) == seconds


@pytest.mark.parametrize(("size", "seconds"), [(0, 10.0), (1_000_000, 30.0), (50_000_000, 1010.0)])
def test_longest_grows_with_the_size(size, seconds):
    assert longest(size) == seconds


def test_nothing_measured_waits_longest():
    assert RoundTrip().deadline(1000) == longest(1000)


def test_a_fast_network_still_gets_the_shortest_deadline():
    assert RoundTrip().measured(0.001).deadline(1000) == deadlines.SHORTEST


def test_deadline_follows_the_measured_time_and_its_deviation():
    steady = RoundTrip()
    for _ in range(50):
        steady = steady.measured(1.0)
    assert steady.deadline(1_000_000) == pytest.approx(4.0, rel=0.01)
    assert steady.measured(2.0).deadline(1_000_000) > 5


def test_deadline_never_exceeds_the_longest():
    assert RoundTrip().measured(1000.0).deadline(10) == longest(10)

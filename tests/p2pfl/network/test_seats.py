"""Shares and seats: nobody gets all of what everybody needs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pfl.network.seats import Seat, Seats
from p2pfl.network.shares import Shares


def take_all(shares: Shares, source: str) -> int:
    taken = 0
    while shares.take(source):
        taken += 1
    return taken


def test_one_source_gets_half_two_a_third_each_and_so_on() -> None:
    shares = Shares(60)
    assert take_all(shares, "a") == 30
    assert take_all(shares, "b") == 15
    for _ in range(10):
        shares.give_back("a")
    assert (take_all(shares, "b"), shares.held("a"), shares.free) == (5, 20, 20)
    assert not shares.take("a")
    assert shares.take("c")


def test_a_single_place_can_be_had() -> None:
    shares = Shares(1)
    assert shares.take("a")
    assert not shares.take("b")
    shares.give_back("a")
    assert shares.take("b")


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcde")), max_size=200), st.integers(1, 20))
def test_the_account_always_balances(steps: list[tuple[bool, str]], size: int) -> None:
    shares = Shares(size)
    for take, source in steps:
        if take:
            before = shares.free
            assert shares.take(source) is (shares.held(source) - (before != shares.free) < before)
        elif shares.held(source):
            shares.give_back(source)
        assert shares.free + sum(map(shares.held, "abcde")) == size
        assert shares.free >= 0


def nobody(reserved: bool) -> Seat | None:
    return None


def test_who_holds_too_many_is_left_those_for_pages() -> None:
    seats = Seats(4, 2)
    taken = [seats.take("a", nobody) for _ in range(6)]
    assert [seat and seat.reserved for seat in taken] == [False, False, True, True, None, None]
    assert seats.take("b", nobody)
    assert taken[2] is not None
    taken[2].leave()
    taken[2].leave()  # the second time is none
    assert [seat and seat.reserved for seat in (seats.take("a", nobody), seats.take("a", nobody))] == [
        True,
        None,
    ]


def test_idle_connections_keep_no_newcomer_out() -> None:
    seats = Seats(4, 0)
    held = [seats.take(source, nobody) for source in "abcd"]
    ended: list[Seat] = []

    def end_first(reserved: bool) -> Seat | None:
        if reserved:
            return None
        ended.append(seat := next(seat for seat in held if seat is not None and seat.is_taken))
        return seat

    assert seats.take("a", end_first) is None  # it has one
    seat = seats.take("e", end_first)
    assert seat is not None
    assert ended == [held[0]]
    ended[0].leave()  # when its connection has ended: it was given away already
    assert seats.take("f", nobody) is None


def test_idle_ones_of_those_for_pages_make_room_too() -> None:
    seats = Seats(1, 1)
    first, page = seats.take("a", nobody), seats.take("a", nobody)
    assert first is not None
    assert page is not None
    assert page.reserved

    def end_page(reserved: bool) -> Seat | None:
        return page if reserved else None

    assert seats.take("a", nobody) is None
    again = seats.take("a", end_page)
    assert again is not None
    assert again.reserved

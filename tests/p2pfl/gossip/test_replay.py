"""What was heard before is refused; what overtook something on its way is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors import Replayed
from p2pfl.gossip.replay import WINDOW, ReplayGuard

from .samples import quick


def heard(guard: ReplayGuard, counter: int, incarnation: int = 1, id: str = "ann") -> bool:
    """Whether it is new; then it is known."""
    try:
        guard.accept(id, incarnation, counter)
    except Replayed:
        return False
    return True


def test_the_same_message_is_new_once() -> None:
    guard = ReplayGuard()
    assert [heard(guard, 5), heard(guard, 5)] == [True, False]
    assert heard(guard, 5, id="bob")


def test_looking_remembers_nothing() -> None:
    guard = ReplayGuard()
    guard.check("ann", 1, 5)
    assert heard(guard, 5)


def test_an_older_incarnation_is_over_whatever_its_counter() -> None:
    guard = ReplayGuard()
    assert heard(guard, 100, incarnation=3)
    assert not heard(guard, 2**53, incarnation=2)
    assert heard(guard, 1, incarnation=4)
    assert not heard(guard, 101, incarnation=3)


def test_a_message_may_be_overtaken_by_a_window_of_others_however_far_they_are() -> None:
    guard = ReplayGuard()
    assert heard(guard, 1000)
    for step in range(WINDOW - 1):
        assert heard(guard, 10**6 * (step + 1))
    assert heard(guard, 1001)  # a window of others is newer
    assert [heard(guard, counter) for counter in (999, 1000, 1001)] == [False] * 3
    assert heard(guard, 1002)


@quick
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 300)), max_size=300))
def test_no_message_is_ever_taken_twice(messages: list[tuple[int, int]]) -> None:
    guard = ReplayGuard()
    taken = [(inc, counter) for inc, counter in messages if heard(guard, counter, inc)]
    assert len(taken) == len(set(taken))
    assert [inc for inc, _ in taken] == sorted(inc for inc, _ in taken)


@quick
@given(st.permutations(range(WINDOW)))
def test_a_window_of_messages_may_come_in_any_order(counters: list[int]) -> None:
    guard = ReplayGuard()
    assert all(heard(guard, counter) for counter in counters)
    assert not any(heard(guard, counter) for counter in counters)


def test_an_answer_is_noted_and_makes_old_what_is_older() -> None:
    guard = ReplayGuard()
    guard.note("ann", 2, 7)
    guard.note("ann", 1, 9)
    guard.note("ann", 2, 7)
    assert guard.newest("ann") == (2, 7)
    assert not heard(guard, 7, incarnation=2)
    assert not heard(guard, 9, incarnation=1)
    assert heard(guard, 6, incarnation=2)


def test_after_a_restart_all_up_to_the_newest_is_old() -> None:
    guard = ReplayGuard()
    guard.restore([("ann", 3, 40)])
    assert guard.newest("ann") == (3, 40)
    assert not any(heard(guard, counter, incarnation=3) for counter in (0, 39, 40))
    assert not heard(guard, 41, incarnation=2)
    assert heard(guard, 41, incarnation=3)
    assert guard.newest("nobody") == (0, 0)


def test_strangers_displace_strangers_alone() -> None:
    guard = ReplayGuard(senders=8)
    guard.kept = lambda id: id == "friend"
    guard.restore([("known", 1, 9)])
    assert heard(guard, 9, id="friend")
    for stranger in range(100):
        assert heard(guard, 1, id=f"stranger {stranger}")
    assert not heard(guard, 9, id="friend")
    assert not heard(guard, 9, id="known")
    assert not heard(guard, 1, id="stranger 99")
    assert heard(guard, 1, id="stranger 0")
    assert len(guard._heard) == 8

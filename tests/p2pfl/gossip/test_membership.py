"""Who is alive, without any network: what a member's record becomes of what is heard and tried."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.gossip import membership
from p2pfl.gossip.membership import Membership
from p2pfl.gossip.messages import STANDINGS, Rumour

URL = "http://10.0.0.2:8470"


def making(start: int = 1, limit: int = 8, seed: int = 0) -> Membership:
    return Membership("me", start=start, limit=limit, period=1.0, rng=np.random.default_rng(seed))


def knowing(*ids: str) -> Membership:
    """One that has heard from these, and has told it often enough."""
    made = making()
    for id in ids:
        made.heard(id, URL, 0.0)
        made.introduced(Rumour(id, URL, "alive", 1, 0))
    for _ in range(20):
        made.news("")
    return made


def about(id: str, standing: str, start: int = 1, refuted: int = 0, by: str = "") -> Rumour:
    return Rumour(id, URL, standing, start, refuted, by)  # type: ignore[arg-type]


def told(made: Membership, *rumours: Rumour, now: float = 1.0) -> list[tuple[str, str]]:
    return [(change.member.id, change.standing) for change in made.told(rumours, now)]


def test_whoever_speaks_to_us_is_a_member_and_others_hear_of_it() -> None:
    made = making()
    change = made.heard("you", URL, 0.0)
    assert change is not None
    assert (change.standing, change.new) == ("alive", True)
    assert Rumour("you", URL, "alive", 0, 0) in made.news("")
    assert made.heard("you", URL, 1.0) is None


def test_nobody_is_a_member_by_hearsay() -> None:
    made = making()
    assert told(made, about("you", "alive"), about("him", "dead")) == []
    assert not made.members
    assert made.is_news_of_return(about("you", "alive"))
    assert not made.is_news_of_return(about("you", "dead"))


def test_we_are_no_member_of_our_own() -> None:
    made = making()
    assert made.heard("me", URL, 0.0) is None
    assert not made.members


# -- suspicion


def test_an_unanswered_probe_is_a_suspicion_and_a_death_once_its_timer_is_over() -> None:
    made = knowing("you")
    change = made.unreached("you", 10.0, silent_helpers=0, helpers=3)
    assert change is not None
    assert change.standing == "suspect"
    assert Rumour("you", URL, "suspect", 1, 0, "me") in made.news("")
    longest = made.suspicion(1)
    assert made.expire(10.0 + longest - 0.01) == []
    assert [c.standing for c in made.expire(10.0 + longest)] == ["dead"]
    assert made.standing("you") == "dead"
    assert about("you", "dead") in made.news("")


def test_a_rumour_alone_kills_nobody_who_can_be_called() -> None:
    made = knowing("you")
    told(made, about("you", "suspect", by="him"), about("you", "dead"))
    assert made.standing("you") == "suspect"
    assert made.expire(1000.0) == []
    assert [member.id for member in made.to_check()] == ["you"]


def test_what_others_say_and_our_own_probe_confirms_is_believed_at_once() -> None:
    for standing in ("dead", "left"):
        made = knowing("you")
        told(made, about("you", standing))
        change = made.unreached("you", 2.0, 0, 3)
        assert change is not None
        assert change.standing == made.standing("you") == standing


def test_an_answer_acquits_a_suspect() -> None:
    made = knowing("you")
    told(made, about("you", "dead"))
    change = made.heard("you", URL, 2.0)
    assert change is not None
    assert change.standing == "alive"
    assert not made.to_check()


def test_whom_another_reaches_is_not_dead_for_us() -> None:
    made = knowing("you")
    made.unreached("you", 1.0, 0, 3)
    change = made.vouched("you", 2.0)
    assert change is not None
    assert change.standing == "alive"
    assert made.expire(1000.0) == []


@pytest.mark.parametrize(("accusers", "share"), [(1, 1.0), (2, 0.369), (3, 0.0), (9, 0.0)])
def test_the_more_accusers_the_shorter_the_timer(accusers: int, share: float) -> None:
    made = knowing(*map(str, range(9)))  # with us ten: log10 is 1
    shortest = membership.SUSPICION
    longest = shortest * membership.SUSPICION_STRETCH
    assert made.suspicion(accusers) == pytest.approx(shortest + share * (longest - shortest), abs=0.01)


def test_in_a_larger_network_news_takes_longer_and_so_does_the_timer() -> None:
    small, large = knowing("a"), knowing(*map(str, range(999)))
    assert large.suspicion(3) == pytest.approx(3 * small.suspicion(3))


def test_accusers_are_counted_once_and_passed_on_up_to_a_number() -> None:
    made = knowing("you")
    for by in ("a", "a", "b", "c", "d"):
        told(made, about("you", "suspect", by=by))
    assert made.members["you"].accusers == ["a", "b", "c"]
    assert about("you", "suspect", by="c") in made.news("")


def test_about_as_many_as_wanted_check_a_suspect_themselves() -> None:
    checks = 0
    for seed in range(200):
        made = making(seed=seed)
        for id in map(str, range(100)):
            made.heard(id, URL, 0.0)
        made.told([Rumour("7", URL, "suspect", 0, 0, "8")], 1.0)
        checks += len(made.to_check())
    assert checks / 200 * 100 == pytest.approx(membership.CHECKS, rel=0.7)


# -- incarnations


def test_what_is_said_of_an_older_incarnation_is_ignored() -> None:
    made = knowing("you")
    told(made, about("you", "alive", 1, 5))
    assert told(made, about("you", "suspect", 1, 4, "him"), about("you", "dead", 0, 99)) == []


def test_a_newer_incarnation_ends_a_suspicion() -> None:
    made = knowing("you")
    told(made, about("you", "suspect", by="him"))
    assert told(made, about("you", "alive", 1, 0)) == []
    assert told(made, about("you", "alive", 1, 1)) == [("you", "alive")]
    assert about("you", "alive", 1, 1) in made.news("")


def test_we_object_to_what_is_said_of_us() -> None:
    made = making(start=3)
    assert made.own("") == Rumour("me", "", "alive", 3, 0)
    told(made, about("me", "suspect", 3, 0, "him"))
    assert made.own("").incarnation == (3, 1)
    told(made, about("me", "dead", 3, 0), about("me", "dead", 2, 9), about("me", "alive", 3, 7))
    assert made.own("").incarnation == (3, 1)


def test_nobody_can_make_us_run_out_of_numbers() -> None:
    made = making()
    told(made, about("me", "suspect", 1, 2**53))
    assert made.own("").refuted == 0


def test_the_accused_hears_of_it_and_until_it_has_objected_again() -> None:
    made = knowing("you", "him")
    told(made, about("you", "suspect", by="him"))
    assert about("you", "suspect", by="him") in made.news("", to="you")
    made.heard("you", URL, 2.0)  # which we believe; but others go on suspecting it
    assert about("you", "suspect", by="him") in made.news("", to="you")
    made.introduced(about("you", "alive", 1, 1))
    assert made.news("", to="you")[1:] == (about("you", "alive", 1, 1),)


def test_its_own_word_counts_also_where_others_claimed_more() -> None:
    made = knowing("you")
    told(made, about("you", "suspect", 1, 1000, "liar"))
    made.heard("you", URL, 2.0)
    made.introduced(about("you", "alive", 1, 2))
    assert made.members["you"].incarnation == (1, 2)


def test_who_left_is_gone_and_comes_back_with_its_next_start() -> None:
    made = knowing("you")
    change = made.introduced(about("you", "left"))
    assert change is not None
    assert change.standing == "left"
    assert not made.is_news_of_return(about("you", "alive"))
    assert made.is_news_of_return(about("you", "alive", 2))
    back = made.heard("you", URL, 5.0)
    assert back is not None
    assert back.new
    made.introduced(about("you", "alive", 2))
    assert made.members["you"].incarnation == (2, 0)


def test_who_leaves_says_so_and_objects_no_more() -> None:
    made = making()
    made.leave()
    told(made, about("me", "suspect", 1, 0))
    assert made.own("") == Rumour("me", "", "left", 1, 0)


# -- local health


def test_silence_of_all_is_taken_for_our_own_fault() -> None:
    made = knowing("you")
    for _ in range(20):
        made.unreached("you", 1.0, silent_helpers=3, helpers=3)
    assert made.health == membership.WORST_HEALTH
    assert made.expire(1.0 + made.suspicion(1)) == []  # slower to believe in a death
    for _ in range(20):
        made.reached("you", 2.0)
    assert made.health == 0


def test_helpers_that_answer_show_that_it_is_not_our_fault() -> None:
    made = knowing("you")
    made.unreached("you", 1.0, silent_helpers=1, helpers=3)
    assert made.health == 0


# -- those who cannot be called


def test_who_cannot_be_called_is_suspected_after_a_long_silence_only() -> None:
    made = making()
    made.heard("nat", "", 0.0)
    assert made.expire(membership.SILENCE - 1.0) == []
    assert [c.standing for c in made.expire(membership.SILENCE + 1.0)] == ["suspect"]
    end = membership.SILENCE + 1.0 + made.suspicion(1)
    assert [c.standing for c in made.expire(end)] == ["dead"]


def test_news_of_who_cannot_be_called_keeps_it_alive() -> None:
    made = making()
    made.heard("nat", "", 0.0)
    made.told([Rumour("nat", "", "alive", 0, 1)], membership.SILENCE - 1.0)
    assert made.expire(membership.SILENCE + 1.0) == []


def test_who_cannot_be_called_gives_news_of_itself() -> None:
    made = making()
    made.sign_of_life()
    assert made.own("").incarnation == (1, 1)


# -- bounds


def test_a_rumour_is_told_a_number_of_times() -> None:
    made = making()
    made.heard("you", URL, 0.0)
    said = [len(made.news("")) - 1 for _ in range(membership.RETELLING + 2)]
    assert said == [1] * membership.RETELLING + [0, 0]


def test_a_message_carries_so_many_rumours_the_least_told_first() -> None:
    made = making()
    for index in range(40):
        made.heard(str(index), URL, 0.0)
    first, second = made.news("")[1:], made.news("")[1:]
    assert len(first) == len(second) == membership.PIGGYBACKED
    assert not set(first) & set(second)


def test_a_sync_has_at_most_what_fits() -> None:
    made = knowing(*map(str, range(100)))
    assert len(made.everything("", 64)) == 64
    assert len({rumour.id for rumour in made.everything("", 200)}) == 101


def test_so_many_dead_are_remembered_as_may_live() -> None:
    made = knowing(*map(str, range(20)))
    for index in range(20):
        made.introduced(about(str(index), "left"))
    assert [member.id for member in made.gone()] == [str(index) for index in range(12, 20)]


def test_who_left_the_view_is_forgotten_unless_it_cannot_be_called() -> None:
    made = knowing("a", "b")
    made.heard("nat", "", 0.0)
    made.forget(["b"])
    assert sorted(made.members) == ["b", "nat"]


_RUMOURS = st.builds(
    Rumour,
    st.sampled_from(["me", "a", "b", "c", "stranger"]),
    st.sampled_from(["", URL]),
    st.sampled_from(STANDINGS),
    st.integers(0, 3),
    st.integers(0, 2**53),
    st.sampled_from(["", "a", "me", "liar"]),
)


@given(st.lists(st.tuples(_RUMOURS, st.floats(0, 1000)), max_size=40))
def test_whatever_is_said_removes_nobody_who_can_be_called(said: list[tuple[Rumour, float]]) -> None:
    made = knowing("a", "b", "c")
    for rumour, now in said:
        made.told([rumour], now)
        made.expire(now)
    assert {"a", "b", "c"} <= set(made.members)
    assert set(made.members) == {"a", "b", "c"}
    assert made.own("").standing == "alive"
    for id in ("a", "b", "c"):
        made.heard(id, URL, 2000.0)
        assert made.members[id].standing == "alive"

import numpy as np
import pytest

from p2pfl.gossip import deadlines
from p2pfl.gossip.messages import KnownPeer, ViewEntry
from p2pfl.gossip.view import FORGET_AFTER, PASSED_ON, View

SOURCE = "10.9.9.9"


def view(size: int = 64, configured: tuple[str, ...] = (), *, fixed: bool = False) -> View:
    return View("me", size, configured, np.random.default_rng(0), fixed=fixed)


def url(i: int) -> str:
    return f"http://10.0.{i >> 8}.{i & 255}:8470"


def meet(v: View, count: int) -> None:
    for i in range(count):
        v.announced(f"id{i}", url(i), SOURCE)
        (contact,) = (c for c in v.contacts() if c.url == url(i))
        assert v.answered(contact, f"id{i}", SOURCE) == ""


def test_an_announced_contact_is_passed_on_only_after_it_answered():
    v = view()
    assert v.announced("a", url(1), SOURCE)
    assert v.passed_on() == ()
    (contact,) = v.strangers(0.0)
    assert v.answered(contact, "a", SOURCE) == ""
    assert v.passed_on() == (ViewEntry("a", url(1)),)


def test_an_announced_contact_that_answers_as_another_is_dropped():
    v = view()
    v.announced("a", url(1), SOURCE)
    (contact,) = v.contacts()
    assert "announced as a" in v.answered(contact, "b", SOURCE)
    assert v.contacts() == []


def test_an_announced_contact_that_does_not_answer_is_called_once():
    v = view()
    v.announced("a", url(1), SOURCE)
    (contact,) = v.contacts()
    assert v.failed(contact, "refused", 0.0)
    assert v.contacts() == []


def test_a_configured_contact_is_kept_and_retried_with_backoff():
    v = view(configured=(url(1),))
    (contact,) = v.contacts()
    for failures in range(1, 30):
        assert v.failed(contact, "refused", 100.0) == ""
        delay = contact.retry_at - 100
        assert 0.5 * min(60, 2 ** (failures - 1)) <= delay <= 1.5 * min(60, 2 ** (failures - 1))
    assert v.strangers(100.0) == []
    assert v.pick(1, 100.0) == []
    assert v.pick(1, contact.retry_at) == [contact]


def test_a_live_contact_that_fails_is_tried_again_and_in_the_end_forgotten():
    v = view()
    meet(v, 1)
    (contact,) = v.live()
    for _ in range(7):
        assert v.failed(contact, "timed out", 0.0) == ""
        assert contact.state == "unreachable"
    assert v.failed(contact, "timed out", 0.0) == "timed out"
    assert v.contacts() == []


def test_a_configured_contact_may_change_its_id_after_a_restart():
    v = view(configured=(url(1),))
    (contact,) = v.contacts()
    v.answered(contact, "old", SOURCE)
    assert v.answered(contact, "new", SOURCE) == ""
    assert v.known("new") is contact


def test_a_learned_contact_that_was_restarted_without_its_state_is_kept_under_its_new_id():
    v = view()
    meet(v, 1)
    (contact,) = v.live()
    v.failed(contact, "gone", 0.0)
    assert v.answered(contact, "reborn", SOURCE) == ""
    assert v.known("reborn") is contact
    assert v.known("id0") is None


def test_it_never_contacts_itself():
    v = view(configured=(url(1), url(2)))
    v.listens_at(url(1))
    assert [c.url for c in v.contacts()] == [url(2)]
    assert not v.announced("me", url(3), SOURCE)
    assert not v.announced("x", url(1), SOURCE)
    assert v.answered(v.contacts()[0], "me", SOURCE) == "it is this node"
    assert v.contacts() == []


def test_one_node_under_two_addresses_is_one_contact():
    v = view(configured=(url(1), url(2)))
    first, second = v.contacts()
    v.answered(first, "a", SOURCE)
    assert "same node" in v.answered(second, "a", SOURCE)
    assert v.live() == [first]


def test_a_node_that_moved_replaces_its_unreachable_old_address():
    v = view(configured=(url(1), url(2)))
    first, second = v.contacts()
    v.answered(first, "a", SOURCE)
    v.failed(first, "gone", 0.0)
    assert v.answered(second, "a", SOURCE) == ""
    assert v.contacts() == [second]


def test_odd_addresses_are_not_remembered():
    v = view()
    assert not v.announced("a", "http://169.254.169.254:80", SOURCE)
    assert not v.announced("a", "", SOURCE)
    assert v.contacts() == []


def test_a_flood_of_announcements_stays_bounded_and_hurts_no_live_contact():
    v = view(size=8)
    meet(v, 8)
    for i in range(1000, 3000):
        v.announced(f"sybil{i}", url(i), SOURCE)
    assert len(v.live()) == 8
    assert len(v.contacts()) == 16


def test_answers_never_exceed_the_size_and_unreachable_ones_go_first():
    v = view(size=8)
    meet(v, 8)
    victim = v.live()[3]
    v.failed(victim, "gone", 0.0)
    v.announced("late", url(500), SOURCE)
    v.answered(next(c for c in v.contacts() if c.id == "late"), "late", SOURCE)
    assert v.known("late") is not None
    assert victim not in v.contacts()
    meet(v, 40)
    assert len(v.live()) == 8


def test_passes_on_at_most_eight():
    v = view()
    meet(v, 20)
    passed = v.passed_on()
    assert len(passed) == len({entry.id for entry in passed}) == PASSED_ON


def test_pick_skips_busy_backing_off_and_refused_contacts():
    v = view()
    meet(v, 4)
    busy, backing_off, refused, free = v.live()
    busy.busy = True
    v.failed(backing_off, "slow", 0.0)
    v.refused(refused, "another task", 0.0)
    assert v.pick(4, 0.0) == [free]


@pytest.mark.parametrize("live", [1, 5, 30])
def test_pick_is_mostly_of_live_contacts_and_explores_some(live):
    v = view()
    meet(v, live)
    for i in range(100, 140):
        v.announced(f"id{i}", url(i), SOURCE)
    picked = [v.pick(1, 0.0)[0].state for _ in range(400)]
    assert 0.15 < picked.count("new") / 400 < 0.35


def test_picks_are_distinct_and_as_many_as_there_are():
    v = view()
    meet(v, 5)
    assert sorted(c.id for c in v.pick(9, 0.0)) == [f"id{i}" for i in range(5)]


def test_a_refused_configured_contact_is_tried_again_later_or_when_it_speaks():
    v = view(configured=(url(1),))
    (contact,) = v.contacts()
    assert v.refused(contact, "another task", 0.0) == ""
    assert v.pick(1, 0.0) == []
    assert v.pick(1, deadlines.REFUSED_RETRY) == [contact]
    v.spoke(url(1))
    assert v.pick(1, 0.0) == [contact]
    assert v.answered(contact, "a", SOURCE) == ""
    assert v.live() == [contact]


def test_refused_contacts_that_the_user_did_not_name_are_forgotten():
    v = view(size=4)
    for i in range(500):
        v.announced(f"id{i}", url(i), SOURCE)
        contact = v.contacts()[-1]
        assert v.refused(contact, "another task", 0.0) == "another task"
    assert v.contacts() == []


def test_the_new_address_of_a_node_that_moved_is_learned():
    v = view(configured=(url(1),))
    (contact,) = v.contacts()
    v.answered(contact, "a", SOURCE)
    assert not v.announced("a", url(2), SOURCE)
    v.failed(contact, "gone", 0.0)
    assert v.announced("a", url(2), SOURCE)
    moved = next(c for c in v.contacts() if c.url == url(2))
    assert v.answered(moved, "a", SOURCE) == ""
    assert v.contacts() == [moved]


def test_pick_without_exploring_takes_live_ones_first():
    v = view()
    meet(v, 2)
    v.announced("x", url(100), SOURCE)
    assert all(v.pick(1, 0.0, explore=False)[0].state == "live" for _ in range(50))
    assert {c.state for c in v.pick(3, 0.0, explore=False)} == {"live", "new"}


def answer_all(v: View) -> None:
    for contact in v.strangers(0.0):
        assert v.answered(contact, f"id of {contact.url}", SOURCE) == ""


def test_fixed_peers_learn_of_nobody_and_tell_nobody():
    v = view(configured=(url(1), url(2)), fixed=True)
    answer_all(v)
    assert not v.announced("x", url(3), SOURCE)
    assert [contact.url for contact in v.live()] == [url(1), url(2)]
    assert v.passed_on() == ()


def test_fixed_peers_do_not_follow_a_node_to_another_address():
    v = view(configured=(url(1),), fixed=True)
    answer_all(v)
    v.failed(v.contacts()[0], "gone", 0.0)
    assert not v.announced(f"id of {url(1)}", url(2), SOURCE)


def test_fixed_peers_may_be_more_than_the_size():
    v = view(size=4, configured=tuple(url(i) for i in range(30)), fixed=True)
    answer_all(v)
    assert len(v.live()) == 30


def test_fixed_peers_are_kept_also_where_one_answers_in_anothers_name():
    v = view(configured=(url(1), url(2)), fixed=True)
    first, second = v.contacts()
    v.answered(first, "a", SOURCE)
    v.failed(first, "gone", 0.0)
    assert v.answered(second, "a", SOURCE) == ""
    assert v.known("a") is second
    assert (first.state, first.id) == ("new", "")
    assert v.answered(first, "b", SOURCE) == ""
    assert v.live() == [first, second]


@pytest.mark.parametrize("fixed", [True, False])
def test_configured_contacts_can_be_replaced(fixed):
    v = view(configured=(url(1), url(2)), fixed=fixed)
    v.listens_at(url(9))
    answer_all(v)
    kept = v.contacts()[1]
    left = v.set_configured((url(2) + "/", url(3), url(3), url(9)))
    assert [contact.url for contact in left] == ([url(1)] if fixed else [])
    assert [(c.url, c.configured, c.state) for c in v.contacts()] == [
        *([] if fixed else [(url(1), False, "live")]),
        (url(2), True, "live"),
        (url(3), True, "new"),
    ]
    assert kept in v.contacts()
    assert [contact.url for contact in v.strangers(0.0)] == [url(3)]


def test_a_contact_that_is_not_configured_any_more_is_forgotten_like_any_other():
    v = view(configured=(url(1), url(2)))
    silent, refusing = v.contacts()
    v.refused(refusing, "another task", 0.0)
    v.set_configured(())
    assert v.failed(silent, "refused", 0.0) == "refused"
    assert v.refused(refusing, "another task", 0.0) == "another task"
    assert v.contacts() == []


def test_a_learned_contact_that_the_user_names_is_kept_from_then_on():
    v = view()
    meet(v, 1)
    v.set_configured((url(0),))
    (contact,) = v.live()
    for _ in range(30):
        assert v.failed(contact, "gone", 0.0) == ""


def test_an_answer_to_a_call_that_outlived_the_contact_changes_nothing():
    v = view(configured=(url(1),), fixed=True)
    (gone,) = v.contacts()
    v.set_configured(())
    assert v.answered(gone, "a", SOURCE) == "it had left the view"
    assert v.failed(gone, "slow", 0.0) == v.refused(gone, "another task", 0.0) == ""
    assert v.known("a") is None
    v.set_configured((url(1),))
    assert not v.knows(gone)
    assert v.answered(gone, "a", SOURCE) == "it had left the view"
    assert [contact.state for contact in v.contacts()] == ["new"]


def test_a_new_contact_may_be_called_whatever_the_clock_shows():
    v = view(configured=(url(100),))
    meet(v, 1)
    (contact,) = v.live()
    v.announced("new", url(9), SOURCE)
    early = -1e6  # a clock's start is arbitrary
    assert len(v.pick(3, early)) == 3
    v.failed(contact, "refused", early)
    assert contact not in v.strangers(early)
    v.spoke(contact.url)
    assert contact in v.strangers(early)


def test_lost_contacts_are_those_that_answered_once_and_those_that_the_user_named():
    v = view(configured=(url(100),))
    meet(v, 2)
    v.announced("new", url(9), SOURCE)
    answered = v.live()[0]
    v.failed(answered, "timed out", 0.0)
    assert [c.url for c in v.lost(0.0)] == [url(100)]
    assert [c.url for c in v.lost(answered.retry_at)] == [url(100), answered.url]


def test_who_answered_is_remembered_and_called_again_in_the_next_life():
    before = view()
    meet(before, 3)
    before.announced("new", url(9), SOURCE)
    peers = before.remembered()
    assert peers == tuple(KnownPeer(f"id{i}", url(i)) for i in range(3))
    v = view()
    v.remember(peers)
    assert [(c.url, c.id, c.state) for c in v.strangers(0.0)] == [
        (url(i), f"id{i}", "unreachable") for i in range(3)
    ]
    assert v.passed_on() == ()  # not before they answer
    assert v.remembered() == peers


def test_a_remembered_peer_is_forgotten_as_any_that_answered_once():
    v = view()
    v.remember([KnownPeer("a", url(1))])
    (contact,) = v.contacts()
    for _ in range(FORGET_AFTER - 1):
        assert v.failed(contact, "refused", 0.0) == ""
    assert v.failed(contact, "refused", 0.0) == "refused"
    assert v.contacts() == []


def test_a_remembered_address_may_have_another_tenant_now():
    v = view()
    v.remember([KnownPeer("a", url(1)), KnownPeer("b", url(2))])
    a, b = v.contacts()
    assert v.answered(a, "c", SOURCE) == ""
    v.announced("b", url(3), SOURCE)
    (moved,) = (c for c in v.contacts() if c.url == url(3))
    assert v.answered(moved, "b", SOURCE) == ""
    assert not v.knows(b)
    assert v.remembered() == (KnownPeer("c", url(1)), KnownPeer("b", url(3)))


def test_only_so_many_are_remembered_as_a_view_holds_and_never_the_node_itself():
    v = view(size=4, configured=(url(2),))
    v.remember(
        [KnownPeer("me", url(99)), KnownPeer("nat", ""), *(KnownPeer(f"id{i}", url(i)) for i in range(9))]
    )
    assert [c.url for c in v.contacts()] == [url(2), url(0), url(1), url(3), url(4)]
    assert [c.configured for c in v.contacts()] == [True, False, False, False, False]
    v.listens_at(url(3))
    assert url(3) not in [c.url for c in v.contacts()]
    assert KnownPeer("id3", url(3)) not in v.remembered()


def test_fixed_peers_are_told_anew_in_each_life():
    v = view(configured=(url(1),), fixed=True)
    v.remember([KnownPeer("a", url(2))])
    assert [c.url for c in v.contacts()] == [url(1)]


def test_of_whom_a_view_forgot_the_last_are_remembered_while_there_is_room():
    v = view(size=4)
    meet(v, 4)
    for i in range(3):
        v.gone(f"id{i}")
    assert v.remembered() == tuple(KnownPeer(f"id{i}", url(i)) for i in (3, 2, 1, 0))
    v.announced("id4", url(4), SOURCE)
    (contact,) = (c for c in v.contacts() if c.url == url(4))
    v.answered(contact, "id4", SOURCE)
    assert v.remembered() == tuple(KnownPeer(f"id{i}", url(i)) for i in (3, 4, 2, 1))

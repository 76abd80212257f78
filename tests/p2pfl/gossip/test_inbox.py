import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.gossip.inbox import MAX_MODELS, MIN_MODELS, Inbox, Unmerged, capacity_for
from p2pfl.gossip.messages import Model, ModelHead, Sender, Task

TASK = Task("t", ("a", "b"), (1, 2, 2), (0.5,), (0.5,))


def model(sender: str, version: int = 1) -> Model:
    head = ModelHead(Sender(sender, "", "training"), TASK, "f" * 32, version, 1, 1.0, 1)
    return Model(head, np.zeros(1, np.float32), bytes(16))


def senders(inbox: Inbox) -> list[str]:
    return [m.head.sender.id for m in inbox.drain()]


def test_drain_gives_models_in_order_of_arrival_and_empties():
    inbox = Inbox(8)
    for name in "cab":
        assert inbox.put(model(name), "10.0.0.1", known=False)
    assert senders(inbox) == ["c", "a", "b"]
    assert len(inbox) == 0


def test_a_newer_model_replaces_the_senders_older_one():
    inbox = Inbox(8)
    inbox.put(model("a", 1), "10.0.0.1", known=True)
    inbox.put(model("a", 2), "10.0.0.1", known=True)
    assert [m.head.version for m in inbox.drain()] == [2]


def test_the_same_id_from_another_address_is_another_entry():
    inbox = Inbox(8)
    inbox.put(model("a", 1), "10.0.0.1", known=True)
    inbox.put(model("a", 9), "10.6.6.6", known=False)
    assert [m.head.version for m in inbox.drain()] == [1, 9]


def test_invented_ids_displace_only_their_own_source():
    inbox = Inbox(4)
    inbox.put(model("honest-known"), "10.0.0.1", known=True)
    inbox.put(model("honest-new"), "10.0.0.2", known=False)
    for i in range(100):
        assert inbox.put(model(f"sybil-{i}"), "10.6.6.6", known=False)
    assert senders(inbox) == ["honest-known", "honest-new", "sybil-98", "sybil-99"]


def test_unknown_senders_do_not_get_into_an_inbox_full_of_known_ones():
    inbox = Inbox(2)
    inbox.put(model("a"), "10.0.0.1", known=True)
    inbox.put(model("b"), "10.0.0.2", known=True)
    assert not inbox.put(model("x"), "10.6.6.6", known=False)
    assert inbox.put(model("c"), "10.0.0.3", known=True)
    assert senders(inbox) == ["b", "c"]


def test_what_is_replaced_or_has_no_room_is_counted():
    inbox = Inbox(2)
    inbox.put(model("a", 1), "10.0.0.1", known=True)
    inbox.put(model("a", 2), "10.0.0.1", known=True)
    assert inbox.unmerged == Unmerged(superseded=1)
    inbox.put(model("b"), "10.0.0.2", known=True)
    inbox.put(model("c"), "10.0.0.3", known=True)  # in a's place
    inbox.put(model("x"), "10.6.6.6", known=False)  # not let in
    assert inbox.unmerged == Unmerged(superseded=1, displaced=2)


@given(
    puts=st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["10.0.0.1", "10.0.0.2"]), st.booleans())
    )
)
def test_all_that_was_put_in_is_drained_or_counted(puts):
    inbox = Inbox(3)
    for sender, source, known in puts:
        inbox.put(model(sender), source, known=known)
    drained = len(inbox.drain())
    assert drained + inbox.unmerged.superseded + inbox.unmerged.displaced == len(puts)


def test_capacity_is_bounded_by_memory_and_count():
    assert capacity_for(10) == MAX_MODELS
    assert capacity_for(11_700_000) == MIN_MODELS
    assert capacity_for(2**21) == 32

"""The sans-io core: two Gossips talk through their frames, no network, no clock."""

from dataclasses import replace

import numpy as np
import pytest

from p2pfl.config import GossipConfig
from p2pfl.errors import DataError
from p2pfl.gossip.codec import ModelDecoder
from p2pfl.gossip.inbox import Unmerged
from p2pfl.gossip.messages import Layout, Model, Sender, Task, TensorSpec, ViewEntry
from p2pfl.gossip.protocol import Gossip
from p2pfl.gossip.repeats import REMEMBERED

TASK = Task("t", ("a", "b"), (1, 2, 2), (0.5,), (0.5,))
LAYOUT = Layout("m", (TensorSpec("w", (4,)),))


def gossip(id: str = "me", peers: tuple[str, ...] = (), **config: object) -> Gossip:
    return Gossip(
        GossipConfig(**config),
        id=id,
        name="",
        task=TASK,
        layout=LAYOUT,
        weights=np.zeros(4, np.float32),
        samples=100,
        peers=peers,
        rng=np.random.default_rng(0),
    )


def said(speaker: Gossip, *, wants_reply: bool = False) -> Model:
    decoder = ModelDecoder(TASK, LAYOUT)
    for chunk in speaker.frame(wants_reply=wants_reply):
        decoder.feed(chunk)
    return decoder.finish()


def train(g: Gossip, value: float, samples: int = 100) -> None:
    g.trained(np.full(4, value, np.float32), samples)
    g.publish()


def test_a_push_is_merged_half_and_half():
    me, you = gossip("me"), gossip("you")
    train(me, 1.0)
    train(you, 3.0, samples=300)
    assert me.receive(said(you), "10.0.0.2", 0.0)
    merged = me.merge()
    assert merged is not None
    assert merged.senders == ("you",)
    assert merged.weights == (0.5, 0.5)
    assert me.weights.tolist() == [2.0] * 4
    assert (merged.age_before, me.age) == (100.0, 200.0)


@pytest.mark.parametrize(
    ("mine", "theirs", "round", "share"),
    [
        ("done", "training", 1, 1 / 4),
        ("settling", "training", 1, 1 / 4),
        ("done", "training", 3, 1 / 2),
        ("done", "training", 9, 1 / 2),  # ahead counts no more than equal
        ("done", "settling", 1, 1 / 2),
        ("training", "training", 1, 1 / 2),
    ],
)
def test_who_is_done_counts_a_straggler_less_the_further_it_is_behind(mine, theirs, round, share):
    me, you = gossip("me"), gossip("you")
    for _ in range(3):
        train(me, 1.0)
    you.state, you.round = theirs, round - 1
    train(you, 3.0)
    me.state = mine
    me.receive(said(you), "10.0.0.2", 0.0)
    merged = me.merge()
    assert merged is not None
    assert merged.weights[1] == pytest.approx(share)


def test_nothing_in_the_inbox_changes_nothing():
    me = gossip()
    before = me.weights
    assert me.merge() is None
    assert me.weights is before


def test_a_model_delivered_twice_is_merged_once():
    me, you = gossip("me"), gossip("you")
    train(you, 3.0)
    me.receive(said(you), "10.0.0.2", 0.0)
    assert me.merge() is not None
    me.receive(said(you), "10.0.0.2", 0.0)
    assert me.merge() is None
    train(you, 4.0)
    me.receive(said(you), "10.0.0.2", 0.0)
    assert me.merge() is not None


def test_a_merge_tells_what_else_was_received_since_the_last_one():
    me, you, other = gossip("me"), gossip("you"), gossip("other")
    for value in (1.0, 2.0):
        train(you, value)
        me.receive(said(you), "10.0.0.2", 0.0)
    merged = me.merge()
    assert merged is not None
    assert (len(merged.senders), merged.unmerged) == (1, Unmerged(superseded=1))
    me.receive(said(you), "10.0.0.2", 0.0)
    assert me.merge() is None  # the same snapshot: told of with the next merge
    me.receive(said(you), "10.0.0.2", 0.0)
    train(other, 3.0)
    me.receive(said(other), "10.0.0.3", 0.0)
    merged = me.merge()
    assert merged is not None
    assert (merged.senders, merged.unmerged) == (("other",), Unmerged(repeated=2))


def test_the_memory_of_merged_senders_is_bounded():
    me, you = gossip("me"), gossip("you")
    train(you, 1.0)
    first = said(you)
    for i in range(REMEMBERED + 50):
        head = replace(first.head, sender=Sender(f"id{i}", "", "training"))
        me.receive(replace(first, head=head), f"10.1.{i >> 8}.{i & 255}", 0.0)
        me.merge()
    assert len(me._repeats._merged) == REMEMBERED


def test_a_frame_carries_the_published_snapshot_not_the_weights_in_work():
    me = gossip()
    train(me, 1.0)
    me.trained(np.full(4, 9.0, np.float32), 100)
    assert said(me).weights.tolist() == [1.0] * 4
    assert said(me).head.round == 1
    me.publish()
    assert said(me).weights.tolist() == [9.0] * 4
    assert said(me).head.version == 2


def test_nodes_that_never_spoke_have_the_same_etag_at_the_start():
    me, you = gossip("me"), gossip("you")
    assert me.etag() == you.etag()
    train(you, 1.0)
    assert me.etag() != you.etag()


def test_a_joiner_adopts_the_median_and_its_age_never_the_round():
    me = gossip()
    peers = [gossip(f"p{i}") for i in range(3)]
    for peer, value in zip(peers, (1.0, 2.0, 50.0), strict=True):
        train(peer, value, samples=int(value * 10))
    assert me.join([said(peer) for peer in peers])
    assert me.weights.tolist() == [2.0] * 4
    assert (me.age, me.round) == (20.0, 0)


def test_a_joiner_of_untrained_peers_stays_as_it_is():
    me = gossip()
    assert not me.join([said(gossip("p"))])
    assert not me.join([])
    assert me.version == 0


@pytest.mark.parametrize(("rule", "share"), [("age", 0.2), ("samples", 0.2)])
def test_an_absurd_claim_is_clipped_before_it_weighs_anything(rule, share):
    me, liar = gossip("me", merge=rule), gossip("liar")
    train(me, 0.0)
    liar.samples = 10**9
    train(liar, 1.0, samples=10**12)
    me.receive(said(liar), "10.0.0.2", 0.0)
    merged = me.merge()
    assert merged is not None
    # Median of (100, c) is (100 + c) / 2, so of two nobody is clipped; of three the liar is.
    me2, honest = gossip("me2", merge=rule), gossip("honest")
    train(me2, 0.0)
    train(honest, 0.0)
    me2.receive(said(honest), "10.0.0.3", 0.0)
    me2.receive(said(liar), "10.0.0.2", 0.0)
    merged = me2.merge()
    assert merged is not None
    assert merged.weights[2] == pytest.approx(4 / 6)
    assert me2.age <= 400


def test_a_senders_address_and_view_become_contacts_to_call():
    me, you = gossip("me"), gossip("you")
    you.url = "http://:8470"
    train(you, 1.0)
    model = said(you)
    model = replace(model, head=replace(model.head, view=(ViewEntry("third", "http://10.0.0.3:8470"),)))
    me.receive(model, "10.0.0.2", 0.0)
    assert {(c.id, c.url, c.state) for c in me.view.contacts()} == {
        ("you", "http://10.0.0.2:8470", "new"),
        ("third", "http://10.0.0.3:8470", "new"),
    }
    assert me.hello().view == ()


def test_what_a_known_peer_says_of_itself_is_noted():
    me, you = gossip("me", peers=("http://10.0.0.2:8470",)), gossip("you")
    (contact,) = me.view.contacts()
    me.view.answered(contact, "you", "10.0.0.2")
    you.state = "done"
    train(you, 1.0)
    me.receive(said(you), "10.0.0.2", 0.0)
    assert (contact.node_state, contact.round) == ("done", 1)


def test_a_merge_that_overflows_keeps_the_own_model():
    me = gossip("me")
    train(me, 1.0)
    for i in range(2):
        liar = gossip(f"liar{i}")
        train(liar, 3.4e38)
        me.receive(said(liar), f"10.6.6.{i}", 0.0)
    merged = me.merge()
    assert merged is not None
    assert merged.weights == (1.0, 0.0, 0.0)
    assert me.weights.tolist() == [1.0] * 4
    assert me.age == 100.0


def test_a_joiner_does_not_start_from_a_median_that_overflows():
    me, peers = gossip(), [gossip("p0"), gossip("p1")]
    for peer in peers:
        train(peer, 3.4e38)
    assert not me.join([said(peer) for peer in peers])
    assert me.weights.tolist() == [0.0] * 4


def test_a_stolen_id_from_another_address_displaces_no_known_peers_model():
    urls = tuple(f"http://10.0.1.{i}:8470" for i in range(70))
    me = gossip("me", peers=urls)
    peers = [gossip(f"p{i}") for i in range(64)]
    for i, (contact, peer) in enumerate(zip(me.view.contacts(), peers, strict=False)):
        me.view.answered(contact, peer.id, f"10.0.1.{i}")
        train(peer, 1.0)
        me.receive(said(peer), f"10.0.1.{i}", 0.0)
    for peer in peers:
        assert not me.receive(said(peer), "10.6.6.6", 0.0)
    merged = me.merge()
    assert merged is not None
    assert len(merged.senders) == 64
    assert me.weights[0] == pytest.approx(64 / 65)


def test_a_task_that_fills_the_head_is_refused_at_the_start():
    classes = tuple(f"{i:0250d}" for i in range(254))
    big = Gossip(
        GossipConfig(),
        id="me",
        name="",
        task=replace(TASK, classes=classes),
        layout=LAYOUT,
        weights=np.zeros(4, np.float32),
        samples=1,
        peers=(),
        rng=np.random.default_rng(0),
    )
    big.frame()  # fits as long as the view is empty
    with pytest.raises(DataError):
        big.check_head_fits()


def test_with_fixed_peers_a_strangers_model_is_merged_and_nobody_is_learnt():
    me = gossip("me", peers=("http://10.0.0.2:8470",), fixed_peers=True)
    stranger = gossip("stranger")
    stranger.url = "http://:8470"
    train(stranger, 1.0)
    model = said(stranger)
    model = replace(model, head=replace(model.head, view=(ViewEntry("third", "http://10.0.0.3:8470"),)))
    assert me.receive(model, "10.0.0.9", 0.0)
    assert me.merge() is not None
    assert [contact.url for contact in me.view.contacts()] == ["http://10.0.0.2:8470"]
    me.view.answered(me.view.contacts()[0], "you", "10.0.0.2")
    assert me.hello().view == ()


def test_peers_can_be_replaced():
    me = gossip("me", peers=("http://10.0.0.2:8470",), fixed_peers=True)
    assert [contact.url for contact in me.set_peers(("http://10.0.0.3:8470",))] == ["http://10.0.0.2:8470"]
    assert [contact.url for contact in me.view.contacts()] == ["http://10.0.0.3:8470"]


def test_who_settles_with_its_last_rounds_model_still_speaks_as_one_that_trains():
    you = gossip("you")
    you.state = "training"
    train(you, 3.0)
    you.state = "settling"  # before anybody was told
    me = gossip("me")
    me.receive(said(you), "10.0.0.2", 0.0)
    merged = me.merge()
    assert merged is not None
    assert merged.fresh
    you.publish()
    assert said(you).head.sender.state == "settling"
    assert you.hello().sender.state == "settling"


def test_a_lost_node_that_speaks_from_another_address_is_called_there_at_once():
    me, you = gossip("me"), gossip("you")
    you.url = "http://127.0.0.2:1000"
    me.heard(you.hello(""), "127.0.0.2", 0.0)
    (contact,) = me.view.contacts()
    me.view.answered(contact, "you", "127.0.0.2")
    you.url = "http://127.0.0.2:2000"
    me.heard(you.hello(""), "127.0.0.2", 1.0)
    assert [c.url for c in me.view.contacts()] == ["http://127.0.0.2:1000"], "it is there, as far as we know"
    me.view.failed(contact, "connection refused", 2.0)
    me.heard(you.hello(""), "127.0.0.2", 3.0)
    old, new = sorted(me.view.contacts(), key=lambda contact: contact.url)
    assert (old.url, old.state) == ("http://127.0.0.2:1000", "unreachable")
    assert (new.url, new.state, new.eager) == ("http://127.0.0.2:2000", "new", True)
    me.view.answered(new, "you", "127.0.0.2")
    assert me.view.contacts() == [new]

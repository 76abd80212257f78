"""A node that merges robustly: what it does with too few models, with claims, with stragglers."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfl.config import GossipConfig
from p2pfl.errors import ConfigError
from p2pfl.gossip.inbox import Unmerged, capacity_for
from p2pfl.gossip.messages import Layout, TensorSpec
from p2pfl.gossip.protocol import Gossip, Merge
from p2pfl.gossip.quorum import TooFew, check_attainable, doubt
from p2pfl.merge_rule import FORMS
from tests.p2pfl.gossip.test_protocol import TASK, gossip, said, train

ROBUST = [
    "median",
    "median:least=6",
    "trimmed-mean:0.3",
    "krum:f=1",
    "multi-krum:f=1",
    "geometric-median",
    "centred-clipping",
]


def tell(me: Gossip, speaker: Gossip, number: int) -> None:
    assert me.receive(said(speaker), f"10.0.0.{number}", 0.0)


def others(count: int, first: float = 3.0) -> list[Gossip]:
    """Peers that trained once, each to a value of its own."""
    peers = [gossip(f"p{i}") for i in range(count)]
    for i, peer in enumerate(peers):
        train(peer, first + i)
    return peers


def done(merged: object) -> Merge:
    assert isinstance(merged, Merge)
    return merged


@pytest.mark.parametrize("rule", ROBUST)
def test_with_too_few_models_the_own_weights_stay_and_the_others_wait(rule):
    me = gossip("me", merge=rule)
    train(me, 1.0)
    own, needed = me.weights, me._rule.fewest
    peers = others(needed - 1)
    for count, peer in enumerate(peers[:-1], 2):
        tell(me, peer, count)
        assert me.merge() == TooFew(count, needed)
        assert me.merge() is None  # told once
        assert me.weights is own
        assert me.age == 100.0
        assert me.kept_own == count - 1
    tell(me, peers[-1], 99)
    merged = done(me.merge())
    assert merged.senders == tuple(peer.id for peer in peers)
    assert len(merged.weights) == needed
    assert sum(merged.weights) == pytest.approx(1)
    assert me.weights[0] > 1.0
    assert me.merge() is None
    assert me.kept_own == needed - 2


def test_who_waits_is_replaced_by_its_newer_model_and_counted():
    me, (you, other) = gossip("me", merge="median"), others(2)
    tell(me, you, 2)
    assert isinstance(me.merge(), TooFew)
    train(you, 7.0)
    tell(me, you, 2)
    assert isinstance(me.merge(), TooFew)
    tell(me, other, 3)
    merged = done(me.merge())
    assert (len(merged.senders), merged.unmerged) == (2, Unmerged(superseded=1))
    assert me.weights.tolist() == [4.0] * 4  # of 0, 7 and 4


def test_a_repeated_model_does_not_help_to_make_enough():
    me, (you, other) = gossip("me", merge="median"), others(2)
    tell(me, you, 2)
    tell(me, other, 3)
    done(me.merge())
    tell(me, you, 2)
    tell(me, other, 3)
    assert me.merge() is None  # both were merged before
    train(other, 9.0)
    tell(me, you, 2)
    tell(me, other, 3)
    assert me.merge() == TooFew(2, 3)
    third = gossip("third")
    train(third, 5.0)
    tell(me, third, 4)
    merged = done(me.merge())
    assert set(merged.senders) == {"p1", "third"}
    assert merged.unmerged == Unmerged(repeated=3)


def test_a_median_is_taken_at_the_base_and_training_is_added():
    me, peers = gossip("me", merge="median"), others(2)
    for number, peer in enumerate(peers):
        tell(me, peer, number)
    me.trained(np.full(4, 10.0, np.float32), 100)
    done(me.merge())
    assert me.weights.tolist() == [13.0] * 4  # the median of 0, 3 and 4, and the 10 of training


@pytest.mark.parametrize("rule", [*ROBUST, "fltrust", "norm-bound:tau=5", "clipped-gossip:0.3"])
def test_absurd_claims_weigh_nothing_and_make_nobody_old(rule):
    me, honest = gossip("me", merge=rule), gossip("me", merge=rule)
    for node in (me, honest):
        train(node, 1.0)
    for number, peer in enumerate(others(5)):
        tell(honest, peer, number)
        if number == 4:
            peer.samples *= 10**6
            peer.age *= 1e6
            peer.publish()
        tell(me, peer, number)
    assert done(me.merge()).weights == done(honest.merge()).weights
    assert me.weights.tolist() == honest.weights.tolist()
    assert (me.age, honest.age) == (100.0, 100.0)


def test_the_age_is_the_lower_median_and_what_training_added():
    me, peers = gossip("me", merge="median"), others(3)
    for number, (peer, age) in enumerate(zip(peers, (300.0, 500.0, 1e18), strict=True)):
        peer.age = age
        peer.publish()
        tell(me, peer, number)
    me.trained(np.full(4, 1.0, np.float32), 100)
    merged = done(me.merge())
    assert (merged.age_before, me.age) == (100.0, 400.0)  # of 0, 300, 500 and 1e18, and 100


def test_who_is_done_leaves_out_who_lags_behind():
    me, peers = gossip("me", merge="median"), others(3)
    for _ in range(3):
        train(me, 1.0)
    me.state = "done"
    peers[0].state = "training"
    peers[0].publish()
    for number, peer in enumerate(peers[1:]):
        peer.state = "done"
        tell(me, peer, number)
    tell(me, peers[0], 9)
    merged = done(me.merge())
    assert merged.senders == ("p1", "p2", "p0")
    assert merged.weights[3] == 0
    assert me.weights.tolist() == [4.0] * 4
    assert not merged.fresh


def test_who_lags_behind_does_not_help_to_make_enough():
    me, peers = gossip("me", merge="median"), others(2)
    for _ in range(3):
        train(me, 1.0)
    me.state = "settling"
    for number, peer in enumerate(peers):
        peer.state = "training"
        peer.publish()
        tell(me, peer, number)
    assert me.merge() == TooFew(1, 3)


def test_a_merge_that_overflows_keeps_the_own_model():
    me = gossip("me", merge="trimmed-mean:0")
    train(me, 1.0)
    for i in range(2):
        liar = gossip(f"liar{i}")
        train(liar, 3.4e38)
        tell(me, liar, i)
    assert done(me.merge()).weights == (1.0, 0.0, 0.0)
    assert (me.weights.tolist(), me.age) == ([1.0] * 4, 100.0)


def test_a_robust_joiner_starts_from_three_models_or_from_its_own():
    me, peers = gossip("me", merge="krum:f=1"), others(3)
    models = [said(peer) for peer in peers]
    assert not me.join(models[:2])
    assert me.weights.tolist() == [0.0] * 4
    assert me.join(models)
    assert me.weights.tolist() == [4.0] * 4


# -- what can never merge, and what seldom will


@pytest.mark.parametrize(
    ("rule", "parameters", "said"),
    [
        ("krum:f=32", 4, "needs 67 models (2f + 3) at a time, and a node holds at most 65 of 4 weights"),
        ("multi-krum:f=3,m=5", 46_000_000, "needs 10 models at a time"),
        ("krum:f=4", 46_000_000, "its own and an inbox of 8; give a smaller f"),
        ("trimmed-mean:0.1", 46_000_000, "needs 10 models at a time"),
        ("trimmed-mean:0.01", 4, "give a larger B"),
        ("median:least=66", 4, "needs 66 models at a time, and a node holds at most 65 of 4 weights"),
        ("krum:f=2,least=66", 4, "an inbox of 64; give a smaller least"),
    ],
)
def test_a_rule_that_can_never_have_enough_models_is_refused(rule, parameters, said):
    with pytest.raises(ConfigError, match=r"^merge ") as error:
        check_attainable(GossipConfig(merge=rule), parameters)
    assert said in str(error.value)
    with pytest.raises(ConfigError):
        Gossip(
            GossipConfig(merge=rule), id="me", name="", task=TASK,
            layout=Layout("m", (TensorSpec("w", (parameters,)),)), weights=np.zeros(1, np.float32), samples=1,
            peers=(), rng=np.random.default_rng(0),
        )  # fmt: skip


@pytest.mark.parametrize("parameters", [4, 46_000_000])
def test_krum_is_refused_above_what_the_inbox_holds_and_not_before(parameters):
    most = (1 + capacity_for(parameters) - 3) // 2
    check_attainable(GossipConfig(merge=f"krum:f={most}"), parameters)
    with pytest.raises(ConfigError):
        check_attainable(GossipConfig(merge=f"krum:f={most + 1}"), parameters)


@pytest.mark.parametrize(
    ("rule", "fanout", "raised"),
    [
        ("krum:f=1", 2, None),
        ("krum:f=2", 2, 3),
        ("krum:f=2", 3, None),
        ("trimmed-mean:0.1", 2, 5),
        ("mean", 1, None),
    ],
)
def test_a_fanout_that_seldom_brings_enough_is_doubted_in_one_line(rule, fanout, raised):
    said = doubt(GossipConfig(merge=rule, fanout=fanout))
    if raised is None:
        assert said is None
    else:
        assert said is not None
        assert f"merge {rule} needs" in said
        assert f"raise fanout to {raised}, or" in said
        assert "\n" not in said
        assert doubt(GossipConfig(merge=rule, fanout=raised)) is None


def test_every_robust_form_is_tried_above():
    tried = {rule.partition(":")[0] for rule in (*ROBUST, "fltrust", "norm-bound", "clipped-gossip")}
    assert tried == FORMS.keys() - {"mean", "age", "samples"}

"""Nodes that merge robustly, in virtual time: what they tell of it."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfl.errors import ConfigError
from p2pfl.events import KeptOwn, Merged
from tests.p2pfl.village import Village, live_until_done

pytestmark = pytest.mark.virtual


async def test_two_nodes_are_too_few_for_a_median_and_say_so():
    village = Village()
    nodes = [village.villager(i, (1 - i,), merge="median") for i in range(2)]
    await live_until_done(village, *nodes)
    for villager in nodes:
        assert not villager.events(Merged)
        kept = villager.events(KeptOwn)
        assert kept
        assert all(event == KeptOwn("median", 2, 3) for event in kept)
        assert (villager.status()["merge"], villager.status()["kept_own"]) == ("median", len(kept))
        np.testing.assert_array_equal(villager.node.gossip.weights, [3] * 4)  # as if alone


@pytest.mark.parametrize("rule", ["median", "krum:f=1", "clipped-gossip:0.25", "fltrust"])
async def test_one_of_six_that_lies_moves_no_other(rule):
    village = Village()
    peers = [tuple(j for j in range(6) if j != i) for i in range(6)]
    nodes = [village.villager(i, peers[i], merge=rule, fanout=4, seconds=1 + 0.01 * i) for i in range(6)]
    liar = nodes[5].node.gossip
    frame = liar.frame

    def lie(*arguments, **named):
        liar.weights = np.full(4, -1e6, np.float32)
        liar.publish()
        return frame(*arguments, **named)

    liar.frame = lie
    await live_until_done(village, *nodes[:5])
    for villager in nodes[:5]:
        assert villager.events(Merged)
        assert all(1 <= weight <= 5 for weight in villager.node.gossip.weights)


async def test_a_rule_that_can_never_merge_is_refused_before_the_node_starts():
    with pytest.raises(ConfigError, match="merge krum:f=40 needs 83 models"):
        Village().villager(0, merge="krum:f=40")

"""What a node saves, when, and how it goes on if it cannot."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import trio

from p2pfl.checkpointing import Checkpointer
from p2pfl.errors import StorageError, plain
from p2pfl.events import Checkpointed, CheckpointFailed, Merged, PeerAdded, StateChanged
from p2pfl.gossip.messages import KnownPeer
from p2pfl.storage.checkpoint import Checkpoint
from tests.p2pfl.village import Village, Villager, live_until_done, until_done

pytestmark = pytest.mark.virtual


def full_disk(checkpoint: Checkpoint) -> str | None:
    """Writing this checkpoint fails, as in p2pfl/storage/directory.py."""
    try:
        raise OSError(28, "No space left on device")
    except OSError as error:
        raise StorageError(
            "the checkpoint state/x cannot be written: No space left on device; ..."
        ) from error


def saved(villager: Villager) -> list[int]:
    return [event.round for event in villager.events(Checkpointed)]


async def test_every_round_is_saved_and_so_are_the_start_and_the_end():
    village = Village()
    node = village.villager(0, rounds=3)
    await live_until_done(village, node)
    assert saved(node) == [0, 1, 2, 3, 3]
    assert [checkpoint.round for checkpoint in node.saved] == [0, 1, 2, 3, 3]
    assert node.status()["storage"] == {
        "round": 3,
        "failures": 0,
        "problem": "",
        "lost_lines": 0,
        "damaged": [],
    }


async def test_a_node_whose_disk_is_full_goes_on_says_so_and_tries_again(caplog):
    village = Village()

    def full_in_rounds_2_to_4(checkpoint: Checkpoint) -> str | None:
        return full_disk(checkpoint) if 2 <= checkpoint.round <= 4 else None

    node = village.villager(0, (1,), rounds=6, full=full_in_rounds_2_to_4)
    other = village.villager(1, rounds=6)
    with caplog.at_level(logging.WARNING):
        await live_until_done(village, node, other)
    assert saved(node) == [0, 1, 5, 6, 6]
    assert [event.round for event in node.events(CheckpointFailed)] == [2, 3, 4]
    assert {event.reason for event in node.events(CheckpointFailed)} == {"No space left on device"}
    assert node.node.gossip.round == 6
    assert node.events(Merged)
    storage = node.status()["storage"]
    assert isinstance(storage, dict)
    assert (storage["round"], storage["failures"], storage["problem"]) == (6, 3, "")
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2  # once when it begins, not every round, and once when it is over
    assert "round=2 the checkpoint state/x cannot be written: No space left on device" in warnings[0]
    assert "round=5 the state can be saved again" in warnings[1]


async def test_while_it_cannot_save_its_status_says_why_and_which_round_is_safe():
    village = Village()
    node = village.villager(0, rounds=3, full=lambda c: full_disk(c) if c.round else None)
    await live_until_done(village, node)
    storage = node.status()["storage"]
    assert isinstance(storage, dict)
    assert (storage["round"], storage["failures"]) == (0, 4)
    assert storage["problem"] == "No space left on device"


async def test_what_is_left_out_of_a_checkpoint_is_said_and_counted(caplog):
    village = Village()
    node = village.villager(0, rounds=2, full=lambda checkpoint: "the database is locked")
    with caplog.at_level(logging.WARNING):
        await live_until_done(village, node)
    assert saved(node) == [0, 1, 2, 2]
    assert [event.reason for event in node.events(CheckpointFailed)] == ["the database is locked"] * 4
    assert len(caplog.records) == 1
    storage = node.status()["storage"]
    assert isinstance(storage, dict)
    assert (storage["round"], storage["problem"]) == (2, "the database is locked")


async def test_a_node_that_cannot_save_at_its_start_does_not_start():
    village = Village()
    node = village.villager(0, full=full_disk)
    with pytest.raises(StorageError, match="No space left"), plain():
        await live_until_done(village, node)


async def test_a_restarted_node_finds_its_peers_again_with_none_or_only_dead_ones_named():
    village = Village()
    first = [village.villager(0, rounds=2), village.villager(1, (0,), rounds=2)]
    await live_until_done(village, *first)
    assert first[0].saved[-1].peers == (KnownPeer("id1", village.url(1)),)
    assert first[1].saved[-1].peers == (KnownPeer("id0", village.url(0)),)
    again = Village()
    nodes = [
        again.villager(0, rounds=4, resume=first[0].saved[-1]),
        again.villager(1, (7, 8), rounds=4, resume=first[1].saved[-1]),  # nobody is there
    ]
    await live_until_done(again, *nodes)
    for node, other in zip(nodes, (1, 0), strict=True):
        assert [event.peer for event in node.events(PeerAdded)] == [f"id{other}"]
        assert node.events(Merged)


async def test_a_remembered_peer_that_is_gone_keeps_no_node_from_training():
    village = Village()
    before = village.villager(0, rounds=1)
    await live_until_done(village, before)
    again = Village()
    gone = replace(before.saved[-1], peers=(KnownPeer("id5", again.url(5)),))
    node = again.villager(0, rounds=3, resume=gone)
    await live_until_done(again, node)
    assert node.node.gossip.round == 3


async def test_what_a_done_node_merges_is_saved_too():
    village = Village()
    early, late = village.villager(0, rounds=1), village.villager(1, (0,), rounds=9)
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        for villager in (early, late):
            await nursery.start(villager.node.run)
        await until_done(early, late)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    done = next(time for time, event in early.seen if event == StateChanged("done"))
    after = [time for time in early.times(Merged) if time > done]
    assert early.times(Checkpointed)[-1] >= after[-1]
    assert np.array_equal(early.saved[-1].weights, early.node.gossip.weights)


async def test_rounds_may_be_saved_more_rarely_and_the_end_is_saved_all_the_same():
    village = Village()
    node = village.villager(0, rounds=7, checkpoint_every=3)
    await live_until_done(village, node)
    assert saved(node) == [0, 3, 6, 7]


async def test_a_node_that_leaves_loses_no_completed_round():
    village = Village()
    node = village.villager(0, rounds=0, checkpoint_every=100)
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        await nursery.start(node.node.run)
        await trio.sleep(5.5)
        node.node.leave()
        await trio.sleep(5.5)
        nursery.cancel_scope.cancel()
    assert saved(node) == [0, 5]
    assert np.array_equal(node.saved[-1].weights, np.full(4, 5, np.float32))


async def test_two_saves_at_a_time_follow_each_other():
    saving, most = 0, 0

    async def save(checkpoint: Checkpoint) -> None:
        nonlocal saving, most
        saving += 1
        most = max(most, saving)
        await trio.sleep(1)
        saving -= 1

    village = Village()
    gossip = village.villager(0).node.gossip
    checkpointer = Checkpointer(gossip, save, lambda event: None, None, 1)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(checkpointer.save, np.empty(0, np.float32))
    assert (saving, most) == (0, 1)

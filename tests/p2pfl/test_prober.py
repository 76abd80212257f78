"""Membership among real nodes in virtual time: who is noticed to be gone, who is not, who comes back."""

from __future__ import annotations

import pytest
import trio

from benchmarks.herd import Herd, herded
from netsim.links import Delivery, UniformLinks
from p2pfl.events import Exchanged, StandingChanged
from p2pfl.gossip.messages import ViewEntry
from tests.p2pfl.village import Village, Villager, live_ids

virtual = pytest.mark.virtual


def standings(villager: Villager, of: str) -> list[str]:
    return [event.standing for event in villager.events(StandingChanged) if event.peer == of]


class OneWayMute(UniformLinks):
    """Between nodes 0 and 1 nothing arrives."""

    def deliveries(self, sender: int, receiver: int, is_request: bool) -> tuple[Delivery, ...]:
        return () if {sender, receiver} == {0, 1} else (Delivery(self.seconds),)


async def start(village: Village, nursery: trio.Nursery, *villagers: Villager) -> list[trio.CancelScope]:
    """Each in a scope of its own; to cancel it is a crash."""
    scopes = []
    await nursery.start(village.network.run)
    for villager in villagers:
        scopes.append(await nursery.start(live, villager))
    return scopes


async def live(villager: Villager, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(villager.node.run)
            task_status.started(scope)


@virtual
async def test_a_crash_is_noticed_by_all_and_its_address_leaves_their_views() -> None:
    village = Village()
    nodes = [village.villager(i, (0,) if i else (), rounds=1) for i in range(4)]
    async with trio.open_nursery() as nursery:
        scopes = await start(village, nursery, *nodes)
        await trio.sleep(20)
        scopes[3].cancel()
        await trio.sleep(15)
        nursery.cancel_scope.cancel()
    for villager in nodes[:3]:
        assert standings(villager, "id3")[-1] == "dead"
        assert "id3" not in live_ids(villager)


@virtual
async def test_whom_the_others_reach_is_not_dead_though_we_do_not() -> None:
    village = Village()
    village.network._links = OneWayMute(0.02)
    nodes = [village.villager(i, (2,) if i < 2 else (), rounds=1, fanout=1) for i in range(4)]
    async with trio.open_nursery() as nursery:
        await start(village, nursery, nodes[2], nodes[3], nodes[0], nodes[1])
        await trio.sleep(120)
        nursery.cancel_scope.cancel()
    for villager in nodes:
        assert "dead" not in [event.standing for event in villager.events(StandingChanged)]


@virtual
async def test_a_hung_node_is_given_up_and_taken_up_again() -> None:
    village = Village()
    nodes = [village.villager(i, (0,) if i else (), rounds=1) for i in range(3)]
    async with trio.open_nursery() as nursery:
        await start(village, nursery, *nodes)
        await trio.sleep(10)
        village.network.host(2).hang()
        await trio.sleep(40)
        assert standings(nodes[0], "id2")[-1] == "dead"
        village.network.host(2).resume()
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    for villager in nodes[:2]:
        assert standings(villager, "id2")[-1] == "alive"
        assert "id2" in live_ids(villager)
    assert nodes[2].node.gossip.membership.own("").refuted >= 1


@virtual
async def test_who_leaves_tells_and_is_not_suspected_first() -> None:
    village = Village()
    nodes = [village.villager(i, (0,) if i else (), rounds=1) for i in range(4)]
    async with trio.open_nursery() as nursery:
        await start(village, nursery, *nodes)
        await trio.sleep(20)
        nodes[3].node.leave()
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    for villager in nodes[:3]:
        assert standings(villager, "id3")[-1] == "left"
        assert "suspect" not in standings(villager, "id3")


@virtual
async def test_first_peers_may_be_dead_and_are_tried_until_they_are_there() -> None:
    village = Village()
    early, late = village.villager(0, (1,), rounds=1), village.villager(1, rounds=1)
    async with trio.open_nursery() as nursery:
        await start(village, nursery, early)
        await trio.sleep(300)
        assert not list(live_ids(early))
        await nursery.start(live, late)
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert list(live_ids(early)) == ["id1"]


@virtual
async def test_who_cannot_be_called_takes_part_and_is_never_called() -> None:
    village = Village()
    village.network.host(3).callable = False
    nodes = [village.villager(i, (0,) if i else (), rounds=2) for i in range(3)]
    hidden = village.villager(3, (0,), rounds=2, advertise="none")
    async with trio.open_nursery() as nursery:
        scopes = await start(village, nursery, *nodes, hidden)
        await trio.sleep(100)
        assert list(live_ids(hidden)) == ["id0", "id1", "id2"]
        for villager in nodes:
            assert villager.node.gossip.membership.standing("id3") == "alive"
            assert not [e for e in villager.events(Exchanged) if e.peer == "id3" or "10.0.0.4" in e.url]
        assert any(villager.node.gossip.weights[0] > 0 for villager in nodes)
        scopes[3].cancel()
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert standings(nodes[0], "id3")[-1] == "dead"


@virtual
async def test_a_probe_costs_no_training_and_no_exchange_its_turn() -> None:
    village = Village(latency=3.0)  # an exchange lasts six seconds, and so does a probe
    nodes = [village.villager(i, (1 - i,), rounds=10, settle=0) for i in range(2)]
    async with trio.open_nursery() as nursery:
        await start(village, nursery, *nodes)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    for villager in nodes:
        assert "dead" not in [event.standing for event in villager.events(StandingChanged)]


# -- in company


def test_a_lossy_network_is_no_reason_to_be_declared_dead() -> None:
    async def act(herd: Herd) -> None:
        await herd.add(12)
        await herd.until(herd.everybody_knows_everybody, 100)
        herd.sightings.clear()
        await trio.sleep(60)
        seen = {sighting.standing for sighting in herd.sightings}
        assert "suspect" in seen  # or it has not been tried
        assert not seen & {"dead", "left"}

    herded(act, seed=5, view_size=32, loss=0.1)


def test_halves_find_each_other_again_after_a_cut() -> None:
    async def act(herd: Herd) -> None:
        await herd.add(12)
        assert await herd.until(herd.everybody_knows_everybody, 100) < 30
        herd.network.cut(1, (tuple(range(6)), tuple(range(6, 12))))
        await trio.sleep(60)
        assert {len(herd.knows(index)) for index in herd.nodes} == {5}
        herd.network.heal(1)
        assert await herd.until(herd.everybody_knows_everybody, 100) < 20

    herded(act, seed=6, view_size=32)


def test_an_overlay_larger_than_the_view_stays_one_while_nodes_come_and_go() -> None:
    async def act(herd: Herd) -> None:
        await herd.add(30)
        await trio.sleep(20)
        for _ in range(3):  # three in ten
            for index in herd.rng.permutation(list(herd.nodes))[:3]:
                herd.crash(int(index))
            assert herd.parts() == 1
            await herd.add(3)
            await trio.sleep(10)
        await trio.sleep(10)
        assert herd.parts() == 1
        sizes = [len(herd.knows(index)) for index in herd.nodes]
        assert max(sizes) <= 8 + 2  # what a view holds, and who entered it since the last beat
        ids = {node.gossip.id for node in herd.nodes.values()}
        gone = [id for index in herd.nodes for id in herd.knows(index) - ids]
        assert len(gone) <= 3  # who crashed last may still be believed in by a few

    herded(act, seed=7, view_size=8)


@virtual
async def test_a_node_probes_for_others_only_what_it_would_call_itself() -> None:
    village = Village()
    node, other = village.villager(0, (1,), rounds=1), village.villager(1, rounds=1)
    async with trio.open_nursery() as nursery:
        await start(village, nursery, node, other)
        await trio.sleep(5)
        reach = node.node.service.reach
        assert await reach(ViewEntry("id1", village.url(1)), "10.0.0.9")
        calls = len(node.events(Exchanged))
        for url in ("http://169.254.169.254:80", "http://127.0.0.1:22", "http://0.0.0.0:8470"):
            assert not await reach(ViewEntry("id7", url), "10.0.0.9")
        assert len(node.events(Exchanged)) == calls  # nothing was called
        assert not await reach(ViewEntry("id7", village.url(1)), "10.0.0.9")  # somebody else is there
        nursery.cancel_scope.cancel()

"""The node's promises, in virtual time: nothing here waits for real."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import trio

from p2pfl.arrival import JOIN_DEADLINE
from p2pfl.errors import Busy, ConfigError, TooSlow
from p2pfl.events import (
    MODEL_MODES,
    Diverged,
    Evaluated,
    Exchanged,
    Joined,
    Merged,
    PeerAdded,
    PeerDropped,
    Published,
    Rejected,
    RoundCompleted,
    StateChanged,
    Stopped,
    Trained,
)
from p2pfl.gossip.deadlines import LONGEST_PAUSE
from p2pfl.gossip.messages import Layout, TensorSpec
from p2pfl.storage.checkpoint import Checkpoint
from tests.p2pfl.village import LATENCY, LAYOUT, SAMPLES, TASK, Village, live_ids, live_until_done, until_done

pytestmark = pytest.mark.virtual


async def test_a_node_without_peers_trains_alone_and_goes_on_serving():
    village = Village()
    alone = village.villager(0)
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        await nursery.start(alone.node.run)
        await until_done(alone)
        assert trio.current_time() == 3.0
        assert [event.state for event in alone.events(StateChanged)] == ["training", "settling", "done"]
        await trio.sleep(1000)
        assert alone.node.gossip.state == "done"
        nursery.cancel_scope.cancel()
    assert alone.node.gossip.weights.tolist() == [3.0] * 4
    assert alone.events(Stopped)[-1].round == 3


async def test_two_nodes_exchange_and_agree():
    village = Village()
    a, b = village.villager(0, (1,)), village.villager(1, (0,))
    await live_until_done(village, a, b)
    assert a.events(Merged)
    assert b.events(Merged)
    np.testing.assert_allclose(a.node.gossip.weights, b.node.gossip.weights, atol=0.5)


async def test_what_arrives_during_training_costs_no_progress():
    village = Village()
    nodes = [village.villager(i, (1 - i,), settle=0) for i in range(2)]
    await live_until_done(village, *nodes)
    # Three rounds add 3; a plain mean with models that are a round behind would have lost some of it.
    assert all(villager.node.gossip.weights[0] >= 3 for villager in nodes)


@pytest.mark.parametrize("mode", ["push", "pull", "push-pull"])
async def test_every_mode_mixes_models(mode):
    village = Village()
    nodes = [village.villager(i, (1 - i,), gossip=mode, settle=0, seconds=1 + 0.1 * i) for i in range(2)]
    await live_until_done(village, *nodes)
    sent = [event for villager in nodes for event in villager.events(Exchanged) if event.mode != "hello"]
    assert {event.mode for event in sent} == {mode}
    assert {event.outcome for event in sent} == {"ok"}
    assert any(villager.events(Merged) for villager in nodes)


async def test_an_unreachable_peer_delays_nothing_and_is_retried_with_backoff():
    village = Village()
    node = village.villager(0, (7,), rounds=20, settle=0)
    village.network.host(7)  # an address where nobody listens
    await live_until_done(village, node)
    started = node.times(StateChanged)[0]
    assert started == pytest.approx(2 * LATENCY)  # one refused hello
    assert node.times(StateChanged)[1] - started == pytest.approx(20.0)
    attempts = [t for t, e in node.seen if isinstance(e, Exchanged)]
    assert {e.outcome for e in node.events(Exchanged)} == {"unreachable"}
    assert 3 <= len(attempts) <= 7
    assert (node.status()["peers"][0]["state"], node.status()["peers"][0]["failures"]) == (
        "new",
        len(attempts),
    )


async def test_a_peer_that_hangs_delays_training_by_no_more_than_the_join_deadline():
    village = Village()
    node = village.villager(0, (7,), rounds=5, settle=0)

    async def hang(scope, receive, send):
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        await nursery.start(village.network.host(7).serve, hang)
        await nursery.start(node.node.run)
        await until_done(node)
        nursery.cancel_scope.cancel()
    assert node.times(RoundCompleted)[-1] == pytest.approx(JOIN_DEADLINE + 5.0)


async def test_a_killed_peer_neither_stops_nor_slows_the_others():
    village = Village()
    nodes = [village.villager(i, tuple(j for j in range(3) if j != i), rounds=10) for i in range(3)]
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        victim = trio.CancelScope()

        async def doomed(task_status):
            with victim:
                await nodes[2].node.run(task_status=task_status)

        await nursery.start(doomed)
        await nursery.start(nodes[0].node.run)
        await nursery.start(nodes[1].node.run)
        await trio.sleep(4.5)
        victim.cancel()
        await until_done(nodes[0], nodes[1])
        nursery.cancel_scope.cancel()
    for survivor in nodes[:2]:
        rounds = survivor.times(RoundCompleted)
        assert len(rounds) == 10
        assert np.diff(rounds).max() == pytest.approx(1.0)


async def test_min_peers_waits_for_company_and_learns_of_it_through_others():
    village = Village()
    # A chain: each knows only the one before it.
    nodes = [village.villager(i, (i - 1,) if i else (), min_peers=4) for i in range(5)]
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        for villager in nodes:
            await nursery.start(villager.node.run)
            await trio.sleep(1.0)
        await until_done(*nodes)
        nursery.cancel_scope.cancel()
    for index, villager in enumerate(nodes):
        assert len(villager.events(PeerAdded)) == 4
        assert villager.times(StateChanged)[0] >= 4.0
        assert villager.times(StateChanged)[0] < 4.0 + 5.0, index


async def test_the_wait_for_company_ends():
    village = Village()
    node = village.villager(0, (), min_peers=2, wait=30.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        await nursery.start(node.node.run)
        assert node.node.gossip.state == "waiting"
        await until_done(node)
        nursery.cancel_scope.cancel()
    assert node.times(StateChanged)[0] == 30.0


async def test_a_late_joiner_starts_from_the_median_and_keeps_its_own_round():
    village = Village()
    early = [village.villager(i, tuple(j for j in range(3) if j != i), rounds=10) for i in range(3)]
    late = village.villager(3, (0, 1, 2), rounds=2)
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        for villager in early:
            await nursery.start(villager.node.run)
        await until_done(*early)
        settled = early[0].node.gossip.weights[0]
        await nursery.start(late.node.run)
        await until_done(late)
        nursery.cancel_scope.cancel()
    (joined,) = late.events(Joined)
    assert sorted(joined.peers) == ["id0", "id1", "id2"]
    assert joined.age > 5 * SAMPLES
    assert late.events(Trained)[0].round == 1
    assert late.compute.plans[0].samples == SAMPLES
    assert late.node.gossip.weights[0] >= settled - 1


async def test_done_is_not_gone_it_merges_and_answers():
    village = Village()
    fast = village.villager(0, (1,), rounds=1, settle=0)
    slow = village.villager(1, (0,), rounds=6, settle=0)
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        await nursery.start(fast.node.run)
        await nursery.start(slow.node.run)
        await until_done(fast)
        version, merged = fast.node.gossip.version, len(fast.events(Merged))
        await until_done(slow)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert len(fast.events(Trained)) == 1
    assert len(fast.events(Merged)) > merged
    assert fast.node.gossip.version > version
    assert fast.node.gossip.weights[0] > 2


async def test_who_is_done_evaluates_what_it_has_settled_on():
    village = Village()
    fast = village.villager(0, (1,), rounds=1, settle=2, interval=2.0)
    slow = village.villager(1, (0,), rounds=6, settle=2)
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        await nursery.start(fast.node.run)
        await nursery.start(slow.node.run)
        await until_done(fast)
        evaluated, merged = len(fast.events(Evaluated)), len(fast.events(Merged))
        await until_done(slow)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert fast.events(Evaluated)[-1].age == fast.node.gossip.age
    assert 1 <= len(fast.events(Evaluated)) - evaluated < len(fast.events(Merged)) - merged


async def test_exit_when_done_leaves_when_all_are_done():
    village = Village()
    nodes = [
        village.villager(i, tuple(j for j in range(3) if j != i), rounds=2 + i, exit_when_done=True)
        for i in range(3)
    ]
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        async with trio.open_nursery() as running:
            for villager in nodes:
                await running.start(villager.node.run)
        nursery.cancel_scope.cancel()
    last = max(villager.times(StateChanged)[-1] for villager in nodes)
    assert all(villager.events(Stopped) for villager in nodes)
    assert max(villager.times(Stopped)[0] for villager in nodes) < last + 2


async def test_the_last_one_done_tells_those_who_wait_before_it_leaves():
    village = Village()
    waiting = village.villager(0, (1,), rounds=1, exit_when_done=True)
    last = village.villager(1, (0,), rounds=5, exit_when_done=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        async with trio.open_nursery() as running:
            await running.start(waiting.node.run)
            await running.start(last.node.run)
        nursery.cancel_scope.cancel()
    done = last.times(StateChanged)[-1]
    assert [e.mode for t, e in last.seen if isinstance(e, Exchanged) and t >= done].count("hello") == 1
    assert waiting.times(Stopped)[0] < last.times(StateChanged)[-1] + 2


async def test_exit_when_done_lingers_for_one_that_never_ends_but_not_longer():
    village = Village()
    leaver = village.villager(0, (1,), exit_when_done=True, linger=20.0)
    stayer = village.villager(1, (0,), rounds=0)
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        await nursery.start(stayer.node.run)
        async with trio.open_nursery() as running:
            await running.start(leaver.node.run)
        nursery.cancel_scope.cancel()
    done, stopped = leaver.times(StateChanged)[-1], leaver.times(Stopped)[0]
    assert 20.0 <= stopped - done <= 22.0


@pytest.mark.parametrize("other", ["task", "layout"])
async def test_nodes_of_another_task_or_model_refuse_each_other(other):
    village = Village()
    ours = village.villager(0, (1,))
    theirs = (
        village.villager(1, (0,), task=replace(TASK, name="fashion"))
        if other == "task"
        else village.villager(1, (0,), layout=Layout("wider", (TensorSpec("w", (4,)),)))
    )
    await live_until_done(village, ours, theirs)
    for villager in (ours, theirs):
        status = villager.status()
        assert status["rejected"].get(f"wrong-{other}", 0) >= 1
        assert not villager.events(Merged)
        assert villager.node.gossip.weights.tolist() == [3.0] * 4
        (peer,) = status["peers"]
        assert peer["state"] == "refused"
        assert ("fashion" if other == "task" else "layout") in peer["detail"]


async def test_diverged_training_is_dropped_and_the_node_goes_on():
    village = Village()
    node = village.villager(0)
    good = node.compute.result

    def second_diverges(result):
        if len(node.compute.plans) == 2:
            return replace(result, weights=np.full(4, np.nan, np.float32), loss=float("nan"))
        return good(result)

    node.compute.result = second_diverges
    await live_until_done(village, node)
    assert [event.round for event in node.events(Diverged)] == [2]
    assert node.node.gossip.weights.tolist() == [2.0] * 4
    assert node.node.gossip.round == 3


async def test_a_node_goes_on_from_its_checkpoint():
    village = Village()
    saved = Checkpoint(
        id="id0",
        round=2,
        age=128.0,
        weights=np.full(4, 2, np.float32),
        optimiser=np.empty(0, np.float32),
        task=TASK,
        layout=LAYOUT,
        version=9,
    )
    node = village.villager(0, rounds=3, resume=saved)
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        await nursery.start(node.node.run)
        assert (node.status()["round"], node.status()["age"]) == (2, 128.0)
        await until_done(node)
        nursery.cancel_scope.cancel()
    assert len(node.events(Trained)) == 1
    assert node.node.gossip.weights.tolist() == [3.0] * 4
    assert [checkpoint.round for checkpoint in node.saved] == [3, 3]  # after the round, and done
    assert node.saved[0].version > 9


async def test_the_interval_keeps_exchanges_apart_and_training_late():
    village = Village()
    nodes = [village.villager(i, (1 - i,), interval=5.0, rounds=4) for i in range(2)]
    await live_until_done(village, *nodes)
    published = nodes[0].times(Published)[:4]
    assert np.diff(published).min() == pytest.approx(5.0)
    trained = nodes[0].times(Trained)
    assert all(t == pytest.approx(p, abs=1e-6) for t, p in zip(trained[1:], published[1:], strict=False))


async def test_round_age_loss_and_accuracy_of_the_status_change_together():
    village = Village()
    node = village.villager(0)
    seen = set()
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        await nursery.start(node.node.run)
        status = node.status()
        assert (status["round"], status["age"], status["loss"], status["accuracy"]) == (0, 0, None, None)
        while not node.node.done.is_set():
            status = node.status()
            seen.add((status["round"], status["age"], status["accuracy"]))
            await trio.sleep(0.25)
        nursery.cancel_scope.cancel()
    assert seen == {(0, 0, None), (1, 64.0, 0.875), (2, 128.0, 0.875), (3, 192.0, 0.875)} - (
        {(3, 192.0, 0.875)} - seen
    )
    assert node.status()["round"] == 3


async def test_evaluation_can_be_rarer_or_off():
    village = Village()
    rare, never = village.villager(0, evaluate_every=2, rounds=4), village.villager(1, evaluate_every=0)
    await live_until_done(village, rare, never)
    assert [event.round for event in rare.events(Evaluated)] == [2, 4, 4]
    assert never.events(Evaluated) == []
    assert never.status()["round"] == 3


async def test_exchange_never_runs_twice_at_once_with_one_peer():
    village = Village(latency=3.0)  # an exchange lasts six rounds
    nodes = [village.villager(i, (1 - i,), rounds=30, settle=0) for i in range(2)]
    await live_until_done(village, *nodes)
    ends = [t for t, e in nodes[0].seen if isinstance(e, Exchanged) and e.mode in MODEL_MODES]
    assert len(ends) >= 3
    assert np.diff(ends).min() >= 6.0 - 1e-9


async def test_the_fifth_of_a_network_knows_everybody_in_the_end():
    village = Village()
    nodes = [village.villager(i, (0,) if i else (), rounds=15, fanout=2) for i in range(6)]
    await live_until_done(village, *nodes)
    for index, villager in enumerate(nodes):
        assert list(live_ids(villager)) == [f"id{i}" for i in range(6) if i != index]


def called(villager, since=0.0):
    """The addresses that a node called, from a time on."""
    return {e.url for t, e in villager.seen if isinstance(e, Exchanged) and t >= since}


async def test_with_fixed_peers_a_node_talks_only_to_whom_it_is_told():
    village = Village()
    ring = [
        village.villager(i, ((i - 1) % 5, (i + 1) % 5), rounds=10, fanout=3, fixed_peers=True)
        for i in range(5)
    ]
    await live_until_done(village, *ring)
    for i, villager in enumerate(ring):
        neighbours = {(i - 1) % 5, (i + 1) % 5}
        assert called(villager) == {village.url(j) for j in neighbours}
        assert list(live_ids(villager)) == sorted(f"id{j}" for j in neighbours)
    spread = np.ptp([villager.node.gossip.weights[0] for villager in ring])
    assert spread < 1


async def test_a_stranger_may_call_a_node_with_fixed_peers_and_is_answered():
    village = Village()
    fixed = village.villager(0, (), rounds=10, fixed_peers=True)
    stranger = village.villager(1, (0,), rounds=10)
    await live_until_done(village, fixed, stranger)
    assert fixed.events(Merged)
    assert stranger.events(Merged)
    assert {event.outcome for event in stranger.events(Exchanged)} == {"ok"}
    assert called(fixed) == set()
    assert fixed.status()["peers"] == []


async def test_peers_that_are_replaced_are_left_alone_and_the_new_ones_called_at_once():
    village = Village()
    node = village.villager(0, (1,), rounds=10, fixed_peers=True)
    others = [village.villager(i, rounds=0, fixed_peers=True) for i in (1, 2, 3)]
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        for villager in (*others, node):
            await nursery.start(villager.node.run)
        await trio.sleep(5.5)
        node.node.set_peers((village.url(2), village.url(3)))
        await until_done(node)
        nursery.cancel_scope.cancel()
    met = sorted((e.peer, t) for t, e in node.seen if isinstance(e, PeerAdded) and t > 1)
    assert met == [(f"id{i}", pytest.approx(5.5 + 2 * LATENCY)) for i in (2, 3)]
    assert [(t, e.peer, e.url) for t, e in node.seen if isinstance(e, PeerDropped)] == [
        (5.5, "id1", village.url(1))
    ]
    assert village.url(1) in called(node)
    assert called(node, since=5.5) == {village.url(2), village.url(3)}


async def test_peers_can_be_given_to_a_node_that_is_not_running_and_must_be_addresses():
    village = Village()
    node, other = village.villager(0), village.villager(1)
    with pytest.raises(ConfigError, match="peers: 'n1' is not"):
        node.node.set_peers(("n1",))
    node.node.set_peers((village.url(1),))
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        await nursery.start(other.node.run)
        await nursery.start(node.node.run)
        await until_done(node)
        nursery.cancel_scope.cancel()
    assert list(live_ids(node)) == ["id1"]
    node.node.set_peers(())  # it has stopped: nobody is called


async def test_a_peer_replaced_while_it_is_asked_is_no_peer_once_it_answers():
    village = Village(latency=1.0)
    node, other = village.villager(0, (1,), fixed_peers=True), village.villager(1, rounds=0)
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        await nursery.start(other.node.run)
        await nursery.start(node.node.run)
        await trio.sleep(0.5)
        node.node.set_peers(())
        await until_done(node)
        nursery.cancel_scope.cancel()
    assert node.events(PeerAdded) == []
    assert len(node.events(PeerDropped)) == 1
    assert node.status()["peers"] == []


async def test_settling_meets_those_again_whom_a_cut_took_away():
    village = Village()
    nodes = [
        village.villager(i, tuple(j for j in range(4) if j != i), rounds=12, settle=20, interval=1.0)
        for i in range(4)
    ]
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        for villager in nodes:
            await nursery.start(villager.node.run)
        await trio.sleep(1)
        village.network.cut(1, [[0, 1], [2, 3]])
        await trio.sleep(10.5)
        village.network.heal(1)
        healed = trio.current_time()
        await until_done(*nodes)
        nursery.cancel_scope.cancel()
    assert healed < min(villager.times(StateChanged)[1] for villager in nodes)
    for i, villager in enumerate(nodes):
        across = {village.url(j) for j in range(4) if j // 2 != i // 2}
        settled = [
            event.url
            for time, event in villager.seen
            if isinstance(event, Exchanged) and event.mode == "push-pull" and time > healed + 3
        ]
        assert across <= set(settled)


async def test_settling_waits_for_a_contact_that_it_had_backed_off_from():
    village = Village()
    nodes = [village.villager(i, (1 - i,), rounds=1, settle=5) for i in range(2)]
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        for villager in nodes:
            await nursery.start(villager.node.run)
        await trio.sleep(0.5)
        village.network.cut(1, [[0], [1]])
        await trio.sleep(3)  # the push-pulls of the only round are lost
        village.network.heal(1)
        await until_done(*nodes)
        nursery.cancel_scope.cancel()
    for villager in nodes:
        outcomes = [event.outcome for event in villager.events(Exchanged) if event.mode == "push-pull"]
        assert outcomes.count("ok") >= 4
    assert nodes[0].node.gossip.weights == pytest.approx(nodes[1].node.gossip.weights, abs=1e-3)


async def test_settling_does_not_wait_for_peers_that_have_been_away_for_long():
    village = Village()
    node = village.villager(0, (7,), rounds=30, settle=20)
    village.network.host(7)  # an address where nobody listens
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        await nursery.start(node.node.run)
        await until_done(node)
        settling, done = node.times(StateChanged)[1:]
        nursery.cancel_scope.cancel()
    assert done - settling < 60


async def test_a_done_node_that_settles_again_makes_all_its_exchanges_also_without_an_interval():
    village = Village()
    fast = village.villager(0, (1,), rounds=1, settle=5)
    slow = village.villager(1, (0,), rounds=2, seconds=9.0, gossip="push", settle=0)
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        await nursery.start(fast.node.run)
        await nursery.start(slow.node.run)
        await trio.sleep(15)
        nursery.cancel_scope.cancel()
    exchanges = ((t, e) for t, e in fast.seen if isinstance(e, Exchanged) and e.mode in MODEL_MODES)
    late = [event for time, event in exchanges if time > 9]
    assert [(event.mode, event.outcome) for event in late] == [("push-pull", "ok")] * 5


async def refusing(retry_after, calls, scope, receive, send):
    """A node that answers hellos, and then says for a while that it is busy."""
    calls.append((trio.current_time(), scope["path"]))
    while (await receive()).get("more_body", False):
        pass
    document = b'{"type": "urn:p2pfl:too-many-requests", "detail": "more than your share"}'
    headers = [(b"retry-after", retry_after), (b"content-length", b"%d" % len(document))]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": document})


@pytest.mark.parametrize(("retry_after", "pause"), [(b"7", 7.0), (b"999999", LONGEST_PAUSE)])
async def test_a_peer_that_asks_to_be_left_alone_is_left_alone_and_not_lost(retry_after, pause):
    village = Village()
    a, b = village.villager(0, (1,), rounds=20), village.villager(1, (0,), rounds=1)
    calls = []
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        async with trio.open_nursery() as life:
            await life.start(b.node.run)
            nursery.start_soon(a.node.run)
            await trio.sleep(2.5)
            life.cancel_scope.cancel()
        assert live_ids(a)
        nursery.start_soon(village.network.host(1).serve, partial(refusing, retry_after, calls))
        await trio.sleep(12.0)
        [contact] = a.node.gossip.view.contacts()
        assert (contact.state, contact.failures) == ("live", 0)
        assert "more than your share" in contact.detail
        await until_done(a)
        nursery.cancel_scope.cancel()
    times = [time for time, _ in calls]
    assert len(times) >= 2 or pause > 12
    assert all(later - earlier >= pause for earlier, later in pairwise(times))
    refused = [event for event in a.events(Exchanged) if event.outcome == "refused"]
    assert len(refused) == len(times)


async def test_settling_waits_for_a_peer_that_asked_to_be_left_alone():
    """Else the settle exchanges would be used up in no time, without any."""
    village = Village()
    a, b = village.villager(0, (1,), rounds=1, settle=2), village.villager(1, (0,), rounds=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        await nursery.start(b.node.run)
        await nursery.start(a.node.run)
        await trio.sleep(0.5)
        [contact] = a.node.gossip.view.contacts()
        a.node.gossip.view.postponed(contact, "later", trio.current_time() + 2.0)
        await until_done(a)
        nursery.cancel_scope.cancel()
    settled = [time for time, event in a.seen if isinstance(event, Exchanged) and event.mode == "push-pull"]
    assert len(settled) >= 2
    assert settled[0] >= 2.5


async def test_a_flood_of_refusals_is_counted_and_not_written_down_one_by_one():
    village = Village()
    alone = village.villager(0)
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        await nursery.start(alone.node.run)
        for _ in range(1000):
            alone.node.service.reject(Busy("later"), "10.0.0.9", "")
        alone.node.service.reject(TooSlow("too slow"), "10.0.0.9", "")  # another reason is still seen
        nursery.cancel_scope.cancel()
    assert alone.status()["rejected"] == {"busy": 1000, "too-slow": 1}
    reasons = [event.reason for event in alone.events(Rejected)]
    assert (reasons.count("busy"), reasons.count("too-slow")) == (100, 1)

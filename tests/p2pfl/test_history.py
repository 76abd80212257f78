"""What a node remembers of its past, how much of it at most, and who hears of it."""

from __future__ import annotations

import itertools
import json

import httpx
import pytest
import trio

from p2pfl import history
from p2pfl.events import (
    Evaluated,
    Exchanged,
    Published,
    Rejected,
    RoundCompleted,
    Served,
    StateChanged,
    Trained,
)
from p2pfl.history import History, Series
from tests.p2pfl.village import Village, live_until_done, living, until_done

CONFUSION = ((3, 1), (0, 4))


def evaluated(round: int, accuracy: float = 0.875) -> Evaluated:
    return Evaluated(round, 64.0 * round, 8, 0.5, accuracy, 0.9, CONFUSION)


def exchanged(peer: str, sent: int = 100, received: int = 50, outcome: str = "ok") -> Exchanged:
    return Exchanged("push-pull", peer, "http://192.0.2.1:8470", sent, received, True, 0.1, outcome)


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_curve_loses_points_and_keeps_its_span() -> None:
    series = Series(8)
    for n in range(1000):
        series.add({"n": n})
        points = [point["n"] for point in series.since(-1)]
        assert len(points) <= 8
        assert (points[0], points[-1]) == (0, n)
        gaps = {b - a for a, b in itertools.pairwise(points[:-1])}
        assert len(gaps) <= 1  # evenly, but for the newest
        assert points == sorted(set(points))


def test_a_round_is_one_point_with_all_that_is_known_of_it() -> None:
    time = Time()
    past = History(time)
    for round in (1, 2):
        time.now += 2.5
        past.note(Trained(round, 4, 64, 1.5 / round, 0.1))
        if round == 2:  # not every round is evaluated
            past.note(evaluated(round))
        past.note(RoundCompleted(round, 64.0 * round))
    past.note(evaluated(2, 0.95))  # settled
    first, second, settled = past.document()["rounds"]
    assert (first["round"], first["t"], first["training_loss"], first["accuracy"]) == (1, 2.5, 1.5, None)
    assert (second["round"], second["t"], second["training_loss"]) == (2, 5.0, 0.75)
    assert (second["accuracy"], second["balanced_accuracy"], second["loss"]) == (0.875, 0.9, 0.5)
    assert (settled["round"], settled["training_loss"], settled["accuracy"]) == (2, None, 0.95)


def test_memory_is_bounded_whatever_happens() -> None:
    time = Time()
    past = History(time, lambda id: (int(time.now), 0.5))
    for i in range(5000):
        time.now += 1
        past.note(exchanged(f"peer{i % 300}"))
        past.note(Rejected("192.0.2.1", "x" * 9999, "malformed", "y\n" * 9999))
        past.note(RoundCompleted(i, 1.0))
    document = past.document()
    assert len(document["rounds"]) <= history.ROUNDS
    assert len(document["traffic"]) <= history.ROUNDS
    assert len(document["exchanges"]) == history.EXCHANGES
    assert len(document["log"]) == history.LOG
    assert len({point["peer"] for point in document["peers"]}) == history.PEERS
    assert len(document["peers"]) <= history.PEERS * history.PEER_POINTS
    assert document["rounds"][0]["round"] == 0
    assert document["rounds"][-1]["round"] == 4999
    assert all(len(line["text"]) <= history.TEXT and line["text"].isprintable() for line in document["log"])
    assert len(json.dumps(document)) < 1_000_000


def test_traffic_counts_both_ways_and_exchanges_say_who_asked() -> None:
    time = Time()
    past = History(time)
    past.note(exchanged("ann", sent=100, received=50))
    past.note(Served("push", "bob", 30, 0))
    time.now += 5
    past.note(Served("hello", "cy", 3, 4))
    past.note(exchanged("dee", sent=0, received=0, outcome="timed-out"))
    document = past.document()
    assert (document["received"], document["sent"]) == (83, 104)
    assert [(point["t"], point["received"]) for point in document["traffic"]] == [(0.0, 50), (5.0, 83)]
    assert [(e["peer"], e["direction"], e["outcome"]) for e in document["exchanges"]] == [
        ("ann", "out", "ok"),
        ("bob", "in", "ok"),
        ("dee", "out", "timed-out"),
    ]


def test_the_log_has_what_is_notable_and_no_more() -> None:
    past = History(Time())
    for event in (StateChanged("training"), Published(1, 1, 2.0), exchanged("ann"), StateChanged("done")):
        past.note(event)
    assert [(line["event"], line["text"]) for line in past.document()["log"]] == [
        ("state-changed", "state=training"),
        ("state-changed", "state=done"),
    ]


def test_only_what_is_new_is_told_again() -> None:
    past = History(Time(), lambda id: (3, 0.5))
    past.note(RoundCompleted(1, 1.0))
    past.note(exchanged("ann"))
    seen = past.document()["sequence"]
    past.note(RoundCompleted(2, 2.0))
    news = past.document(seen)
    assert [point["round"] for point in news["rounds"]] == [2]
    assert (news["peers"], news["exchanges"], news["log"]) == ([], [], [])


@pytest.mark.virtual
async def test_who_waits_is_woken_by_what_happens_and_by_the_end() -> None:
    past = History(trio.current_time)
    heard: list[float] = []

    async def wait() -> None:
        while not past.end.is_set():
            await past.change(past.sequence)
            heard.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(1)
        past.note(RoundCompleted(1, 1.0))
        await trio.sleep(1)
        past.close()
    assert heard == [1.0, 2.0]


@pytest.mark.virtual
async def test_nodes_tell_their_accuracy_if_they_keep_a_history_and_only_then() -> None:
    village = Village()
    told, silent = village.villager(0), village.villager(1, (0,))
    told.listeners.append(told.node.service.keep_history())
    silent.listeners.append(lambda event: None)
    await live_until_done(village, told, silent)
    (seen,) = [peer for peer in silent.status()["peers"] if peer["id"] == "id0"]
    (unseen,) = [peer for peer in told.status()["peers"] if peer["id"] == "id1"]
    assert (seen["accuracy"], unseen["accuracy"]) == (0.875, None)
    assert seen["age"] > 0
    assert told.node.service.history()["peers"] == []
    assert [point["round"] for point in told.node.service.history()["rounds"]][:3] == [1, 2, 3]


@pytest.mark.virtual
async def test_a_history_has_the_peers_accuracies_by_round() -> None:
    village = Village()
    pair = [village.villager(0), village.villager(1, (0,))]
    for villager in pair:
        villager.listeners.append(villager.node.service.keep_history())
    await live_until_done(village, *pair)
    points = pair[0].node.service.history()["peers"]
    assert {point["peer"] for point in points} == {"id1"}
    assert [point["round"] for point in points] == sorted(point["round"] for point in points)
    assert all(point["accuracy"] == 0.875 for point in points)


@pytest.mark.virtual
async def test_who_watches_a_simulated_node_is_told_until_it_ends() -> None:
    """The simulated network carries an answer whole, once it is complete: here when the node has left."""
    village = Village()
    watched, other = village.villager(0), village.villager(1, (0,))
    watched.listeners.append(watched.node.service.keep_history())
    answers: list[httpx.Response] = []
    answered = trio.Event()

    async def watch() -> None:
        client = httpx.AsyncClient(transport=village.network.host(9).transport(), timeout=None)
        async with client:
            answers.append(await client.get(village.url(0) + "/v1/events"))
        answered.set()

    async with living(village, watched, other) as nursery:
        nursery.start_soon(watch)
        await until_done(watched, other)
        watched.node.leave()
        with trio.fail_after(60):
            await answered.wait()
    lines = answers[0].text.splitlines()
    kinds = {line for line in lines if line.startswith("event:")}
    last = json.loads([line for line in lines if line.startswith("data:")][-1][5:])
    assert answers[0].headers["content-type"] == "text/event-stream"
    assert kinds == {"event: history", "event: status"}
    assert last["state"] == "done"

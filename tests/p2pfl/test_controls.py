"""What an operator may do to a running node, in virtual time: pause, resume, set, stop."""

from __future__ import annotations

import json
from functools import partial

import httpx
import numpy as np
import pytest
import trio

from p2pfl.config import SETTABLE, NodeConfig, build
from p2pfl.controls import Controls, Kept, choices, settings_of
from p2pfl.errors import ConfigError, SettingError
from p2pfl.events import (
    Evaluated,
    Event,
    Exchanged,
    KeptOwn,
    Merged,
    Paused,
    Resumed,
    RoundCompleted,
    Served,
    SettingsChanged,
    StandingChanged,
    Started,
    StateChanged,
    Stopped,
    Trained,
)
from p2pfl.gossip.quorum import check_attainable
from p2pfl.network.tokens import Token
from p2pfl.operating import Operator
from tests.p2pfl.village import SAMPLES, Village, living, until_done


def controls_of(seen: list[Event] | None = None, parameters: int = 4, **flat: object) -> Controls:
    """Of a node that never runs."""
    config = build(NodeConfig, flat)
    return Controls(
        config,
        adopt=lambda gossip: None,
        attainable=partial(check_attainable, parameters=parameters),
        round=lambda: 0,
        observe=(seen if seen is not None else []).append,
        on_change=lambda: None,
    )


# -- pausing


@pytest.mark.virtual
async def test_a_paused_node_ends_its_round_and_trains_no_more() -> None:
    village = Village()
    node = village.villager(0, rounds=10)
    async with living(village, node):
        await trio.sleep(1.5)
        node.node.controls.change({"paused": True})
        assert (node.status()["state"], node.status()["paused"]) == ("training", True)
        await trio.sleep(100)
        assert node.times(RoundCompleted) == [1.0, 2.0]
        assert node.times(Paused) == [2.0]
        assert (node.status()["state"], node.status()["paused"]) == ("paused", True)
        assert node.node.gossip.state == "training"  # what peers are told: it is not done
        node.node.controls.change({"paused": False})
        await until_done(node)
    assert [event.round for event in node.events(Paused) + node.events(Resumed)] == [2, 2]
    assert (node.times(Resumed), node.times(RoundCompleted)[2]) == ([101.5], 102.5)
    assert len(node.events(Trained)) == 10
    assert node.status()["state"] == "done"


@pytest.mark.virtual
async def test_a_paused_node_answers_merges_and_is_alive_to_others() -> None:
    village = Village()
    paused = village.villager(0, (1,), rounds=50, seconds=1.0)
    other = village.villager(1, (0,), rounds=50, seconds=1.1)
    async with living(village, paused, other):
        await trio.sleep(5.5)
        paused.node.controls.change({"paused": True})
        await trio.sleep(2)
        at, round = trio.current_time(), paused.node.gossip.round
        await trio.sleep(20)
        later = [event for time, event in paused.seen if time > at]
        assert [event for event in later if isinstance(event, Trained)] == []
        assert {event.mode for event in later if isinstance(event, Exchanged)} <= {"hello", "sync"}
        assert sum(isinstance(event, Served) for event in later) > 10
        assert sum(isinstance(event, Merged) for event in later) > 10
        assert sum(isinstance(event, Evaluated) for event in later) > 10
        assert paused.node.gossip.round == round
        assert paused.saved[-1].age > paused.saved[0].age
        assert {event.standing for event in other.events(StandingChanged)} == {"alive"}
        assert other.node.gossip.weights[0] > 10  # it goes on


@pytest.mark.virtual
async def test_a_node_that_hears_nothing_while_it_is_paused_does_nothing() -> None:
    village = Village()
    node = village.villager(0, rounds=9)
    async with living(village, node):
        await trio.sleep(0.5)
        node.node.controls.change({"paused": True})
        await trio.sleep(1)
        before = len(node.seen), len(node.saved)
        await trio.sleep(1000)
        assert (len(node.seen), len(node.saved)) == before
    assert len(node.events(Trained)) == 1


@pytest.mark.virtual
async def test_a_pause_does_not_wait_for_the_interval_to_be_over() -> None:
    village = Village()
    node = village.villager(0, rounds=9, interval=60.0)
    async with living(village, node):
        await trio.sleep(10)  # the first round is over, the second begins after 59 s
        node.node.controls.change({"paused": True})
        await trio.sleep(1)
        node.node.controls.change({"paused": False})
        await trio.sleep(60)
    assert (node.times(Paused), node.times(Resumed)) == ([10.0], [11.0])
    assert node.times(RoundCompleted) == [1.0, 61.0]  # and a pause does not change the rhythm


@pytest.mark.virtual
async def test_a_node_that_waits_for_company_makes_acquaintance_though_it_is_paused() -> None:
    village = Village()
    a, b = village.villager(0, (1,), min_peers=1, rounds=2), village.villager(1, (0,), rounds=2)
    async with living(village, a):
        a.node.controls.change({"paused": True})
        assert a.status()["state"] == "waiting"
        async with trio.open_nursery() as nursery:
            await nursery.start(b.node.run)
            await until_done(b)
            assert a.status()["state"] == "paused"
            assert (a.events(Trained), len(a.events(Merged)) > 0) == ([], True)
            a.node.controls.change({"paused": False})
            await until_done(a)
            nursery.cancel_scope.cancel()
    assert len(a.events(Trained)) == 2


@pytest.mark.virtual
async def test_a_pause_holds_up_settling_and_nothing_of_a_node_that_is_done() -> None:
    village = Village()
    a, b = village.villager(0, (1,), rounds=1, settle=3), village.villager(1, (0,), rounds=1, settle=3)
    async with living(village, a, b):
        a.node.controls.change({"paused": True})
        await trio.sleep(0.5)
        a.node.controls.change({"paused": False})
        await trio.sleep(0.75)  # in its round
        a.node.controls.change({"paused": True})
        await trio.sleep(30)
        assert (a.status()["state"], a.node.done.is_set(), b.node.done.is_set()) == ("paused", False, True)
        a.node.controls.change({"paused": False})
        await until_done(a)
        a.node.controls.change({"paused": True})
        await trio.sleep(1)
        assert (a.status()["state"], a.status()["paused"]) == ("done", True)
    assert [event.state for event in a.events(StateChanged)] == ["training", "settling", "done"]


@pytest.mark.virtual
async def test_a_pause_between_two_settling_exchanges_does_not_wait_for_the_next() -> None:
    village = Village()
    a, b = (village.villager(i, (1 - i,), rounds=1, settle=3, interval=60.0) for i in range(2))
    async with living(village, a, b):
        await trio.sleep(30)  # its round is over, the first settling exchange is due in half a minute
        exchanges = len(a.events(Exchanged))
        a.node.controls.change({"paused": True})
        await trio.sleep(1000)
        assert a.times(Paused) == [30.0]
        own = [event.mode for event in a.events(Exchanged)[exchanges:]]
        assert "push-pull" not in own
        a.node.controls.change({"paused": False})
        await until_done(a)
    assert len(a.events(Trained)) == 1


@pytest.mark.virtual
async def test_a_paused_node_can_be_stopped() -> None:
    village = Village()
    paused, other = village.villager(0, (1,), rounds=0), village.villager(1, (0,), rounds=0)
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        await nursery.start(other.node.run)
        async with trio.open_nursery() as running:
            await running.start(paused.node.run)
            await trio.sleep(3.5)
            paused.node.controls.change({"paused": True})
            await trio.sleep(5)
            paused.node.leave()
        await trio.sleep(0.5)
        assert other.node.gossip.membership.standing("id0") == "left"
        nursery.cancel_scope.cancel()
    assert [event.round for event in paused.events(Stopped)] == [paused.saved[-1].round]
    assert paused.events(Resumed) == []


@pytest.mark.virtual
async def test_a_node_that_was_paused_in_its_former_life_still_is() -> None:
    village = Village()
    node = village.villager(0, rounds=3)
    assert node.node.controls.restore(Kept(paused=True)) == []
    async with living(village, node):
        await trio.sleep(10)
        assert (node.status()["state"], node.events(Trained)) == ("paused", [])
        node.node.controls.change({"paused": False})
        await until_done(node)
    assert len(node.events(Trained)) == 3


# -- setting


@pytest.mark.virtual
async def test_settings_hold_from_the_next_round() -> None:
    village = Village()
    node = village.villager(0, rounds=4, local_epochs=2, batch_size=16)
    async with living(village, node):
        await trio.sleep(1.5)
        node.node.controls.change({"lr": 0.5, "local_steps": 3, "batch_size": 8})
        shown = node.node.controls.as_dict()
        assert (shown["settings"]["lr"], shown["in_force"]["lr"]) == (0.5, 0.1)
        await trio.sleep(1)
        assert node.node.controls.as_dict()["in_force"]["lr"] == 0.5
        await until_done(node)
    plans = [(plan.learning_rate, plan.steps, plan.batch_size) for plan in node.compute.plans]
    epochs = 2 * SAMPLES // 16
    assert plans == [(0.1, epochs, 16), (0.1, epochs, 16), (0.5, 3, 8), (0.5, 3, 8)]
    (changed,) = node.events(SettingsChanged)
    assert changed.from_round == 3
    settings = (("lr", 0.5), ("local_steps", 3), ("local_epochs", None), ("batch_size", 8))
    assert changed.settings == settings
    assert json.loads(json.dumps(changed.as_dict()))["settings"][0] == ["lr", 0.5]


@pytest.mark.virtual
async def test_the_fan_out_changes() -> None:
    village = Village()
    nodes = [village.villager(i, tuple(j for j in range(5) if j != i), rounds=0, fanout=1) for i in range(5)]
    async with living(village, *nodes):
        await trio.sleep(10.5)
        nodes[0].node.controls.change({"fanout": 4})
        await trio.sleep(20)
    by_round = [
        sum(
            isinstance(e, Exchanged) and e.mode == "push-pull" and t < time <= t + 0.9
            for time, e in nodes[0].seen
        )
        for t in nodes[0].times(RoundCompleted)[:-1]
    ]
    assert set(by_round[2:9]) == {1}
    assert set(by_round[12:]) == {4}


@pytest.mark.virtual
async def test_the_merge_rule_changes_and_models_that_waited_are_merged() -> None:
    village = Village()
    a, b = village.villager(0, (1,), rounds=0, merge="median"), village.villager(1, (0,), rounds=0)
    async with living(village, a, b):
        await trio.sleep(10.5)
        assert (a.events(Merged), len(a.events(KeptOwn)) > 0, a.status()["merge"]) == ([], True, "median")
        a.node.controls.change({"paused": True, "merge": "age"})
        assert a.status()["merge"] == "median"  # the round under way ends as it began
        await trio.sleep(2)
        assert a.status()["merge"] == "age"
        assert {event.rule for event in a.events(Merged)} == {"age"}
        merged = len(a.events(Merged))
        a.node.controls.change({"merge": "mean"})  # at rest nothing is waited for
        assert a.status()["merge"] == "mean"
        await trio.sleep(5)
        assert {event.rule for event in a.events(Merged)[merged:]} == {"mean"}


def test_a_request_is_taken_as_a_whole_or_not_at_all() -> None:
    seen: list[Event] = []
    controls = controls_of(seen)
    before = controls.as_dict()
    for wrong in ({"lr": 0.2, "fanout": 0}, {"paused": True, "merge": "medan"}, {"lr": 0.2, "paused": 1}):
        with pytest.raises(SettingError):
            controls.change(wrong)
        assert controls.as_dict() == before
    assert seen == []
    controls.change({"lr": 0.2, "fanout": 5, "paused": True})
    assert (controls.paused, controls.config.training.lr, controls.config.gossip.fanout) == (True, 0.2, 5)


@pytest.mark.parametrize(
    ("values", "field", "says"),
    [
        ({"lr": 0}, "lr", "above 0"),
        ({"lr": float("nan")}, "lr", "above 0"),
        ({"lr": 1e300}, "lr", r"at most 1e\+38"),
        ({"lr": "0.1"}, "lr", "type float"),
        ({"lr": None}, "lr", "type float"),
        ({"lr": True}, "lr", "type float"),
        ({"local_steps": 0}, "local_steps", "at least 1"),
        ({"local_steps": 2**31}, "local_steps", "at most 2,147,483,647"),
        ({"local_steps": 1.5}, "local_steps", "type int"),
        ({"local_epochs": 0}, "local_epochs", "at least 1"),
        ({"local_epochs": 2, "local_steps": 5}, "local_epochs", "exclude each other"),
        ({"batch_size": 0}, "batch_size", "at least 1"),
        ({"batch_size": 10**40}, "batch_size", "at most"),
        ({"fanout": 0}, "fanout", "at least 1"),
        ({"merge": "medain"}, "merge", "did you mean median"),
        ({"merge": "krum:f=50"}, "merge", "a node holds at most 65"),
        ({"merge": 7}, "merge", "type str"),
        ({"paused": "yes"}, "paused", "true or false"),
        ({"paused": None}, "paused", "true or false"),
        ({"rounds": 5}, "rounds", "cannot be changed while the node runs"),
        ({"token": "x"}, "token", "cannot be changed"),
        ({"local-steps": 5}, "local-steps", "local_steps"),
        ({"lr": 0.2, "batch_size": 0}, "batch_size", "at least 1"),
    ],
)
def test_what_cannot_be_set_is_named(values: dict[str, object], field: str, says: str) -> None:
    with pytest.raises(SettingError, match=says) as caught:
        controls_of().change(values)
    assert caught.value.field == field


def test_a_rule_that_the_inbox_could_never_serve_is_refused() -> None:
    controls_of(parameters=1000).change({"merge": "krum:f=3"})
    with pytest.raises(SettingError, match=r"2f \+ 3") as caught:
        controls_of(parameters=50_000_000).change({"merge": "krum:f=4"})
    assert caught.value.field == "merge"


@pytest.mark.parametrize("start", [{}, {"local_epochs": 3}, {"local_steps": 7}])
def test_steps_and_epochs_take_each_others_place(start: dict[str, int]) -> None:
    controls = controls_of(**start)
    controls.change({"local_steps": 5})
    assert controls.config.training.steps(320) == 5
    controls.change({"local_epochs": 2})
    assert controls.config.training.steps(320) == 20
    controls.change({"local_steps": 5})
    controls.change({"local_steps": None})
    assert controls.config.training.steps(320) == 10
    settings = settings_of(controls.config)
    assert (settings["local_steps"], settings["local_epochs"]) == (None, 1)
    controls.change(settings)  # what is shown may be set
    assert settings_of(controls.config) == settings


def test_a_rule_that_will_wait_is_taken_with_a_warning() -> None:
    controls = controls_of(fanout=2)
    assert controls.as_dict()["warnings"] == []
    controls.change({"merge": "krum:f=3"})
    (warning,) = controls.as_dict()["warnings"]
    assert "raise fanout to 4" in warning
    controls.change({"fanout": 4})
    assert controls.as_dict()["warnings"] == []


def test_what_may_be_chosen_is_what_the_configuration_takes() -> None:
    """The ranges that are shown end where the checks begin."""
    shown = choices()
    assert shown.keys() == {"paused", *SETTABLE}
    for name, range in SETTABLE.items():
        assert shown[name]["description"]
        if "minimum" in range:
            controls_of().change({name: range["minimum"]})
            with pytest.raises(SettingError):
                controls_of().change({name: range["minimum"] - 1})
        if "maximum" in range:
            controls_of().change({name: range["maximum"]})
            with pytest.raises(SettingError):
                controls_of().change({name: range["maximum"] * 2})
    for example in shown["merge"]["examples"]:
        controls_of().change({"merge": example})


def test_nothing_is_observed_of_what_changes_nothing() -> None:
    seen: list[Event] = []
    controls = controls_of(seen, lr=0.3)
    controls.change({})
    controls.change({"lr": 0.3, "paused": False, "fanout": 2, "local_epochs": 1})
    assert seen == []
    controls.change({"lr": 0.4})
    assert len(seen) == 1


# -- over a restart


def test_what_was_set_holds_again_unless_the_flags_say_something_else_since() -> None:
    first = controls_of(lr=0.1, merge="mean")
    first.change({"lr": 0.02, "merge": "median", "local_steps": 5, "paused": True})
    kept = Kept.of(json.loads(json.dumps(first.kept().as_dict())))
    assert kept == first.kept()
    again = controls_of(lr=0.1, merge="mean")
    assert sorted(again.restore(kept)) == ["local_epochs", "local_steps", "lr", "merge"]
    assert (settings_of(again.config), again.paused) == (settings_of(first.config), True)
    assert again.kept() == kept
    other_flags = controls_of(lr=0.2, merge="mean")
    assert "lr" not in other_flags.restore(kept)
    assert (other_flags.config.training.lr, other_flags.config.gossip.merge) == (0.2, "median")


def test_what_was_set_back_is_not_kept() -> None:
    controls = controls_of(lr=0.1)
    controls.change({"lr": 0.2, "paused": True})
    controls.change({"lr": 0.1, "paused": False})
    assert controls.kept() == Kept()


@pytest.mark.parametrize(
    "document", [{}, {"paused": "yes", "changes": 3}, {"changes": {"lr": 5, "rounds": [1, 2], "no": [1]}}]
)
def test_of_a_strange_file_nothing_is_taken(document: dict[str, object]) -> None:
    controls = controls_of()
    assert controls.restore(Kept.of(document)) == []
    assert (controls.paused, controls.config) == (False, controls.configured)


def test_what_was_set_and_cannot_be_any_more_is_an_error() -> None:
    with pytest.raises(ConfigError, match="lr must be above 0"):
        controls_of().restore(Kept(changes={"lr": (0.1, -1.0)}))


@pytest.mark.virtual
async def test_a_simulated_node_is_controlled_by_the_same_requests() -> None:
    """Over the simulated network, where nothing stands in front of the application."""
    village = Village()
    node = village.villager(0, rounds=10)
    token = Token("0123456789abcdefghij-operator")
    async with living(village, node):
        client = httpx.AsyncClient(transport=village.network.host(5).transport(), timeout=None)

        async def post(path: str, body: dict[str, object], token: str) -> httpx.Response:
            return await client.post(f"{village.url(0)}{path}", json=body, headers={"p2pfl-control": token})

        assert (await post("/v1/controls", {"paused": True}, token.text)).status_code == 403  # nobody may
        node.node.service.operated = Operator(node.node, token)
        assert (await post("/v1/stop", {}, "x")).status_code == 403
        answer = await post("/v1/controls", {"paused": True, "lr": 0.5}, token.text)
        assert (answer.status_code, answer.json()["settings"]["lr"]) == (200, 0.5)
        await trio.sleep(5)
        assert node.status()["state"] == "paused"
        assert (await post("/v1/stop", {}, token.text)).status_code == 202
        await trio.sleep(5)
        assert len(node.events(Stopped)) == 1
        await client.aclose()


@pytest.mark.virtual
async def test_a_node_that_nobody_controls_has_no_event_of_it() -> None:
    village = Village()
    node = village.villager(0)
    async with living(village, node):
        await until_done(node)
    kinds = {type(event) for _, event in node.seen}
    assert not kinds & {Paused, Resumed, SettingsChanged}
    assert Started in kinds
    np.testing.assert_array_equal(node.node.gossip.weights, 3.0)

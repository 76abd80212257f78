"""A sparing node: it trains when it may, and sends no more than it may. In virtual time, told the hour."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import trio

from p2pfl.clock import Clock
from p2pfl.config import GossipConfig, NodeConfig, ThriftConfig, build
from p2pfl.errors import ConfigError
from p2pfl.events import Exchanged, Served, Trained, TrainingHeld, TrainingReleased
from p2pfl.network.gate import Gate
from p2pfl.network.hourly import HOUR, HourlyBudget
from p2pfl.network.security import OPEN
from p2pfl.thrift import ASK_LINK, METERED_INTERVALS, Surroundings, Thrift, exchange_size
from tests.p2pfl.network.sites import Site, app_of, body, call, hello_body, pieces
from tests.p2pfl.village import Village, Villager, living, until_done


def begins_at(seconds: float) -> Callable[[], float]:
    """A machine's local time; virtual time begins at this time of the day."""
    return lambda: (seconds + trio.current_time()) % 86_400


def sparing(villager: Villager, thrift: Thrift) -> Villager:
    villager.node._thrift = villager.node.service.thrift = thrift
    thrift._observe = villager.node._observe
    return villager


def status(villager: Villager) -> dict[str, object]:
    shown = villager.status()["thrift"]
    assert isinstance(shown, dict)
    return shown


@pytest.mark.virtual
async def test_it_trains_only_in_its_hours_and_serves_and_merges_all_day() -> None:
    village = Village()
    config = ThriftConfig(train_hours=("22:00-22:30",))
    around = Surroundings(local_time=begins_at(21.5 * 3600))
    night = sparing(
        village.villager(0, rounds=1000, seconds=600.0), Thrift(config, Clock().now, surroundings=around)
    )
    day = village.villager(1, (0,), rounds=30, interval=60.0)
    async with living(village, night, day):
        await trio.sleep(600)
        assert status(night)["training_waits_for"] == "hours"
        assert night.node.gossip.age > 0  # of what it was sent
        await trio.sleep(2 * 3600)
    begun = [time - 600.0 for time in night.times(Trained)]
    assert begun == pytest.approx([1800.0, 2400.0, 3000.0], abs=5.0)
    assert [event.reason for event in night.events(TrainingHeld)] == ["hours", "hours"]
    assert [event.seconds for event in night.events(TrainingReleased)] == pytest.approx([1800.0], abs=1.0)
    assert len(night.events(Served)) > 20


@pytest.mark.virtual
async def test_it_trains_while_the_load_is_low() -> None:
    village = Village()
    load = [3.5]
    around = Surroundings(load=lambda: load[0])
    busy = sparing(
        village.villager(0, rounds=3), Thrift(ThriftConfig(max_load=2.0), Clock().now, surroundings=around)
    )
    async with living(village, busy):
        await trio.sleep(300)
        assert (busy.node.gossip.round, status(busy)["training_waits_for"]) == (0, "load")
        load[0] = 1.0
        await until_done(busy)
    assert [event.reason for event in busy.events(TrainingHeld)] == ["load"]
    assert trio.current_time() < 340


@pytest.mark.virtual
async def test_exchanges_are_put_off_while_the_bytes_of_the_hour_are_spent() -> None:
    village = Village()
    size = exchange_size(GossipConfig(), 4)
    config = ThriftConfig(bytes_per_hour=5 * size)
    budget = HourlyBudget(config.bytes_per_hour, Clock().now)
    poor = sparing(
        village.villager(0, rounds=200, interval=60.0, settle=0), Thrift(config, Clock().now, size, budget)
    )
    rich = village.villager(1, (0,), rounds=1, settle=0)

    def spend(event: object) -> None:
        if isinstance(event, Exchanged | Served):
            budget.spend(size if event.mode == "push-pull" else 0)

    seen = poor.node._observe
    poor.node._observe = lambda event: (spend(event), seen(event))[1]
    async with living(village, poor, rich):
        poor.node._courier._observe = poor.node._observe  # type: ignore[union-attr]
        await trio.sleep(3 * HOUR)
    asked = [time for time, event in poor.seen if isinstance(event, Exchanged) and event.mode == "push-pull"]
    for end in asked:
        assert sum(end - HOUR < time <= end for time in asked) <= 5
    assert len(asked) >= 12
    assert len(poor.events(Trained)) > 170  # training goes on
    shown = status(poor)
    assert (shown["bytes_per_hour"], shown["exchanges_put_off"]) == (5 * size, poor.node._thrift.put_off)
    assert poor.node._thrift.put_off > 100


@pytest.mark.virtual
async def test_models_of_others_are_refused_while_the_bytes_are_spent_and_nothing_else_is() -> None:
    site, clock = Site(), Clock()
    budget = HourlyBudget(10_000, clock.now)
    budget.exchange = 2000
    app = Gate(app_of(site), OPEN, clock, budget)
    assert (await call(app, "POST", "/v1/exchange", pieces(body(), 99))).status == 204
    budget.spend(9000)
    for method, path in (("POST", "/v1/exchange"), ("GET", "/v1/model"), ("POST", "/tasks/x/v1/exchange")):
        answer = await call(app, method, path, pieces(body(), 99))
        assert answer.status == 429
        assert HOUR - 60 <= int(answer.headers["retry-after"]) <= HOUR + 120
    assert "bytes of the hour" in str(site.rejected[0][0])
    assert (await call(app, "POST", "/v1/membership", pieces(hello_body(), 99))).status == 200
    assert (await call(app, "GET", "/v1/status")).status == 200
    await trio.sleep(HOUR + 120)
    assert (await call(app, "GET", "/v1/model")).status == 200


@pytest.mark.virtual
async def test_a_metered_link_is_used_a_tenth_as_often_and_asked_for_now_and_then() -> None:
    asked: list[float] = []

    async def is_metered() -> bool:
        asked.append(trio.current_time())
        return trio.current_time() < 3600

    village = Village()
    around = Surroundings(is_metered=is_metered)
    node = sparing(
        village.villager(0, rounds=10_000, interval=30.0),
        Thrift(ThriftConfig(metered="auto"), Clock().now, surroundings=around),
    )
    async with living(village, node):
        await trio.sleep(3500)
        slow = len(node.events(Trained))
        assert status(node)["metered"]
        await trio.sleep(3500)
        fast = len(node.events(Trained)) - slow
    assert slow == pytest.approx(3500 / (30 * METERED_INTERVALS), abs=2)
    assert fast > 80
    assert min(b - a for a, b in pairwise(asked)) >= ASK_LINK
    always = Thrift(ThriftConfig(metered="yes"), Clock().now)
    assert (always.fanout(5), always.interval(2.0)) == (1, 20.0)


@pytest.mark.virtual
async def test_who_spares_nothing_is_as_ever() -> None:
    thrift = Thrift(ThriftConfig(), Clock().now, 10**9)
    assert (thrift.closed(), list(thrift.held()), thrift.fanout(3), thrift.wait()) == (None, [], 3, 0.0)
    assert thrift.interval(1.5) == 1.5
    assert not thrift.spares
    assert Village().villager(0).status()["thrift"] is None


def test_a_budget_below_one_exchange_is_an_error() -> None:
    with pytest.raises(ConfigError, match="less than one exchange of this model takes, 416,384; allow more"):
        Thrift(ThriftConfig(bytes_per_hour=100_000), lambda: 0.0, exchange_size(GossipConfig(), 50_000))


def test_half_precision_and_one_way_take_less() -> None:
    both = exchange_size(GossipConfig(), 10**6)
    assert exchange_size(GossipConfig(codec="f16"), 10**6) == pytest.approx(both / 2, rel=0.01)
    assert exchange_size(GossipConfig(gossip="push"), 10**6) == both / 2


def test_a_profile_gives_defaults_and_what_is_given_wins() -> None:
    edge = build(NodeConfig, {"profile": "edge"})
    assert (edge.gossip.codec, edge.threads, edge.thrift.metered) == ("f16", 1, "auto")
    assert (edge.gossip.fanout, edge.gossip.interval) == (1, 30.0)
    own = build(NodeConfig, {"profile": "edge", "codec": "f32", "bytes-per-hour": 0, "interval": 5})
    assert (own.gossip.codec, own.thrift.bytes_per_hour, own.gossip.interval) == ("f32", 0, 5.0)
    assert own.gossip.fanout == 1
    assert build(NodeConfig, {"profile": "none"}) == NodeConfig()
    with pytest.raises(ConfigError, match="profile must be one of none, edge, not 'tiny'"):
        build(NodeConfig, {"profile": "tiny"})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("bytes_per_hour", -1, "bytes-per-hour must be 0"),
        ("max_load", -0.5, "max-load must be 0"),
        ("max_load", float("inf"), "max-load must be 0"),
        ("train_hours", ("night",), "is not HH:MM-HH:MM"),
        ("metered", "perhaps", "metered must be one of auto, yes, no"),
    ],
)
def test_what_cannot_be_is_named(key: str, value: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(NodeConfig, {key: value})

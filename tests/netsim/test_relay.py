"""A connection between two nodes under bad conditions, in virtual time on streams in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair

from netsim import relay
from netsim.config import LinksConfig
from netsim.journal import MessageLost
from netsim.links import LinkRule, ScenarioLinks
from netsim.paths import CREDIT, PIECE, Capacity, Paths, Prelude
from netsim.relay import Relay
from netsim.units import Distribution

pytestmark = pytest.mark.virtual

Stream = trio.StapledStream[trio.abc.SendStream, trio.abc.ReceiveStream]
MB = 1_000_000
REQUEST = b"POST /v1/exchange HTTP/1.1\r\nContent-Length: 7\r\n\r\nrequest"


def paths(
    rules: Sequence[LinkRule] = (),
    uplinks: dict[int, float] | None = None,
    downlinks: dict[int, float] | None = None,
    **links: object,
) -> Paths:
    config = LinksConfig(**{"latency": "0ms", **links})  # type: ignore[arg-type]
    return Paths(ScenarioLinks(config, rules, uplinks or {}, downlinks or {}, np.random.default_rng))


@dataclass
class Line:
    """One connection from node 0 to node 1. orderly: how the relay ended, None while it runs."""

    client: Stream
    server: Stream
    lost: list[MessageLost] = field(default_factory=list)
    orderly: bool | None = None
    ended: trio.Event = field(default_factory=trio.Event)


@asynccontextmanager
async def connected(*between: tuple[Paths, int, int]) -> AsyncIterator[list[Line]]:
    async with trio.open_nursery() as nursery:
        lines = []

        async def run(line: Line, relay: Relay) -> None:
            line.orderly = await relay.run()
            line.ended.set()

        for network, caller, callee in between:
            client, front = memory_stream_pair()
            back, server = memory_stream_pair()
            line = Line(client, server)
            there, home = network.between(caller, callee), network.between(callee, caller)
            nursery.start_soon(run, line, Relay(front, back, there, home, line.lost.append))
            lines.append(line)
        yield lines
        nursery.cancel_scope.cancel()


async def arrival(stream: Stream, size: int) -> float:
    """When so many bytes have arrived."""
    while size > 0:
        data = await stream.receive_some()
        assert data, "the connection ended"
        size -= len(data)
    return trio.current_time()


async def test_bytes_arrive_unchanged_and_in_order_both_ways() -> None:
    sent = np.random.default_rng(0).bytes(3 * MB)
    async with connected((paths(latency="10ms", jitter="30ms"), 0, 1)) as (line,):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.client.send_all, sent)
            received = b""
            while len(received) < len(sent):
                received += await line.server.receive_some()
        assert received == sent
        await line.server.send_all(sent[:1000])
        answered = b""
        while len(answered) < 1000:
            answered += await line.client.receive_some()
        assert answered == sent[:1000]


async def test_each_message_takes_the_latency_of_its_direction() -> None:
    slow_back = LinkRule((1,), (0,), latency=Distribution("constant", 0.5))
    async with connected((paths([slow_back], latency="100ms"), 0, 1)) as (line,):
        await line.client.send_all(REQUEST)
        assert await arrival(line.server, len(REQUEST)) == pytest.approx(0.1)
        await line.server.send_all(b"yes")
        assert await arrival(line.client, 3) == pytest.approx(0.6)
        await line.client.send_all(REQUEST)
        assert await arrival(line.server, len(REQUEST)) == pytest.approx(0.7)


async def test_nothing_is_late_or_lost_before_the_run_begins() -> None:
    links = Prelude(ScenarioLinks(LinksConfig(latency="1s", loss=0.999), (), {}, {}, np.random.default_rng))
    path = Paths(links).between(0, 1)
    assert [path.delay(is_request=True) for _ in range(100)] == [0.0] * 100
    assert links.latency(0, 1) == 0.0
    links.begin()
    assert [path.delay(is_request=True) for _ in range(100)].count(None) > 90
    assert links.latency(0, 1) == 1.0


async def test_latency_costs_no_throughput_up_to_what_the_line_holds() -> None:
    async with connected((paths(latency="1s"), 0, 1)) as (line,), trio.open_nursery() as nursery:
        nursery.start_soon(line.client.send_all, bytes(2 * relay.HELD))
        assert await arrival(line.server, relay.HELD) == pytest.approx(1.0)
        assert await arrival(line.server, relay.HELD) == pytest.approx(2.0)


async def test_the_end_of_each_direction_is_passed_on_after_what_was_sent() -> None:
    async with connected((paths(latency="100ms"), 0, 1)) as (line,):
        await line.client.send_all(REQUEST)
        await line.client.send_eof()
        assert await arrival(line.server, len(REQUEST)) == pytest.approx(0.1)
        assert await line.server.receive_some() == b""
        await line.server.send_all(b"yes")
        await line.server.send_eof()
        assert await arrival(line.client, 3) == pytest.approx(0.2)
        assert await line.client.receive_some() == b""
        await line.ended.wait()
        assert line.orderly


async def test_a_connection_that_breaks_at_one_end_breaks_at_the_other() -> None:
    async with connected((paths(), 0, 1)) as (line,):
        await line.client.send_all(REQUEST)
        await arrival(line.server, len(REQUEST))
        await line.client.aclose()  # and an answer finds nobody
        await line.server.send_all(b"yes")
        await line.ended.wait()
        assert line.orderly is False


# -- capacity


async def transfer(line: Line, times: list[float], size: int = MB) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.client.send_all, bytes(size))
        times.append(await arrival(line.server, size))


async def together(*between: tuple[Paths, int, int]) -> list[float]:
    """When 1 MB on each connection, started at once, has arrived."""
    times: list[list[float]] = [[] for _ in between]
    async with connected(*between) as lines, trio.open_nursery() as nursery:
        for line, own in zip(lines, times, strict=True):
            nursery.start_soon(transfer, line, own)
    return [own[0] for own in times]


async def test_a_megabyte_over_a_megabit_takes_eight_seconds() -> None:
    assert await together((paths(bandwidth="1Mbit/s"), 0, 1)) == [pytest.approx(8.0, abs=2 * CREDIT)]


async def test_two_between_the_same_nodes_share_the_bandwidth() -> None:
    network = paths(bandwidth="1Mbit/s")
    both = await together((network, 0, 1), (network, 0, 1))
    assert both == [pytest.approx(16.0, abs=0.1)] * 2


async def test_other_pairs_have_a_bandwidth_of_their_own() -> None:
    network = paths(bandwidth="1Mbit/s")
    assert await together((network, 0, 1), (network, 0, 2)) == [pytest.approx(8.0, abs=0.1)] * 2


async def test_all_that_a_node_sends_shares_its_uplink() -> None:
    network = paths(uplink="1Mbit/s")
    times = await together((network, 0, 1), (network, 0, 2), (network, 3, 4))
    assert times == [pytest.approx(t, abs=0.1) for t in (16.0, 16.0, 8.0)]


async def test_all_that_a_node_receives_shares_its_downlink() -> None:
    network = paths(downlinks={1: 125_000.0})
    times = await together((network, 0, 1), (network, 2, 1), (network, 3, 4))
    assert times == [pytest.approx(t, abs=0.1) for t in (16.0, 16.0, 0.0)]


async def test_the_narrowest_of_several_counts_once() -> None:
    network = paths(uplink="2Mbit/s", bandwidth="1Mbit/s", downlink="4Mbit/s", latency="1s")
    assert await together((network, 0, 1)) == [pytest.approx(9.0, abs=2 * CREDIT)]


async def test_a_slow_pair_leaves_the_rest_of_the_uplink_to_others() -> None:
    slow = LinkRule((0,), (1,), bandwidth=25_000.0)
    network = paths([slow], uplink="1Mbit/s")
    assert await together((network, 0, 1), (network, 0, 2)) == [
        pytest.approx(40.0, rel=0.05),
        pytest.approx(10.0, rel=0.05),
    ]


async def test_the_two_directions_do_not_share() -> None:
    async with connected((paths(bandwidth="1Mbit/s"), 0, 1)) as (line,):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.client.send_all, bytes(MB))
            nursery.start_soon(line.server.send_all, bytes(MB))
            nursery.start_soon(arrival, line.client, MB)
            nursery.start_soon(arrival, line.server, MB)
        assert trio.current_time() == pytest.approx(8.0, abs=0.1)


def test_a_late_wake_up_costs_no_capacity_and_idleness_earns_none() -> None:
    capacity = Capacity(1000.0)
    assert capacity.passed(100, 10.0) == pytest.approx(10.1 - CREDIT)
    assert capacity.passed(100, 10.1) == pytest.approx(10.2 - CREDIT)  # woken CREDIT too late
    assert capacity.passed(100, 20.0) == pytest.approx(20.1 - CREDIT)


# -- loss


@pytest.mark.parametrize("gives_up", [False, True])
async def test_a_lost_request_stalls_then_breaks(gives_up: bool) -> None:
    network = paths([LinkRule((0,), (1,), loss=1.0)])
    async with connected((network, 0, 1)) as (line,):
        await line.client.send_all(REQUEST)
        if gives_up:
            await trio.sleep(2.0)
            await line.client.aclose()
        await line.ended.wait()
        assert trio.current_time() == pytest.approx(2.0 if gives_up else relay.STALLED)
        assert line.orderly is False
        assert line.lost == [MessageLost(0, 1, "request", 7, "loss")]
        with trio.move_on_after(1.0) as scope:
            await line.server.receive_some()
        assert scope.cancelled_caught  # not a byte of it


async def test_of_a_lost_response_the_request_arrives() -> None:
    network = paths([LinkRule((1,), (0,), loss=1.0)])
    async with connected((network, 0, 1)) as (line,):
        await line.client.send_all(REQUEST)
        await arrival(line.server, len(REQUEST))
        await line.server.send_all(b"HTTP/1.1 200 \r\ncontent-length: 100000\r\n\r\n" + bytes(100_000))
        await line.ended.wait()
        assert trio.current_time() == pytest.approx(relay.STALLED)
        assert line.lost == [MessageLost(1, 0, "response", 100_000, "loss")]


async def test_messages_are_lost_as_often_as_asked() -> None:
    """Half of the exchanges get through with 0.3 each way; a body is one message however often it pauses."""
    network = paths(loss=0.3)
    answered = 0
    for _ in range(300):
        async with connected((network, 0, 1)) as (line,):
            await line.client.send_all(REQUEST)
            with trio.move_on_after(1.0):
                await arrival(line.server, len(REQUEST))
                await line.client.send_all(b"more")
                await arrival(line.server, 4)
                await line.server.send_all(b"yes")
                answered += await arrival(line.client, 3) > 0
            assert len(line.lost) <= 1
    assert answered == pytest.approx(300 * 0.49, abs=25)


# -- cuts


async def test_a_cut_holds_back_what_is_on_its_way_until_it_heals() -> None:
    network = paths(latency="100ms")
    async with connected((network, 0, 1), (network, 0, 2)) as (across, within):
        await across.client.send_all(REQUEST)
        await within.client.send_all(REQUEST)
        network.cuts.cut(1, [(0, 2), (1,)])
        assert await arrival(within.server, len(REQUEST)) == pytest.approx(0.1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(arrival, across.server, len(REQUEST))
            await trio.sleep(10.0)
            network.cuts.heal(1)
        assert trio.current_time() == pytest.approx(10.1)


async def test_cuts_overlap_and_all_heal_at_once() -> None:
    cuts = paths().cuts
    cuts.cut(1, [(0, 1), (2, 3)])
    cuts.cut(2, [(0,)])  # the others are one more part
    assert [cuts.part(0, 1), cuts.part(0, 2), cuts.part(1, 2), cuts.part(2, 3)] == [True, True, True, False]
    assert not cuts.part(4, 5)
    cuts.heal(1)
    assert [cuts.part(0, 1), cuts.part(1, 2)] == [True, False]
    cuts.heal(0)
    assert not cuts.part(0, 1)


async def test_what_a_cut_holds_back_is_bounded() -> None:
    network = paths()
    network.cuts.cut(1, [(0,), (1,)])
    client, front = lockstep_stream_pair()
    back, server = memory_stream_pair()
    carried = Relay(front, back, network.between(0, 1), network.between(1, 0), lambda event: None)
    taken = 0

    async def send() -> None:
        nonlocal taken
        for _ in range(1000):
            await client.send_all(bytes(10_000))  # returns when the relay has it
            taken += 10_000

    async with trio.open_nursery() as nursery:
        nursery.start_soon(carried.run)
        nursery.start_soon(send)
        await trio.sleep(60.0)
        assert 0 < taken <= relay.HELD + 2 * PIECE
        network.cuts.heal(1)
        assert await arrival(server, 10 * MB) == pytest.approx(60.0)
        nursery.cancel_scope.cancel()

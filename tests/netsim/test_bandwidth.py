"""Limited rates of the simulated network: a message takes its bytes' time, and messages share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import trio

from netsim.config import LinksConfig
from netsim.links import ScenarioLinks
from netsim.network import SimulatedNetwork
from tests.netsim.test_network import Site, client

pytestmark = pytest.mark.virtual

MB = bytes(1_000_000)


async def arrivals(calls: Sequence[tuple[int, int, float]], **links: Any) -> list[float]:
    """When the megabyte of each call (sender, receiver, begins) has arrived, in the order of the calls."""
    config = LinksConfig(**{"latency": "0ms", **links})
    network = SimulatedNetwork(ScenarioLinks(config, (), {}, {}, np.random.default_rng))
    ended = [0.0] * len(calls)

    async def call(number: int, sender: int, receiver: int, begins: float) -> None:
        await trio.sleep(begins)
        async with client(network, sender) as http:
            await http.post(network.host(receiver).url, content=MB)
        ended[number] = trio.current_time()

    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        for index in sorted({receiver for _, receiver, _ in calls}):
            await nursery.start(network.host(index).serve, Site())
        async with trio.open_nursery() as callers:
            for number, (sender, receiver, begins) in enumerate(calls):
                callers.start_soon(call, number, sender, receiver, begins)
        nursery.cancel_scope.cancel()
    assert network.account().balances
    return ended


@pytest.mark.parametrize(
    ("calls", "links", "expected"),
    [
        ([(0, 1, 0)], {"bandwidth": "1Mbit/s"}, [8]),
        ([(0, 1, 0), (0, 1, 0)], {"bandwidth": "1Mbit/s"}, [16, 16]),
        ([(0, 1, 0), (0, 1, 4)], {"bandwidth": "1Mbit/s"}, [12, 16]),  # half alone, half at half the rate
        ([(0, 1, 0), (0, 2, 0)], {"bandwidth": "1Mbit/s"}, [8, 8]),  # a pair's rate is its own
        ([(0, 1, 0), (0, 2, 0), (3, 4, 0)], {"uplink": "1Mbit/s"}, [16, 16, 8]),
        ([(0, 1, 0), (2, 1, 0), (3, 4, 0)], {"downlink": "1Mbit/s"}, [16, 16, 8]),
        ([(0, 1, 0)], {"bandwidth": "4Mbit/s", "uplink": "2Mbit/s"}, [4]),  # the narrowest counts
    ],
)
async def test_messages_take_their_time_and_share(calls: Any, links: Any, expected: list[float]) -> None:
    assert await arrivals(calls, **links) == pytest.approx(expected, abs=0.01)


async def test_latency_comes_on_top() -> None:
    assert await arrivals([(0, 1, 0)], bandwidth="1Mbit/s", latency="500ms") == pytest.approx([9.0], abs=0.01)

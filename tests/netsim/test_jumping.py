"""The simulator's clock, and the simulated network on it: nothing differs from trio's own mock clock."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import httpx
import pytest
import trio

from netsim.determinism import run_deterministically
from netsim.journal import MessageLost
from netsim.jumping import JumpingClock
from netsim.network import SimulatedNetwork, UniformLinks
from tests.netsim import test_network

ON_EITHER_CLOCK = [
    test_network.test_request_and_response_take_one_latency_each,
    test_network.test_without_latency_no_virtual_time_passes,
    test_network.test_chunks_arrive_as_they_were_given_without_a_copy,
    test_network.test_a_node_can_call_itself,
    test_network.test_a_callers_deadline_does_not_end_the_handler,
    test_network.test_a_request_is_delivered_though_its_caller_has_given_up,
    test_network.test_a_crash_resets_the_callers_connection_and_then_refuses,
    test_network.test_a_response_on_its_way_survives_the_crash_of_its_sender,
    test_network.test_an_application_that_never_answers_resets_too,
    test_network.test_the_end_of_the_connection_is_seen_once_the_answer_is_out,
    test_network.test_one_address_has_one_listener,
    test_network.test_a_quicker_message_overtakes,
]


@pytest.mark.parametrize("test", ON_EITHER_CLOCK, ids=lambda test: test.__name__.removeprefix("test_"))
def test_the_network_keeps_its_promises(test: Callable[[], Awaitable[None]]) -> None:
    run_deterministically(test, clock=JumpingClock())


def test_it_stands_still_while_a_task_can_run_and_lands_on_deadlines() -> None:
    times: list[tuple[str, float]] = []

    async def sleeper(name: str, wakes: float) -> None:
        await trio.sleep_until(wakes)
        times.append((name, trio.current_time()))
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        times.append((name, trio.current_time()))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleeper, "late", 1e6 + 0.1)
            nursery.start_soon(sleeper, "early", 0.1)
            nursery.start_soon(sleeper, "past", -1.0)

    run_deterministically(main, clock=JumpingClock())
    woken = ("past", 0.0), ("early", 0.1), ("late", 1e6 + 0.1)
    assert times == [entry for entry in woken for _ in "ab"]


def test_the_alarm_is_called_at_its_time_before_the_deadlines_of_that_instant() -> None:
    calls: list[object] = []
    clock = JumpingClock()

    def ring(now: float) -> None:
        calls.append(now)
        assert clock.alarm_time == math.inf
        clock.alarm_time = 2.0 if now < 2 else math.inf

    async def main() -> None:
        clock.on_alarm = ring
        clock.alarm_time = 1.0
        for _ in range(3):
            await trio.sleep(1.0)
            calls.append("woken")

    run_deterministically(main, clock=clock)
    assert calls == [1.0, "woken", 2.0, "woken", "woken"]


def test_what_fails_in_delivering_ends_the_simulation_as_itself() -> None:
    """A full disk, say, when a lost message is written to the journal."""

    class Full(Exception):
        pass

    def lost(event: MessageLost) -> None:
        raise Full(event.cause)

    async def main() -> None:
        network = SimulatedNetwork(UniformLinks(), lost)
        async with trio.open_nursery() as nursery:
            await nursery.start(network.run)
            await nursery.start(network.host(1).serve, test_network.SilentSite())
            request = httpx.Request("GET", network.host(1).url, stream=test_network.NoBody())
            nursery.start_soon(network.host(0).transport().handle_async_request, request)
            await trio.sleep(0.01)
            network.cut(1, [[0]])

    with pytest.raises(ExceptionGroup) as caught:
        run_deterministically(main, clock=JumpingClock())
    assert caught.group_contains(Full, match="cut")


def test_whoever_still_calls_when_the_simulation_has_ended_is_not_answered() -> None:
    """Nodes that are cancelled with the network may have a last word, which nobody hears."""
    unanswered: list[bool] = []

    async def main() -> None:
        network = SimulatedNetwork(UniformLinks())
        async with trio.open_nursery() as nursery:
            await nursery.start(network.run)
            await nursery.start(network.host(1).serve, test_network.SilentSite())
            nursery.cancel_scope.cancel()
        request = httpx.Request("GET", network.host(1).url, stream=test_network.NoBody())
        with trio.move_on_after(1) as scope:
            await network.host(0).transport().handle_async_request(request)
        unanswered.append(scope.cancelled_caught)

    run_deterministically(main, clock=JumpingClock())
    assert unanswered == [True]

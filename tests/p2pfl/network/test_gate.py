"""What a gate refuses for want of budget, in virtual time, and what it always lets through."""

from __future__ import annotations

import pytest
import trio

from p2pfl.clock import Clock
from p2pfl.config import SecurityConfig
from p2pfl.errors import TooManyRequests
from p2pfl.network import gate
from p2pfl.network.gate import Gate
from p2pfl.network.security import OPEN, Security
from tests.p2pfl.network.certified import TOKEN
from tests.p2pfl.network.sites import Answer, Site, app_of, body, call, hello_body, pieces
from tests.p2pfl.network.test_app import problem

FEW = Security(max_requests=5.0)  # 20 at once


def gated(site: Site, security: Security) -> Gate:
    return Gate(app_of(site), security, Clock())


async def ask(app: Gate, client: str = "192.0.2.1", count: int = 1) -> list[Answer]:
    """Hellos, one after another."""
    return [
        await call(app, "POST", "/v1/membership", pieces(hello_body(), 99), client=client)
        for _ in range(count)
    ]


@pytest.mark.virtual
async def test_one_address_asks_no_more_than_its_budget_and_others_are_not_hit() -> None:
    site = Site()
    app = gated(site, FEW)
    assert [answer.status for answer in await ask(app, count=20)] == [200] * 20
    [refused] = await ask(app)
    assert (refused.status, problem(refused), refused.headers["retry-after"]) == (
        429,
        "too-many-requests",
        "1",
    )
    [(error, source, _)] = site.rejected
    assert isinstance(error, TooManyRequests)
    assert (source, "try again in" in str(error)) == ("192.0.2.1", True)
    assert [answer.status for answer in await ask(app, "192.0.2.2", 20)] == [200] * 20
    await trio.sleep(error.retry_after)
    assert [answer.status for answer in await ask(app)] == [200]


@pytest.mark.virtual
async def test_retry_after_is_the_time_that_is_left_in_whole_seconds() -> None:
    app = gated(Site(), Security(max_requests=0.25))  # 8 at once in any case
    answers = await ask(app, count=9)
    assert [answer.status for answer in answers] == [200] * 8 + [429]
    assert answers[-1].headers["retry-after"] == "4"
    await trio.sleep(4.0)
    assert [answer.status for answer in await ask(app)] == [200]


@pytest.mark.virtual
async def test_pages_answer_while_exchanges_are_refused() -> None:
    app = gated(Site(), FEW)
    await ask(app, count=30)
    for path in ("/healthz", "/readyz", "/v1/status", "/v1/peers", "/"):
        assert (await call(app, "GET", path)).status == 200


@pytest.mark.virtual
async def test_pages_have_a_budget_of_their_own() -> None:
    app = gated(Site(), FEW)
    statuses = [(await call(app, "GET", "/v1/status")).status for _ in range(21)]
    assert statuses == [200] * 20 + [429]
    assert [answer.status for answer in await ask(app)] == [200]


@pytest.mark.virtual
async def test_refusing_costs_an_attacker_more_than_the_node() -> None:
    """A flood on one connection is slowed down to the pace at which refusals are answered."""
    app = gated(Site(), Security(max_requests=1.0))
    await ask(app, count=8)
    start = trio.current_time()
    await ask(app)
    assert trio.current_time() - start == pytest.approx(gate.PATIENCE)


@pytest.mark.virtual
@pytest.mark.parametrize("way", ["in", "out"])
async def test_bytes_are_counted_both_ways(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(body())
    monkeypatch.setattr(gate, "BURST_BYTES", 2.5 * size)
    app = gated(Site(), Security(max_bytes=size / 10))

    async def exchange(client: str) -> int:
        if way == "out":
            return (await call(app, "GET", "/v1/model", client=client)).status
        return (await call(app, "POST", "/v1/exchange", pieces(body(), 50), client=client)).status

    statuses = [await exchange("192.0.2.1") for _ in range(4)]
    assert [status < 300 for status in statuses] == [True, True, True, False]
    assert statuses[-1] == 429
    assert await exchange("192.0.2.2") < 300
    await trio.sleep(10)
    assert await exchange("192.0.2.1") < 300


@pytest.mark.virtual
async def test_guesses_at_the_token_are_limited() -> None:
    app = gated(Site(), Security(token=TOKEN, max_requests=5.0))
    assert [answer.status for answer in await ask(app, count=21)] == [401] * 20 + [429]
    right = [("authorization", TOKEN.header), ("content-type", "application/msgpack")]
    hello = pieces(hello_body(), 99)
    assert (await call(app, "POST", "/v1/membership", hello, right, "192.0.2.2")).status == 200


async def test_without_limits_nothing_is_remembered() -> None:
    app = gated(Site(), OPEN)
    for number in range(50):
        await ask(app, f"192.0.2.{number}")
    assert len(app._exchanges) == len(app._bytes) == 0


def test_defaults_do_not_hit_honest_nodes() -> None:
    """Twenty nodes behind one address, each with the default fan-out, a round every tenth of a second."""
    config = SecurityConfig()
    assert config.max_requests >= 20 * 2 / 0.1
    assert config.max_requests * gate.BURST_SECONDS >= 20 * 100  # and all of them may be late together
    assert config.max_megabytes * 1e6 >= 20 * 2 * 46.8e6 / 10  # a ResNet-18 takes longer than 10 s a round
    assert gate.BURST_BYTES >= 20 * 2 * 46.8e6

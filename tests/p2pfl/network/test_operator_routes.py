"""The operator's routes: who is let in, what is refused, and that a refused request changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
import trio

from p2pfl.clock import Clock
from p2pfl.errors import BadSetting
from p2pfl.network.app import ASGIApp
from p2pfl.network.gate import Gate
from p2pfl.network.operator_routes import LARGEST, SECONDS
from p2pfl.network.security import Security
from p2pfl.network.tokens import Token
from tests.p2pfl.network.certified import TOKEN
from tests.p2pfl.network.sites import Answer, Site, app_of, call, hello_body, pieces
from tests.p2pfl.network.test_app import problem

OPERATORS = Token("0123456789abcdefghij-operator")
JSON = ("content-type", "application/json")
SHOWN = ("p2pfl-control", OPERATORS.text)
HOST = ("host", "192.0.2.2:8470")


class Operated:
    """What a test's node takes: everything but a field called `wrong`."""

    token = OPERATORS

    def __init__(self) -> None:
        self.values: dict[str, object] = {"paused": False}
        self.stopped = 0

    def as_dict(self) -> dict[str, object]:
        return dict(self.values)

    async def change(self, values: Mapping[str, object]) -> None:
        if "wrong" in values:
            raise BadSetting("wrong is wrong", "wrong")
        self.values |= values

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def operated() -> Operated:
    return Operated()


@pytest.fixture
def site(operated: Operated) -> Site:
    return Site(operated=operated)


async def ask(
    app: ASGIApp,
    method: str = "POST",
    path: str = "/v1/controls",
    body: object = None,
    headers: Iterable[tuple[str, str]] = (SHOWN, JSON, HOST),
    **more: Any,
) -> Answer:
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return await call(app, method, path, [{"type": "http.request", "body": data}], headers, **more)


async def test_who_shows_the_token_sees_and_sets_and_stops(site: Site, operated: Operated) -> None:
    app = app_of(site)
    seen = await ask(app, "GET", headers=[SHOWN])
    assert (seen.status, json.loads(seen.body), seen.headers["cache-control"]) == (
        200,
        {"paused": False},
        "no-store",
    )
    done = await ask(app, body={"paused": True, "lr": 0.5})
    assert (done.status, json.loads(done.body)) == (200, {"paused": True, "lr": 0.5})
    head = await ask(app, "HEAD", headers=[SHOWN])
    assert (head.status, head.body, int(head.headers["content-length"]) > 0) == (200, b"", True)
    assert operated.stopped == 0
    stop = await ask(app, path="/v1/stop", body={})
    assert (stop.status, json.loads(stop.body), operated.stopped) == (202, {"stopping": True}, 1)
    assert (await ask(app, path="/v1/stop")).status == 202  # nothing is {}
    assert site.rejected == []


WRONG: dict[str, Callable[[], list[tuple[str, str]]]] = {
    "none": list,
    "empty": lambda: [("p2pfl-control", "")],
    "another": lambda: [("p2pfl-control", OPERATORS.text[:-1] + "x")],
    "shorter": lambda: [("p2pfl-control", OPERATORS.text[:-1])],
    "longer": lambda: [("p2pfl-control", OPERATORS.text + "x")],
    "bearer": lambda: [("p2pfl-control", f"Bearer {OPERATORS.text}")],
    "the network's": lambda: [("p2pfl-control", TOKEN.header.split()[1])],
    "as the network's": lambda: [("authorization", f"Bearer {OPERATORS.text}")],
    "in a cookie": lambda: [("cookie", f"p2pfl-control={OPERATORS.text}")],
    "second": lambda: [("p2pfl-control", "x"), SHOWN],
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/controls"), ("POST", "/v1/controls"), ("POST", "/v1/stop")]
)
async def test_without_the_operators_token_nothing_is_shown_set_or_stopped(
    site: Site, operated: Operated, wrong: str, method: str, path: str
) -> None:
    refused = await ask(app_of(site), method, path, {"paused": True}, [*WRONG[wrong](), JSON, HOST])
    assert (refused.status, problem(refused), site.reasons) == (403, "not-operator", ["not-operator"])
    assert (operated.values, operated.stopped) == ({"paused": False}, 0)
    assert OPERATORS.text not in refused.body.decode() + str(site.rejected)


async def test_a_body_without_the_operators_token_is_not_read(site: Site) -> None:
    app = app_of(site)
    with trio.fail_after(10):  # nothing of the body ever comes
        refused = await call(app, "POST", "/v1/controls", [], [JSON])
    assert (refused.status, refused.headers["connection"]) == (403, "close")


@pytest.mark.parametrize("headers", [[SHOWN, JSON], [("p2pfl-control", ""), JSON]])
async def test_a_node_without_operators_token_takes_no_controls(headers: list[tuple[str, str]]) -> None:
    site = Site()
    app = app_of(site)
    for method, path in (("GET", "/v1/controls"), ("POST", "/v1/controls"), ("POST", "/v1/stop")):
        refused = await ask(app, method, path, {}, headers)
        assert (refused.status, problem(refused)) == (403, "not-operator")
    assert len(site.rejected) == 3


@pytest.mark.parametrize(
    "foreign",
    [
        ("origin", "https://evil.test"),
        ("origin", "http://192.0.2.2:8471"),
        ("origin", "http://192.0.2.2"),
        ("origin", "null"),
        ("origin", ""),
        ("origin", "http://[::1"),
        ("origin", "http://192.0.2.2:8470@evil.test"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_another_sites_page_controls_nothing(
    site: Site, operated: Operated, foreign: tuple[str, str], method: str
) -> None:
    refused = await ask(app_of(site), method, body={"paused": True}, headers=[SHOWN, JSON, HOST, foreign])
    assert (refused.status, problem(refused), operated.values["paused"]) == (403, "foreign-origin", False)


async def test_an_origin_without_host_is_foreign(site: Site) -> None:
    refused = await ask(app_of(site), headers=[SHOWN, JSON, ("origin", "http://")])
    assert problem(refused) == "foreign-origin"


@pytest.mark.parametrize(
    "own",
    [
        [("origin", "http://192.0.2.2:8470"), ("sec-fetch-site", "same-origin")],
        [("origin", "https://192.0.2.2:8470")],  # behind a proxy that speaks TLS
        [("sec-fetch-site", "none")],
    ],
)
async def test_the_nodes_own_page_controls(
    site: Site, operated: Operated, own: list[tuple[str, str]]
) -> None:
    answer = await ask(app_of(site), body={"paused": True}, headers=[SHOWN, JSON, HOST, *own])
    assert (answer.status, operated.values["paused"]) == (200, True)


@pytest.mark.parametrize(
    "media", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
async def test_what_a_form_can_send_is_refused(site: Site, operated: Operated, media: str) -> None:
    app = app_of(site)
    for path in ("/v1/controls", "/v1/stop"):
        refused = await ask(app, path=path, body={"paused": True}, headers=[SHOWN, ("content-type", media)])
        assert (refused.status, problem(refused)) == (415, "unknown-codec")
    assert (operated.values["paused"], operated.stopped) == (False, 0)


async def test_no_other_site_may_read_what_is_set(site: Site) -> None:
    """A browser asks first, by OPTIONS, and is told of nothing that it may do."""
    preflight = [("origin", "https://evil.test"), ("access-control-request-headers", "p2pfl-control")]
    for answer in (
        await ask(app_of(site), "OPTIONS", headers=preflight),
        await ask(app_of(site), "GET", headers=[SHOWN]),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert (await ask(app_of(site), "OPTIONS", headers=preflight)).status == 405


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "malformed"),
        (b"\xff\xfe", 400, "malformed"),
        (b"[1]", 400, "malformed"),
        (b"null", 400, "malformed"),
        (b'{"lr": NaN}', 400, "malformed"),
        (b'{"lr": Infinity}', 400, "malformed"),
        (b"[" * 4000, 400, "malformed"),
        (b'{"lr": ' + b"9" * 4000, 400, "malformed"),
        (b'{"paused": true, "paused": false}', 400, "duplicate-key"),
        (b'{"lr": 1' + b" " * LARGEST + b"}", 413, "too-large"),
    ],
)
async def test_a_bad_request_is_refused_for_its_reason(
    site: Site, operated: Operated, body: bytes, status: int, reason: str
) -> None:
    refused = await ask(app_of(site), body=body)
    assert (refused.status, problem(refused), site.reasons) == (status, reason, [reason])
    assert operated.values == {"paused": False}


async def test_a_setting_that_is_refused_is_named(site: Site) -> None:
    refused = json.loads((await ask(app_of(site), body={"wrong": 1})).body)
    assert (refused["field"], refused["detail"], refused["type"]) == (
        "wrong",
        "wrong is wrong",
        "urn:p2pfl:bad-setting",
    )
    stopping = json.loads((await ask(app_of(site), path="/v1/stop", body={"now\n": 1})).body)
    assert (stopping["status"], stopping["field"]) == (422, "now")


@pytest.mark.virtual
async def test_a_slow_request_for_the_controls_is_given_up(site: Site) -> None:
    refused = await call(app_of(site), "POST", "/v1/controls", [], [SHOWN, JSON])
    assert (refused.status, trio.current_time()) == (408, SECONDS)


# -- behind the gate of a real node


def gated(site: Site, **security: Any) -> Gate:
    return Gate(app_of(site), Security(operator=OPERATORS, **security), Clock())


async def test_the_operators_token_is_enough_where_the_network_has_one(site: Site) -> None:
    app = gated(site, token=TOKEN)
    assert (await ask(app, body={"paused": True})).status == 200
    assert (await ask(app, path="/v1/stop", body={})).status == 202
    assert (await ask(app, "GET", "/v1/status", headers=[SHOWN])).status == 200
    # and it opens nothing else
    for method, path in (("GET", "/v1/model"), ("POST", "/v1/membership"), ("DELETE", "/v1/controls")):
        assert (await ask(app, method, path, headers=[SHOWN])).status == 401


async def test_a_member_of_the_network_is_not_the_operator(site: Site, operated: Operated) -> None:
    app = gated(site, token=TOKEN)
    for headers in ([("authorization", TOKEN.header)], [("authorization", TOKEN.header), (*SHOWN[:1], "x")]):
        refused = await ask(app, path="/v1/stop", body={}, headers=[*headers, JSON])
        assert (refused.status, problem(refused)) == (403, "not-operator")
    assert operated.stopped == 0


async def test_an_operator_without_certificate_is_refused_where_there_is_tls(site: Site) -> None:
    tls: Any = object()
    refused = await ask(gated(site, tls=tls, public_status=True), body={})
    assert (refused.status, problem(refused)) == (403, "no-certificate")


@pytest.mark.virtual
async def test_guesses_at_the_operators_token_are_limited(site: Site) -> None:
    app = gated(site, max_requests=5.0)
    guess = [("p2pfl-control", "x"), JSON]
    statuses = [(await ask(app, body={}, headers=guess)).status for _ in range(21)]
    assert statuses == [403] * 20 + [429]


@pytest.mark.virtual
async def test_a_flood_does_not_keep_the_operator_from_stopping_the_node(
    site: Site, operated: Operated
) -> None:
    app = gated(site, max_requests=5.0)
    while (await call(app, "POST", "/v1/membership", pieces(hello_body(), 99))).status != 429:
        pass
    assert (await ask(app, path="/v1/stop", body={})).status == 202
    assert operated.stopped == 1

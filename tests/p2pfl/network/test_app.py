"""The application by itself: what it answers, what it refuses, what it counts. No sockets."""

from __future__ import annotations

import json
import logging
import tracemalloc
from functools import partial

import numpy as np
import pytest
import trio
import trio.testing
from starlette.types import Message, Scope

from p2pfl import errors
from p2pfl.errors import BadField
from p2pfl.gossip.codec import MAX_HELLO, ModelDecoder, decode_hello
from p2pfl.gossip.messages import Model
from p2pfl.network.app import REFUSED
from tests.p2pfl.gossip import hostile_frames
from tests.p2pfl.network.sites import (
    BIG,
    DISCONNECT,
    LAYOUT,
    OTHER_TASK,
    TASK,
    Answer,
    Site,
    app_of,
    body,
    call,
    frame,
    hello_body,
    pieces,
    weights_of,
)

MSGPACK = ("content-type", "application/msgpack")
ROUTES = ["/v1/model", "/v1/layout", "/v1/status", "/v1/peers", "/v1/history", "/healthz", "/readyz", "/"]


def problem(answer: Answer) -> str:
    """The reason of a problem document, having checked its form."""
    document = json.loads(answer.body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.complete
    assert set(document) == {"type", "title", "status", "detail"}
    assert document["status"] == answer.status
    assert "\n" not in document["detail"]
    return str(document["type"]).removeprefix("urn:p2pfl:")


async def still_works(site: Site) -> None:
    count = len(site.models)
    assert (await call(app_of(site), "POST", "/v1/exchange", pieces(body("cy"), 1000))).status == 204
    assert len(site.models) == count + 1


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_pushed_model_reaches_the_service_whatever_its_pieces(size: int) -> None:
    site = Site()
    answer = await call(app_of(site), "POST", "/v1/exchange", pieces(body(), size))
    assert (answer.status, answer.body) == (204, b"")
    [(model, source, total)] = site.models
    assert (model.head.sender.id, source, total) == ("ann", "192.0.2.1", len(body()))
    np.testing.assert_array_equal(model.weights, weights_of(LAYOUT, 0))


async def test_reply_is_a_frame_of_announced_length() -> None:
    answer = await call(app_of(Site()), "POST", "/v1/exchange", pieces(body(reply=True), 100))
    assert answer.headers == {"content-type": "application/msgpack", "content-length": str(len(answer.body))}
    assert answer.body == b"".join(Site().frame())


async def test_weights_of_a_big_reply_are_not_joined_to_its_head() -> None:
    site = Site(layout=BIG)
    answer = await call(app_of(site), "POST", "/v1/exchange", pieces(body(reply=True, layout=BIG), 1 << 16))
    assert answer.chunks == list(site.frame())


async def test_pulled_body_is_taken_by_another_node() -> None:
    site, other = Site(), Site()
    pulled = await call(app_of(site), "GET", "/v1/model")
    pushed = await call(app_of(other), "POST", "/v1/exchange", pieces(pulled.body, 100))
    assert (pulled.status, pulled.headers["etag"], pushed.status) == (200, '"1"', 204)
    assert site.pulls == [("192.0.2.1", len(pulled.body))]


@pytest.mark.parametrize("given", ['"1"', 'W/"1"', '"0", "1"', "*"])
async def test_known_snapshot_is_not_sent_again(given: str) -> None:
    site = Site()
    answer = await call(app_of(site), "GET", "/v1/model", headers=[("if-none-match", given)])
    assert (answer.status, answer.body, answer.headers) == (304, b"", {"etag": '"1"'})
    assert site.pulls == [("192.0.2.1", 0)]


async def test_head_of_the_model_has_its_length_only() -> None:
    site = Site()
    answer = await call(app_of(site), "HEAD", "/v1/model")
    assert answer.status == 200
    assert answer.headers["content-length"] == str(sum(map(len, site.frame())))
    assert (answer.body, site.pulls) == (b"", [])


async def test_hello_is_answered_with_ours() -> None:
    site = Site()
    answer = await call(app_of(site), "POST", "/v1/membership", pieces(hello_body(), 10))
    assert decode_hello(answer.body, TASK, LAYOUT).sender.id == "bob"
    assert site.hellos[0][1:] == ("192.0.2.1", len(hello_body()))


async def test_layout_says_what_a_foreign_client_needs() -> None:
    answer = await call(app_of(Site()), "GET", "/v1/layout")
    assert json.loads(answer.body) == {
        "task": TASK.as_dict(),
        "task_digest": TASK.digest,
        **LAYOUT.as_dict(),
        "size": 9,
        "fingerprint": LAYOUT.fingerprint,
    }


async def test_status_of_a_diverged_node_is_json() -> None:
    site = Site(state={"loss": float("nan"), "peers": [{"age": float("inf"), "rate": 0.5}]})
    answer = await call(app_of(site), "GET", "/v1/status")
    assert json.loads(answer.body) == {
        "state": "training",
        "round": 3,
        "loss": None,
        "peers": [{"age": None, "rate": 0.5}],
    }


async def test_readiness_is_the_services() -> None:
    site = Site()
    assert (await call(app_of(site), "GET", "/readyz")).status == 200
    site.company = False
    assert (await call(app_of(site), "GET", "/readyz")).status == 503
    assert (await call(app_of(site), "GET", "/healthz")).status == 200
    assert not site.rejected


@pytest.mark.parametrize("path", ["/nothing", "/v1/status/", "/v1", "/v1/model/../status", "/\x1b[2J"])
async def test_unknown_path_is_refused_and_counted(path: str) -> None:
    site = Site()
    answer = await call(app_of(site), "GET", path)
    assert (answer.status, problem(answer), site.reasons) == (404, "no-such-route", ["no-such-route"])
    assert "\x1b" not in answer.body.decode()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", path, "POST") for path in ("/v1/exchange", "/v1/membership")]
    + [("POST", path, "GET, HEAD") for path in ROUTES]
    + [("BREW", "/v1/status", "GET, HEAD")],
)
async def test_wrong_method_is_refused_and_counted(method: str, path: str, allowed: str) -> None:
    site = Site()
    answer = await call(app_of(site), method, path)
    assert (answer.status, problem(answer), answer.headers["allow"]) == (405, "wrong-method", allowed)
    assert site.reasons == ["wrong-method"]


HEADERS = [
    ([("content-type", "application/json")], 415, "unknown-codec"),
    ([], 415, "unknown-codec"),
    ([MSGPACK, ("content-encoding", "gzip")], 415, "unknown-codec"),
    ([MSGPACK, ("content-length", str(10**9))], 413, "too-large"),
    ([MSGPACK, ("content-length", "9" * 20)], 413, "too-large"),
]


@pytest.mark.parametrize("path", ["/v1/exchange", "/v1/membership"])
@pytest.mark.parametrize(("headers", "status", "reason"), HEADERS)
async def test_bad_headers_are_refused_before_the_body(
    path: str, headers: list[tuple[str, str]], status: int, reason: str
) -> None:
    site = Site()
    answer = await call(app_of(site), "POST", path, messages=[], headers=headers)  # nothing can be read
    assert (answer.status, problem(answer), site.reasons) == (status, reason, [reason])
    assert answer.headers["connection"] == "close"
    await still_works(site)


async def test_media_type_may_have_parameters_and_any_case() -> None:
    headers = [("content-type", "Application/MsgPack; charset=binary"), ("content-encoding", "identity")]
    assert (await call(app_of(Site()), "POST", "/v1/exchange", pieces(body(), 99), headers)).status == 204


async def test_hostile_frames_are_refused_by_name_and_the_node_goes_on() -> None:
    site = Site()
    app = app_of(site)
    for hostile in hostile_frames.model_frames(TASK, LAYOUT):
        answer = await call(app, "POST", "/v1/exchange", pieces(hostile.body, 1 << 14))
        assert (hostile.name, problem(answer)) == (hostile.name, hostile.error.reason)
        assert answer.status == hostile.error.status
        assert [type(error) for error, _, _ in site.rejected] == [hostile.error]
        site.rejected.clear()
    assert not site.models
    await still_works(site)


async def test_hostile_hellos_are_refused_by_name() -> None:
    site = Site()
    for hostile in hostile_frames.hello_frames(TASK, LAYOUT):
        answer = await call(app_of(site), "POST", "/v1/membership", pieces(hostile.body, 1 << 14))
        assert 400 <= answer.status < 500
        assert (hostile.name, problem(answer)) == (hostile.name, site.reasons[-1])
    assert len(site.rejected) == len(hostile_frames.hello_frames(TASK, LAYOUT))
    assert not site.hellos


async def test_refusal_names_the_sender_once_the_head_was_read() -> None:
    site = Site()
    answer = await call(
        app_of(site), "POST", "/v1/exchange", pieces(b"".join(frame("mallory", task=OTHER_TASK)), 1 << 14)
    )
    assert (answer.status, problem(answer)) == (409, "wrong-task")
    [(error, source, peer)] = site.rejected
    assert (type(error), source, peer) == (errors.WrongTask, "192.0.2.1", "mallory")


async def test_service_may_refuse_too() -> None:
    def picky(model: Model) -> None:
        raise BadField("an absurd age")

    site = Site(on_model=picky)
    answer = await call(app_of(site), "POST", "/v1/exchange", pieces(body(), 100))
    assert (answer.status, problem(answer)) == (400, "bad-field")
    assert "connection" not in answer.headers  # the body was read to its end: the connection is good
    assert [(error.reason, peer) for error, _, peer in site.rejected] == [("bad-field", "ann")]


@pytest.mark.parametrize("path", ["/v1/exchange", "/v1/membership"])
async def test_client_that_leaves_is_counted_and_not_answered(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site()
    answer = await call(app_of(site), "POST", path, pieces(body()[:50], 10, whole=False))
    assert (answer.status, site.reasons) == (0, ["truncated"])
    assert not caplog.records


@pytest.mark.parametrize("path", ["/v1/exchange", "/v1/membership"])
async def test_body_that_ends_early_is_refused(path: str) -> None:
    site = Site()
    data = body() if path == "/v1/exchange" else hello_body()
    answer = await call(app_of(site), "POST", path, pieces(data[:-1], 10))
    assert (answer.status, problem(answer), site.reasons) == (400, "truncated", ["truncated"])


@pytest.mark.virtual
@pytest.mark.parametrize("path", ["/v1/exchange", "/v1/membership"])
async def test_slow_client_is_refused_at_its_time_limit(path: str) -> None:
    """Whatever it announced: only what has come gives more time."""
    site = Site()
    start = trio.current_time()
    never = [{"type": "http.request", "body": body()[:20], "more_body": True}]
    answer = await call(app_of(site), "POST", path, never)
    assert (answer.status, problem(answer), site.reasons) == (408, "too-slow", ["too-slow"])
    assert answer.headers["connection"] == "close"
    assert trio.current_time() - start == pytest.approx(60.0, abs=0.01)  # seconds of virtual time
    await still_works(site)


@pytest.mark.virtual
async def test_streams_are_limited_and_small_requests_are_not() -> None:
    site = Site()
    app = app_of(site, body_timeout=10.0, max_streams=2)
    never = [{"type": "http.request", "body": body()[:20], "more_body": True}]
    async with trio.open_nursery() as nursery:
        for client in ("192.0.2.1", "192.0.2.2"):
            nursery.start_soon(partial(call, app, "POST", "/v1/exchange", never, client=client))
        await trio.testing.wait_all_tasks_blocked()
        answer = await call(app, "POST", "/v1/exchange", messages=[], client="192.0.2.3")
        assert (answer.status, problem(answer), answer.headers["retry-after"]) == (503, "busy", "1")
        assert answer.headers["connection"] == "close"
        for path in ROUTES:
            assert (await call(app, "GET", path)).status == 200
        assert (await call(app, "POST", "/v1/membership", pieces(hello_body(), 99))).status == 200
    assert site.reasons == ["busy", "too-slow", "too-slow"]
    await still_works(site)
    assert (await call(app, "POST", "/v1/exchange", pieces(body(), 99))).status == 204


@pytest.mark.virtual
@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::{}"])
async def test_one_host_cannot_take_all_places_for_models(host: str) -> None:
    """Slow bodies hold theirs for a minute: the other half is for others, of IPv6 from another network."""
    site = Site()
    app = app_of(site, max_streams=8)
    never = [{"type": "http.request", "body": body()[:20], "more_body": True}]
    async with trio.open_nursery() as nursery:
        for number in range(8):
            client = host.format(number + 1)
            nursery.start_soon(partial(call, app, "POST", "/v1/exchange", never, client=client))
        await trio.testing.wait_all_tasks_blocked()
        assert site.reasons == ["busy"] * 4
        for client in ("192.0.2.9", "2001:db8:1::1"):
            answer = await call(app, "POST", "/v1/exchange", pieces(body(), 99), client=client)
            assert answer.status == 204
        nursery.cancel_scope.cancel()


@pytest.mark.virtual
async def test_answers_that_nobody_takes_are_bounded() -> None:
    """Each holds the snapshot of its moment in memory."""
    site = Site()
    app = app_of(site, max_streams=4)
    held, release = [0], trio.Event()

    async def slow(scope: Scope) -> None:
        async def send(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                held[0] += 1
                await release.wait()

        async def receive() -> Message:
            return {"type": "http.request"}

        await app(scope, receive, send)

    scope = {"type": "http", "method": "GET", "path": "/v1/model", "headers": [], "client": ("192.0.2.1", 1)}
    async with trio.open_nursery() as nursery:
        for _ in range(9):
            nursery.start_soon(slow, scope)
        await trio.testing.wait_all_tasks_blocked()
        assert held == [2]
        assert site.reasons == ["busy"] * 7
        pushed = await call(app, "POST", "/v1/exchange", pieces(body(reply=True), 99))
        assert (pushed.status, site.models) == (503, [])  # not answered, and so not taken either
        assert (await call(app, "POST", "/v1/exchange", pieces(body(), 99))).status == 204
        assert (await call(app, "GET", "/v1/model", client="192.0.2.2")).status == 200
        release.set()
    assert (await call(app, "GET", "/v1/model")).status == 200


@pytest.mark.virtual
async def test_a_slow_link_is_no_attack() -> None:
    """60 kB/s: a model of 4 MB takes longer than a body may without sending anything."""
    site = Site(layout=BIG)
    data = body(layout=BIG)
    coming = iter(pieces(data, 60_000))

    async def receive() -> Message:
        await trio.sleep(1.0)
        return next(coming)

    statuses: list[int] = []

    async def send(message: Message) -> None:
        statuses.append(message.get("status", 0))

    headers = [(b"content-type", b"application/msgpack")]
    scope = {"type": "http", "method": "POST", "path": "/v1/exchange", "headers": headers, "client": ("a", 1)}
    await app_of(site)(scope, receive, send)
    assert statuses[0] == 204
    assert trio.current_time() > 65


@pytest.mark.parametrize("path", ["/v1/exchange", "/v1/membership"])
async def test_endless_body_is_refused_while_it_streams(path: str) -> None:
    """64 MiB are offered without a length; what is read, and the memory it takes, stays near the cap."""
    site = Site()
    read = 0
    piece = bytes(1 << 16)
    start = body() if path == "/v1/exchange" else b"\x83\xa1v\x01\xa4kind\xa5hello\xa1x\xc6\x7f\xff\xff\xff"

    async def receive() -> Message:
        nonlocal read
        await trio.lowlevel.checkpoint()
        data = piece if read else start
        read += len(data)
        return {"type": "http.request", "body": data, "more_body": read < 1 << 26}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [(b"content-type", b"application/msgpack")],
        "root_path": "",
        "client": None,
    }
    app = app_of(site)
    tracemalloc.start()
    try:
        await app(scope, receive, send)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 400 <= sent[0]["status"] < 500
    assert site.reasons[0] in ("malformed", "too-large")
    assert read <= 2 * MAX_HELLO + len(start)
    assert peak < 1 << 20


async def test_announced_giant_is_not_allocated() -> None:
    """A head that is good up to its weights' length, which is 4 GiB."""
    site = Site()
    head = frame("ann")[0][:-2] + b"\xc6\xff\xff\xff\xff"
    answer = await call(app_of(site), "POST", "/v1/exchange", pieces(head, 64))
    assert (answer.status, problem(answer), site.reasons) == (413, "too-large", ["too-large"])


async def test_our_own_bug_is_a_500_and_the_node_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def broken(model: Model) -> None:
        raise ZeroDivisionError("secret")

    site = Site(on_model=broken)
    with caplog.at_level(logging.ERROR):
        answer = await call(app_of(site), "POST", "/v1/exchange", pieces(body(), 100))
    assert (answer.status, problem(answer), site.rejected) == (500, "internal", [])
    assert "secret" not in answer.body.decode()
    assert caplog.records[0].exc_info is not None
    site.on_model = lambda model: None
    await still_works(site)


async def test_bug_in_a_page_is_a_500(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site()
    monkeypatch.setattr(site, "status", partial(divmod, 1, 0))
    answer = await call(app_of(site), "GET", "/v1/status")
    assert (answer.status, problem(answer)) == (500, "internal")
    assert "failed" in caplog.text


async def test_bytes_that_are_not_http_are_counted() -> None:
    site = Site()
    scope = {"type": REFUSED, "client": ("192.0.2.7", 1), "error": errors.Malformed("not HTTP")}
    await call_unreadable(site, scope)
    [(error, source, peer)] = site.rejected
    assert (error.reason, str(error), source, peer) == ("malformed", "not HTTP", "192.0.2.7", "")


async def call_unreadable(site: Site, scope: Message) -> None:
    async def receive() -> Message:
        return DISCONNECT

    async def send(message: Message) -> None:
        raise AssertionError("there is nobody to answer")

    await app_of(site)(scope, receive, send)


async def test_every_reply_decodes_with_the_codec() -> None:
    decoder = ModelDecoder(TASK, LAYOUT)
    answer = await call(app_of(Site()), "GET", "/v1/model")
    decoder.feed(answer.body)
    assert decoder.finish().head.sender.id == "bob"

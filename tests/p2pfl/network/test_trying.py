"""POST /v1/predict and GET /v1/model.safetensors as requests: what is taken, and how much of it at a time."""

from __future__ import annotations

import json

import pytest
import trio

from p2pfl.network import trying
from tests.p2pfl.network.sites import Site, app_of, call, pieces

PNG = [("content-type", "image/png")]


async def test_a_picture_is_passed_on_as_it_came() -> None:
    answer = await call(app_of(Site()), "POST", "/v1/predict", pieces(b"x" * 5000, 999), PNG)
    assert answer.status == 200
    assert json.loads(answer.body) == {"predicted": "no", "bytes": 5000, "drawn": False, "invert": "auto"}


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([], "unknown-codec"),
        ([("content-type", "text/plain")], "unknown-codec"),
        ([("content-type", "multipart/form-data; boundary=x")], "unknown-codec"),
        ([*PNG, ("content-encoding", "gzip")], "unknown-codec"),
        ([*PNG, ("content-length", str(trying.MAX_PICTURE + 1))], "too-large"),
    ],
)
async def test_what_is_no_picture_is_refused_by_its_headers(
    headers: list[tuple[str, str]], reason: str
) -> None:
    site = Site()
    answer = await call(app_of(site), "POST", "/v1/predict", (), headers)
    assert answer.status in (413, 415)
    assert answer.headers["connection"] == "close"
    assert site.reasons == [reason]


async def test_a_picture_without_end_is_cut_off() -> None:
    site = Site()
    body = pieces(b"x" * (trying.MAX_PICTURE + 1), 65536)
    assert (await call(app_of(site), "POST", "/v1/predict", body, PNG)).status == 413
    assert site.reasons == ["too-large"]


@pytest.mark.virtual
async def test_one_source_has_half_of_the_places_and_slow_ones_lose_theirs() -> None:
    site = Site()
    app = app_of(site)
    slow = [{"type": "http.request", "body": b"x", "more_body": True}]

    async def send(client: str = "192.0.2.1") -> int:
        return (await call(app, "POST", "/v1/predict", slow, PNG, client)).status

    async with trio.open_nursery() as nursery:
        for _ in range(trying.AT_ONCE // 2):
            nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        assert await send() == 503
        nursery.start_soon(send, "192.0.2.2")
    assert site.reasons == ["busy"] + ["too-slow"] * (trying.AT_ONCE // 2 + 1)
    assert (await call(app, "POST", "/v1/predict", pieces(b"x", 1), PNG)).status == 200


async def test_the_model_can_be_taken_away() -> None:
    answer = await call(app_of(Site()), "GET", "/v1/model.safetensors")
    assert (answer.status, answer.body) == (200, b"weights")
    assert answer.headers["content-disposition"] == 'attachment; filename="toy-softmax.safetensors"'
    assert (await call(app_of(Site()), "HEAD", "/v1/model.safetensors")).body == b""

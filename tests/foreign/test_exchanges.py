"""Every exchange body of a whole virtual run is a frame that the client of docs/protocol.md reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from netsim.network import AsgiApp, SimulatedHost
from tests.foreign import client
from tests.netsim.whole import simulate

Message = MutableMapping[str, Any]
PARAMETERS = 64 * 10 + 10  # of the softmax model on the digits
FRAMES = "application/msgpack"


@dataclass
class Call:
    """One request as the node that answered it saw it."""

    route: str
    answered_by: str
    sent: bytearray = field(default_factory=bytearray)
    kind: str = ""
    status: int = 0
    answer_kind: str = ""
    answer: bytearray = field(default_factory=bytearray)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """All calls of the simulations of this test, in the order in which they were answered."""
    seen: list[Call] = []
    serve = SimulatedHost.serve

    async def overheard(
        self: SimulatedHost, app: AsgiApp, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
    ) -> None:
        await serve(self, overhear(app, self.name, seen), task_status=task_status)

    monkeypatch.setattr(SimulatedHost, "serve", overheard)
    return seen


def overhear(app: AsgiApp, name: str, seen: list[Call]) -> AsgiApp:
    async def overheard(
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        call = Call(f"{scope['method']} {scope['path']}", name, kind=content_type(scope["headers"]))

        async def heard() -> Message:
            message = await receive()
            call.sent += message.get("body", b"")
            return message

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                call.answer_kind = content_type(message.get("headers", []))
            else:
                call.answer += message.get("body", b"")
                if not message.get("more_body", False):
                    seen.append(call)
            await send(message)

        await app(scope, heard, answered)

    return overheard


def content_type(headers: list[tuple[bytes, bytes]]) -> str:
    return dict(headers).get(b"content-type", b"").decode()


@pytest.mark.parametrize("codec", ["f32", "f16", "f32+deflate", "f16+deflate"])
@pytest.mark.parametrize("gossip", ["push", "pull", "push-pull"])
@pytest.mark.parametrize("signed", [False, True])
def test_the_foreign_client_reads_every_body(
    signed: bool, gossip: str, codec: str, calls: list[Call], tmp_path: Path
) -> None:
    run = simulate(tmp_path, gossip=gossip, codec=codec, nodes=5, rounds=3, settle=2, signed=signed)
    assert all(client.id_like(line["id"]) == signed for line in run.of("started"))
    ids = {line["url"].split("/")[2].split(":")[0]: line["id"] for line in run.of("started")}
    bodies: Counter[str] = Counter()
    for call in calls:
        bodies[read(call, codec, ids)] += 1
        bodies["reply of settling"] += call.route == "POST /v1/exchange" and call.status == 200

    asked = Counter(line["mode"] for line in run.of("exchanged"))
    assert bodies["hello"] >= asked["hello"] >= 5 * 4 / 2
    assert bodies[gossip] >= 5 * 3  # each node, each round, at least one of its two
    assert bodies["reply of settling"] >= 5 * 2
    assert sum(bodies[mode] for mode in ("push", "pull", "push-pull")) >= run.summary["exchanges"]


def read(call: Call, codec: str, ids: dict[str, str]) -> str:
    """Check both bodies of a call; which mode of exchange it was."""
    if call.route == "POST /v1/membership":
        expect_hello(call.sent, call.kind)
        assert expect_hello(call.answer, call.answer_kind)["id"] == ids[call.answered_by]
        return "hello"
    if call.route == "GET /v1/model":
        assert not call.sent
        if call.status == 304:
            assert not call.answer
            return "pull"
        assert expect_model(call.answer, call.answer_kind, codec)["id"] == ids[call.answered_by]
        return "pull"
    assert call.route == "POST /v1/exchange"
    frame = expect_model(call.sent, call.kind, codec)
    assert frame["id"] in ids.values()
    if not frame["reply"]:
        assert (call.status, bytes(call.answer)) == (204, b"")
        return "push"
    assert call.status == 200
    assert expect_model(call.answer, call.answer_kind, codec)["id"] == ids[call.answered_by]
    return "push-pull"


def expect_hello(body: bytearray, kind: str) -> dict[str, Any]:
    frame = client.read_frame(bytes(body))
    assert (kind, frame["kind"]) == (FRAMES, "hello")
    return frame


def expect_model(body: bytearray, kind: str, codec: str) -> dict[str, Any]:
    frame = client.read_frame(bytes(body))
    assert (kind, frame["kind"], frame["codec"]) == (FRAMES, "model", codec)
    assert frame["weights"].shape == (PARAMETERS,)
    assert frame["task"]["name"] == "digits"
    assert tuple(frame)[-1] == "weights"  # the client's own entry; what it read came before
    return frame


def test_overhearing_changes_nothing(
    calls: list[Call], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    overheard = simulate(tmp_path / "overheard")
    assert calls
    monkeypatch.undo()
    assert simulate(tmp_path / "alone").journal == overheard.journal

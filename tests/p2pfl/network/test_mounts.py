"""Several nodes behind one port: who gets which request, and what the process answers for itself."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import pytest
import trio
from starlette.types import ASGIApp

from p2pfl.clock import Clock
from p2pfl.errors import NoSuchRoute, PeerError
from p2pfl.gossip.messages import Task
from p2pfl.network.client import PeerClient
from p2pfl.network.gate import Gate
from p2pfl.network.index import make_index
from p2pfl.network.mounts import MountedNetwork, Mounts
from p2pfl.network.security import OPEN, Security
from p2pfl.network.server import HttpNetwork
from p2pfl.network.splitting import Splitting
from p2pfl.network.tokens import Token
from tests.p2pfl.network.certified import TOKEN
from tests.p2pfl.network.sites import (
    LAYOUT,
    OTHER_TASK,
    TASK,
    Site,
    app_of,
    body,
    call,
    frame,
    hello_body,
    pieces,
)
from tests.p2pfl.network.test_app import problem

OPERATOR = Token("operators-of-tests-01234")
CONTROL = (("p2pfl-control", OPERATOR.text),)


class Process:
    """Implements network.index.Tasks; the tasks "a" and "b" run, "c" has failed."""

    def __init__(self) -> None:
        self.rejected: list[tuple[PeerError, str]] = []
        self.sites = {"a": Site("ann"), "b": Site("bob", task=OTHER_TASK)}
        self.mounts = Mounts(["a", "b", "c"], make_index(self))
        self.lacking: list[str] = []
        self._held = ExitStack()

    token = OPERATOR

    def listed(self) -> list[dict[str, object]]:
        return [{"name": name, "state": "done", "loss": float("nan")} for name in self.sites]

    def lacks(self) -> list[str]:
        return self.lacking

    def start(self, name: str) -> dict[str, object]:
        if name not in ("a", "b", "c"):
            raise NoSuchRoute(f"there is no task {name} here")
        return {"name": name, "state": "starting"}

    def reject(self, error: PeerError, source: str) -> None:
        self.rejected.append((error, source))

    def app(self, security: Security = OPEN) -> ASGIApp:
        for name, site in self.sites.items():
            self._held.enter_context(self.mounts.mounted(name, app_of(site)))
        return Splitting(Gate(self.mounts, security, Clock()))


async def test_each_task_gets_what_is_under_its_path() -> None:
    process = Process()
    app = process.app()
    answer = await call(app, "POST", "/tasks/a/v1/exchange", pieces(body("eve"), 99))
    assert answer.status == 204
    answer = await call(app, "POST", "/tasks/b/v1/membership", pieces(hello_body("eve", OTHER_TASK), 99))
    assert answer.status == 200
    a, b = process.sites.values()
    assert ([m[0].head.sender.id for m in a.models], a.hellos) == (["eve"], [])
    assert (b.models, [h[0].sender.id for h in b.hellos]) == ([], ["eve"])
    for path in ("/v1/status", "/v1/peers", "/v1/layout", "/healthz", "/readyz", "/openapi.json", "/"):
        assert (await call(app, "GET", f"/tasks/a{path}")).status == 200


async def test_a_model_of_the_neighbours_task_is_refused_by_the_task_it_was_sent_to() -> None:
    process = Process()
    answer = await call(process.app(), "POST", "/tasks/b/v1/exchange", pieces(body("eve"), 99))
    assert (answer.status, problem(answer)) == (409, "wrong-task")
    assert (process.sites["b"].reasons, process.sites["a"].reasons, process.rejected) == (
        ["wrong-task"],
        [],
        [],
    )


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/tasks/c/v1/status", 503, "not-running"),
        ("POST", "/tasks/c/v1/exchange", 503, "not-running"),
        ("GET", "/tasks/d/v1/status", 404, "no-such-route"),
        ("GET", "/tasks/A/v1/status", 404, "no-such-route"),
        ("GET", "/tasks/../v1/status", 404, "no-such-route"),
        ("GET", "/tasks//v1/status", 404, "no-such-route"),
        ("GET", "/v1/status", 404, "no-such-route"),
        ("POST", "/v1/exchange", 404, "no-such-route"),
        ("GET", "/tasks/a/tasks", 404, "no-such-route"),
        ("GET", "/tasks/a/tasks/b/v1/status", 404, "no-such-route"),
        ("GET", "/start", 405, "wrong-method"),
        ("POST", "/start", 404, "no-such-route"),
        ("POST", "/tasks", 405, "wrong-method"),
    ],
)
async def test_what_is_of_no_task_is_refused_and_counted(
    method: str, path: str, status: int, reason: str
) -> None:
    process = Process()
    answer = await call(process.app(), method, path)
    assert (answer.status, problem(answer)) == (status, reason)
    counted = [error.reason for error, _ in process.rejected]
    assert counted + process.sites["a"].reasons == [reason]


async def test_the_process_answers_for_itself_at_its_root() -> None:
    process = Process()
    app = process.app()
    assert json.loads((await call(app, "GET", "/tasks")).body) == [
        {"name": "a", "state": "done", "loss": None},
        {"name": "b", "state": "done", "loss": None},
    ]
    assert json.loads((await call(app, "GET", "/healthz")).body) == {"healthy": True}
    assert (await call(app, "GET", "/readyz")).status == 200
    process.lacking = ["c: failed"]
    answer = await call(app, "GET", "/readyz")
    assert (answer.status, json.loads(answer.body)) == (503, {"ready": False, "lacks": ["c: failed"]})
    page = await call(app, "GET", "/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b'src="web/tasks.js"' in page.body
    assert (await call(app, "GET", "/web/tasks.js")).status == 200
    assert (await call(app, "GET", "/web/tasks.py")).status == 404
    moved = await call(app, "GET", "/tasks/a")
    assert (moved.status, moved.headers["location"]) == (308, "/tasks/a/")


async def test_the_document_has_what_the_process_serves() -> None:
    document: dict[str, Any] = json.loads((await call(Process().app(), "GET", "/openapi.json")).body)
    process = Process()
    app = process.app()
    for path, item in document["paths"].items():
        for method in item.keys() - {"parameters"}:
            answer = await call(app, method.upper(), path.format(name="a"), headers=CONTROL)
            assert str(answer.status) in item[method]["responses"], path
            assert answer.status < 300
    assert "/tasks" in document["paths"]
    assert document["servers"] == [{"url": "./"}]  # from where the document lies


async def test_only_the_operator_starts_a_task() -> None:
    process = Process()
    app = process.app(Security(token=TOKEN, operator=OPERATOR))
    member = ("authorization", TOKEN.header)
    foreign = ("origin", "http://evil.example")
    refused: list[tuple[tuple[tuple[str, str], ...], str]] = [
        ((), "not-operator"),
        ((member,), "not-operator"),
        ((("p2pfl-control", "another-token-0123456789"),), "not-operator"),
        ((*CONTROL, foreign), "foreign-origin"),
    ]
    for headers, reason in refused:
        answer = await call(app, "POST", "/tasks/c/start", headers=headers)
        assert (answer.status, problem(answer)) == (403, reason)
    assert [error.reason for error, _ in process.rejected] == [reason for _, reason in refused]
    answer = await call(app, "POST", "/tasks/c/start", headers=CONTROL)
    assert (answer.status, json.loads(answer.body)) == (202, {"name": "c", "state": "starting"})
    assert (await call(app, "POST", "/tasks/d/start", headers=CONTROL)).status == 404
    assert (await call(app, "GET", "/tasks/c/start", headers=(member,))).status == 405


@pytest.mark.virtual
async def test_one_gate_stands_before_all_tasks() -> None:
    process = Process()
    app = process.app(Security(token=TOKEN, max_requests=5.0))
    for path in ("/tasks", "/tasks/a/v1/status", "/tasks/a/v1/model", "/tasks/c/v1/status", "/openapi.json"):
        assert (await call(app, "GET", path)).status == 401
    for path in ("/healthz", "/tasks/b/healthz"):
        assert (await call(app, "GET", path)).status == 200
    shown = [("authorization", TOKEN.header)]
    assert (await call(app, "GET", "/tasks/a/v1/status", headers=shown)).status == 200
    # What is refused is counted where it was sent to.
    assert process.sites["a"].reasons == ["unauthorised"] * 2
    assert [error.reason for error, _ in process.rejected] == ["unauthorised"] * 3
    sent = [
        (await call(app, "GET", f"/tasks/{'ab'[n % 2]}/v1/model", headers=shown)).status for n in range(30)
    ]
    assert sent.index(429) == 19  # one budget for all: 20 at once, and one was asked for above


async def test_nodes_behind_one_port_are_asked_by_their_addresses() -> None:
    """On real sockets: the client joins address and route."""
    process = Process()
    network = HttpNetwork("127.0.0.1:0", several=True)
    async with trio.open_nursery() as nursery:
        base = await nursery.start(network.serve, process.mounts)
        urls = {}
        for name, site in process.sites.items():
            mounted = MountedNetwork(network.transport, process.mounts, name, base)
            urls[name] = await nursery.start(mounted.serve, app_of(site))
        assert urls == {"a": f"{base}/tasks/a", "b": f"{base}/tasks/b"}
        for name, task in (("a", TASK), ("b", OTHER_TASK)):
            await ask(urls[name], task, process.sites[name].id)
        nursery.cancel_scope.cancel()
    assert not process.rejected
    left = await call(Splitting(process.mounts), "GET", "/tasks/a/v1/status")
    assert problem(left) == "not-running"


async def ask(url: str, task: Task, id: str) -> None:
    client = PeerClient(None, task, LAYOUT)
    theirs, _ = await client.hello(url, hello_body("eve", task))
    assert theirs.sender.id == id
    reply = await client.push(url, frame("eve", reply=True, task=task))
    assert reply.peer == id
    pulled, etag = await client.pull(url, None)
    assert (pulled.peer, etag) == (id, '"1"')
    await client.aclose()

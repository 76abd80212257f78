"""The document that a node serves of its JSON routes is true: schemathesis asks whatever it allows."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
import trio
from hypothesis import given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.types import Message

from p2pfl import errors
from p2pfl.clock import Clock
from p2pfl.events import RoundCompleted, Served, StateChanged
from p2pfl.network import openapi
from p2pfl.network.app import make_app, send_refusal
from p2pfl.network.gate import PUBLIC
from p2pfl.network.operator_routes import ROUTES
from p2pfl.network.security import Security
from p2pfl.network.server import HttpNetwork
from p2pfl.network.tokens import Token
from p2pfl.operating import Operator
from tests.p2pfl.network.certified import TOKEN
from tests.p2pfl.network.sites import call
from tests.p2pfl.village import Village

AUTHORISED = {"Authorization": TOKEN.header}
OPERATORS = Token("0123456789abcdefghij-operator")
OPERATES = {"p2pfl-control": OPERATORS.text}
CONTROLS = [(path, method.upper()) for path, item in openapi.CONTROLS.items() for method in item]


class Serving:
    """A real node's pages on a real socket, in a thread: schemathesis does not know trio."""

    def __init__(self) -> None:
        self.url = ""
        self._up = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._thread = threading.Thread(target=trio.run, args=(self._main,), daemon=True)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        village = Village()
        villager = village.villager(0, (1,))
        villager.node.service.reject(errors.Truncated("too short"), "192.0.2.1", "")
        villager.node.service.operated = Operator(villager.node, OPERATORS)
        network = HttpNetwork("127.0.0.1:0", None, Security(token=TOKEN, operator=OPERATORS))
        with self._scope:
            async with trio.open_nursery() as nursery:
                self.url = await nursery.start(network.serve, make_app(villager.node.service, Clock()))
                self._up.set()

    @contextmanager
    def running(self) -> Iterator[str]:
        self._thread.start()
        assert self._up.wait(60)
        try:
            yield self.url
        finally:
            assert self._token is not None
            self._token.run_sync_soon(self._scope.cancel)
            self._thread.join()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Serving().running() as url:
        yield url


@pytest.fixture(scope="module")
def api(url: str) -> Any:
    """The document as the node serves it, read by schemathesis."""
    return schemathesis.openapi.from_url(f"{url}/openapi.json", headers=AUTHORISED)


def asked(api: Any, path: str, check: Callable[[Any], None], method: str = "GET") -> None:
    """`check` is given requests that the document allows for a path; the same ones in each run."""

    @settings(derandomize=True, max_examples=20, deadline=None, database=None)
    @given(case=api[path][method].as_strategy())
    def run(case: Any) -> None:
        check(case)

    run()


@pytest.mark.parametrize("path", openapi.PAGES)
def test_every_json_route_answers_as_the_document_says(api: Any, path: str) -> None:
    # A node without company says 503, which is an answer and no failure.
    excluded = [not_a_server_error] if path == "/readyz" else []
    asked(api, path, lambda case: case.call_and_validate(headers=AUTHORISED, excluded_checks=excluded))


@pytest.mark.parametrize("path", openapi.PAGES)
def test_refusals_for_want_of_the_token_are_in_the_document(api: Any, path: str) -> None:
    def check(case: Any) -> None:
        response = case.call_and_validate(headers={"Authorization": "Bearer wrong"})
        assert response.status_code == (200 if path == "/healthz" else 401)

    asked(api, path, check)


@pytest.mark.parametrize(("path", "method"), CONTROLS)
def test_the_operators_routes_answer_as_the_document_says(api: Any, path: str, method: str) -> None:
    def check(case: Any) -> None:
        # A merge rule is any text in the document, and two settings may exclude each other.
        response = case.call_and_validate(headers=OPERATES, excluded_checks=[positive_data_acceptance])
        assert response.status_code in (200, 202, 400, 422)

    asked(api, path, check, method)


@pytest.mark.parametrize(("path", "method"), CONTROLS)
def test_refusals_of_who_is_not_the_operator_are_in_the_document(api: Any, path: str, method: str) -> None:
    def check(case: Any) -> None:
        response = case.call_and_validate(
            headers={"p2pfl-control": "wrong"}, excluded_checks=[positive_data_acceptance]
        )
        assert response.status_code == 403

    asked(api, path, check, method)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", openapi.PAGES)
def test_refusals_of_other_methods_are_in_the_document(api: Any, path: str, method: str) -> None:
    case = api[path]["GET"].Case()
    case.method = method
    response = case.call(headers=AUTHORISED)
    assert (response.status_code, response.headers["allow"]) == (405, ["GET, HEAD"])
    api[path]["GET"].validate_response(response)


@pytest.mark.parametrize("query", ["?x=1", "?" + "y" * 2000, "?%00=%ff", "?a[]=%F0%9F%92%A9"])
@pytest.mark.parametrize("path", openapi.PAGES)
def test_what_nobody_asked_for_changes_nothing(api: Any, url: str, path: str, query: str) -> None:
    answer = httpx.get(f"{url}{path}{query}", headers=AUTHORISED, trust_env=False)
    api[path]["GET"].validate_response(answer)
    assert answer.status_code in (200, 503)


@pytest.mark.parametrize(
    ("error", "name"),
    [(errors.TooManyRequests("more than its share", retry_after=2.5), "429"), (errors.Busy("later"), "503")],
)
async def test_refusals_under_load_are_in_the_document(error: errors.FrameError, name: str) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await send_refusal(send, error, close=False)
    headers = dict(sent[0]["headers"])
    assert (sent[0]["status"], int(headers[b"retry-after"]) >= 1) == (int(name), True)
    problem = json.loads(sent[1]["body"])
    assert jsonschema_rs.is_valid({**openapi.SCHEMAS["Problem"]}, problem)
    operation: Any = openapi.document()
    for path in openapi.PAGES:
        assert name in operation["paths"][path]["get"]["responses"]


async def test_the_document_names_every_property_and_no_other() -> None:
    """required: a client may rely on it.  And nothing is served that is not described."""
    villager = Village().villager(0, (1,))
    service = villager.node.service
    note = service.keep_history()
    contact = villager.node.gossip.view.contacts()[0]
    villager.node.gossip.view.answered(contact, "id1", "192.0.2.1")
    contact.accuracy = 0.5
    note(RoundCompleted(1, 64.0))
    note(StateChanged("done"))
    note(Served("push", "id1", 100, 0))
    service.reject(errors.Truncated("too short"), "192.0.2.1", "")
    service.operated = Operator(villager.node, OPERATORS)
    app = make_app(villager.node.service, Clock())
    documents = {path: json.loads((await call(app, "GET", path)).body) for path in openapi.PAGES}
    status, history = documents["/v1/status"], documents["/v1/history"]
    shown_token = [("p2pfl-control", OPERATORS.text), ("content-type", "application/json")]

    async def control(path: str, body: bytes) -> dict[str, Any]:
        sent = [{"type": "http.request", "body": body}]
        answer: dict[str, Any] = json.loads((await call(app, "POST", path, sent, shown_token)).body)
        return answer

    controls = await control("/v1/controls", b'{"fanout": 3}')
    shown = {
        "Status": status,
        "Peer": status["peers"][0],
        "Refusal": status["refusals"][0],
        "Task": status["task"],
        "Layout": documents["/v1/layout"],
        "Tensor": documents["/v1/layout"]["tensors"][0],
        "History": history,
        "RoundPoint": history["rounds"][0],
        "PeerPoint": history["peers"][0],
        "TrafficPoint": history["traffic"][0],
        "RecentExchange": history["exchanges"][0],
        "LogLine": history["log"][0],
        "Alive": documents["/healthz"],
        "Ready": documents["/readyz"],
        "Problem": json.loads((await call(app, "GET", "/nowhere")).body),
    }
    shown |= {
        "Controls": controls,
        "Settings": controls["settings"],
        "Change": {"paused": False, **controls["in_force"]},
        "BadSetting": {"field": (await control("/v1/controls", b'{"lr": 0}'))["field"]},
        "Nothing": {},
        "Stopping": await control("/v1/stop", b"{}"),
    }
    assert shown.keys() == openapi.SCHEMAS.keys()
    for name, value in shown.items():
        properties = openapi.SCHEMAS[name].get("properties", {})
        assert isinstance(properties, dict)
        assert properties.keys() == value.keys(), name
    assert documents["/openapi.json"] == openapi.document()


def test_every_refusal_of_the_document_has_its_error() -> None:
    for name in openapi.REFUSALS:
        assert issubclass(getattr(errors, name), errors.FrameError)


def test_the_documents_routes_are_those_of_the_pages() -> None:
    assert set(openapi.PAGES) < PUBLIC
    assert PUBLIC - set(openapi.PAGES) == {"/v1/events", "/metrics", "/tasks"}  # not JSON; of several
    text = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")
    for path in openapi.PAGES:
        assert f"`GET {path}`" in text
    of_several_tasks = ("POST", "/start")
    others = {("HEAD", "/v1/controls"), of_several_tasks}
    assert {(method, path) for path, method in CONTROLS} == ROUTES - others
    for path, method in CONTROLS:
        assert f"`{method} {path}`" in text

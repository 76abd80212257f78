"""`p2pfl node pause|resume|set|stop`: what they send, what they print, and what each failure says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli import controls
from p2pfl.network import problems
from p2pfl.storage.operator import TOKEN_FILE, keep_token
from tests.cli.outcome import Run, error_line

URL = "http://127.0.0.1:8470"
TOKEN = "0123456789abcdefghij-operator"
SETTINGS = {
    "lr": 0.1,
    "local_steps": None,
    "local_epochs": 1,
    "batch_size": 32,
    "fanout": 2,
    "merge": "mean",
}
ANSWER: dict[str, Any] = {
    "state": "training",
    "round": 7,
    "paused": False,
    "settings": SETTINGS,
    "in_force": SETTINGS,
    "warnings": [],
    "choices": {},
    "kept": True,
}
COMMANDS = (["pause"], ["resume"], ["set", "--lr", "0.1"], ["stop"])

Handler = Callable[[httpx.Request], httpx.Response]
Serve = Callable[[Handler], list[httpx.Request]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """serve(handler): requests are answered by `handler`; returns the list that they are added to."""
    real = controls.send

    def install(handler: Handler) -> list[httpx.Request]:
        asked: list[httpx.Request] = []

        def noted(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return handler(request)

        transport = httpx.MockTransport(noted)
        monkeypatch.setattr(
            controls,
            "send",
            lambda url, values, operator, shown: real(url, values, operator, shown, transport),
        )
        return asked

    return install


@pytest.fixture
def state_dir(tmp_path: Path) -> str:
    keep_token(tmp_path, TOKEN)
    return str(tmp_path)


def answering(answer: object, status: int = 200) -> Handler:
    return lambda _: httpx.Response(status, json=answer)


def refusing(reason: str, status: int, detail: str) -> Handler:
    content = problems.encode(reason, status, detail)
    headers = {"content-type": problems.MEDIA_TYPE}
    return lambda _: httpx.Response(status, content=content, headers=headers)


# -- what is sent


@pytest.mark.parametrize(
    ("command", "path", "sent"),
    [
        (["pause"], "/v1/controls", {"paused": True}),
        (["resume"], "/v1/controls", {"paused": False}),
        (["stop"], "/v1/stop", {}),
        (["set", "--lr", "0.05", "--merge", "median"], "/v1/controls", {"lr": 0.05, "merge": "median"}),
        (
            ["set", "--local-steps", "5", "--batch-size", "16", "--fanout", "3"],
            "/v1/controls",
            {"local_steps": 5, "batch_size": 16, "fanout": 3},
        ),
        (["set", "--local-epochs", "2"], "/v1/controls", {"local_epochs": 2}),
    ],
)
def test_what_is_given_is_sent_and_nothing_else(
    run: Run, serve: Serve, state_dir: str, command: list[str], path: str, sent: dict[str, object]
) -> None:
    asked = serve(answering({**ANSWER, "stopping": True}))
    result = run("node", *command, URL, "--state-dir", state_dir)
    assert (result.exit_code, result.stderr) == (0, "")
    (request,) = asked
    assert (request.method, str(request.url), json.loads(request.content)) == ("POST", URL + path, sent)
    assert request.headers["p2pfl-control"] == TOKEN
    assert request.headers["content-type"] == "application/json"
    assert "authorization" not in request.headers


@pytest.mark.parametrize("way", ["file", "folder", "environment", "flag"])
def test_the_token_comes_from_where_it_is(
    run: Run, serve: Serve, state_dir: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = {
        "file": ["--control-token-file", str(Path(state_dir) / TOKEN_FILE)],
        "folder": ["--state-dir", state_dir],
        "environment": [],
        "flag": ["--control-token", TOKEN],
    }
    # What is given in words comes before the environment.
    other = TOKEN if way == "environment" else "another-0123456789-token"
    monkeypatch.setenv("P2PFL_CONTROL_TOKEN", other)
    asked = serve(answering(ANSWER))
    result = run("node", "pause", URL, *ways[way])
    assert result.exit_code == 0
    assert [request.headers["p2pfl-control"] for request in asked] == [TOKEN]
    assert ("list of processes" in result.stderr) == (way == "flag")
    assert TOKEN not in result.output


def test_the_networks_token_goes_along(run: Run, serve: Serve, state_dir: str) -> None:
    asked = serve(answering(ANSWER))
    run("node", "pause", URL, "--state-dir", state_dir, "--token", "abcdefghij0123456789")
    assert asked[0].headers["authorization"] == "Bearer abcdefghij0123456789"


def test_over_plain_http_the_token_is_sent_only_if_the_node_asks_for_it(
    run: Run, serve: Serve, state_dir: str
) -> None:
    refusal = refusing("not-operator", 403, "this is for the node's operator")
    asked = serve(lambda r: answering(ANSWER)(r) if "p2pfl-control" in r.headers else refusal(r))
    result = run("node", "pause", "http://192.0.2.1:8470", "--state-dir", state_dir)
    assert (result.exit_code, "in the clear" in result.stderr) == (0, True)
    assert ["p2pfl-control" in request.headers for request in asked] == [False, True]
    asked = serve(lambda _: httpx.Response(200, text="hello"))
    assert run("node", "pause", "http://192.0.2.1:8470", "--state-dir", state_dir).exit_code == 1
    assert ["p2pfl-control" in request.headers for request in asked] == [False]


# -- what is printed


@pytest.mark.parametrize(
    ("command", "answer", "printed"),
    [
        ("pause", {"state": "paused"}, "paused after round 7\n"),
        ("pause", {"state": "training"}, "pauses when what is under way has ended\n"),
        ("pause", {"state": "done"}, "it is done, and trains no more anyway\n"),
        ("resume", {}, "goes on after round 7\n"),
        ("stop", {"stopping": True}, "says farewell, saves its state and ends\n"),
    ],
)
def test_what_comes_of_it_is_one_line(
    run: Run, serve: Serve, state_dir: str, command: str, answer: dict[str, object], printed: str
) -> None:
    serve(answering(ANSWER | answer, 202 if command == "stop" else 200))
    assert run("node", command, URL, "--state-dir", state_dir).stdout == printed


def test_set_prints_what_holds_and_from_when(run: Run, serve: Serve, state_dir: str) -> None:
    serve(
        answering(
            ANSWER
            | {"settings": SETTINGS | {"lr": 0.05, "local_steps": 5, "local_epochs": None}, "kept": False}
            | {"warnings": ["too few\x1b[31m models"], "paused": True}
        )
    )
    result = run("node", "set", URL, "--lr", "0.05", "--state-dir", state_dir)
    assert result.stdout.splitlines() == [
        "lr            0.05  from the next round",
        "local-steps   5  from the next round",
        "batch-size    32",
        "fanout        2",
        "merge         mean",
        "paused",
    ]
    assert result.stderr.splitlines() == [
        "p2pfl: warning: too few\N{REPLACEMENT CHARACTER}[31m models",
        "p2pfl: warning: a restart forgets this: the node has no --state-dir, or cannot write to it",
    ]


# -- what goes wrong


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_token_nothing_is_asked(run: Run, serve: Serve, command: list[str]) -> None:
    asked = serve(answering(ANSWER))
    result = run("node", *command, URL)
    assert (result.exit_code, asked) == (2, [])
    assert "--control-token-file" in error_line(result)
    assert "P2PFL_CONTROL_TOKEN" in error_line(result)


def test_a_folder_without_token_and_two_places_at_once(
    run: Run, serve: Serve, state_dir: str, tmp_path: Path
) -> None:
    serve(answering(ANSWER))
    result = run("node", "pause", URL, "--state-dir", str(tmp_path / "none"))
    assert (result.exit_code, "there is no operator's token in" in error_line(result)) == (1, True)
    result = run("node", "pause", URL, "--state-dir", state_dir, "--control-token-file", "x")
    assert (result.exit_code, "not both" in error_line(result)) == (2, True)


def test_set_without_settings_says_which_there_are(run: Run, state_dir: str) -> None:
    result = run("node", "set", URL, "--state-dir", state_dir)
    assert result.exit_code == 2
    assert "--lr, --local-steps, --local-epochs, --batch-size, --fanout, --merge" in error_line(result)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        ("not-operator", 403, 1),
        ("bad-setting", 422, 2),
        ("too-many-requests", 429, 1),
        ("no-such-route", 404, 1),
        ("no-certificate", 403, 1),
    ],
)
def test_a_refusal_is_one_line_with_its_exit_code(
    run: Run, serve: Serve, state_dir: str, command: list[str], reason: str, status: int, code: int
) -> None:
    serve(refusing(reason, status, "because of this"))
    result = run("node", *command, URL, "--state-dir", state_dir)
    assert (result.exit_code, error_line(result)) == (code, f"{URL} refused: because of this")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_node_that_does_not_answer_is_one_line(
    run: Run, serve: Serve, state_dir: str, command: list[str]
) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    serve(handler)
    result = run("node", *command, URL, "--state-dir", state_dir)
    assert (result.exit_code, "cannot be reached" in error_line(result)) == (1, True)


@pytest.mark.parametrize("answer", [[], {}, "x", {"state": "training"}])
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_node_is_one_line(
    run: Run, serve: Serve, state_dir: str, command: list[str], answer: object
) -> None:
    serve(answering(answer))
    result = run("node", *command, URL, "--state-dir", state_dir)
    assert (result.exit_code, "holds something else" in error_line(result)) == (1, True)

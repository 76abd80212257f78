"""`p2pfl node status`: a node's answer shown, and one line for everything that is no node."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from cli import asking, status
from p2pfl.errors import BadAnswer, ConfigError, Unreachable
from p2pfl.network import problems
from tests.cli.outcome import Run, error_line

URL = "http://127.0.0.1:8470"

ANSWER: dict[str, Any] = {
    "id": "0123abcd",
    "name": "kitchen",
    "round": 3,
    "age": 4311.0,
    "loss": 0.123456,
    "accuracy": 0.95,
    "state": "training",
    "task": "digits",
    "data_fingerprint": "ff" * 16,
    "peers": [
        {
            "id": "beef",
            "url": "http://10.0.0.1:8470",
            "state": "live",
            "bytes_in": 12_300_000,
            "bytes_out": 34_560_000,
        },
        {"id": "cafe", "url": "http://10.0.0.2:8470", "state": "unreachable", "bytes_in": 0, "error": None},
    ],
    "rejected": {"wrong-task": 2, "truncated": 1},
}

STORAGE: dict[str, Any] = {"round": 3, "failures": 0, "problem": "", "lost_lines": 0, "damaged": []}

NO_SUCH_ROUTE = httpx.Response(404, content=problems.encode("no-such-route", 404, "no such path"))

Serve = Callable[..., None]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """serve(handler): from now on the command's requests are answered by `handler`."""
    real = status.fetch

    def install(handler: Callable[[httpx.Request], httpx.Response]) -> None:
        transport = httpx.MockTransport(handler)
        monkeypatch.setattr(status, "fetch", lambda url, shown: real(url, shown, transport))

    return install


def answering(response: httpx.Response) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: response


def test_asks_for_v1_status(run: Run, serve: Serve) -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url}")
        return httpx.Response(200, json=ANSWER)

    serve(handler)
    for url in (URL, URL + "/", "127.0.0.1:8470"):
        assert run("node", "status", url).exit_code == 0
    assert asked == [f"GET {URL}/v1/status"] * 3


def test_json_is_the_nodes_own(run: Run, serve: Serve) -> None:
    serve(answering(httpx.Response(200, json=ANSWER)))
    result = run("node", "status", URL, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == ANSWER
    assert result.stderr == ""


def test_table_shows_figures_peers_and_refusals(run: Run, serve: Serve) -> None:
    serve(answering(httpx.Response(200, json=ANSWER)))
    shown = run("node", "status", URL).stdout
    words = shown.split()
    for word in (
        "training",
        "kitchen",
        "0.1235",
        "0.95",
        "live",
        "unreachable",
        "http://10.0.0.1:8470",
        "12.3/34.6",
    ):
        assert any(word in each for each in words), word
    assert "wrong-task 2, truncated 1" in shown
    assert "2 peers" in shown
    assert "unverified" not in shown


def test_the_root_of_several_tasks_lists_them(run: Run, serve: Serve) -> None:
    tasks = [
        {"name": "digits", "url": f"{URL}/tasks/digits", "state": "training", "round": 3, "accuracy": 0.91,
         "peers": 2, "failure": ""},
        {"name": "x-rays", "url": f"{URL}/tasks/x-rays", "state": "failed", "round": 0, "accuracy": None,
         "peers": 0, "failure": "no \x1bsuch file"},
    ]  # fmt: skip
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, json=tasks) if request.url.path == "/tasks" else NO_SUCH_ROUTE

    serve(handler)
    shown = run("node", "status", URL).stdout
    assert [line.split() for line in shown.splitlines()[:3]] == [
        ["task", "url", "state", "round", "accuracy", "peers"],
        ["digits", f"{URL}/tasks/digits", "training", "3", "0.91", "2"],
        ["x-rays", f"{URL}/tasks/x-rays", "failed", "0", "-", "0"],
    ]
    assert shown.splitlines()[3].startswith("x-rays failed: no ")
    assert "\x1b" not in shown
    assert asked == ["/v1/status", "/tasks"]
    assert json.loads(run("node", "status", URL, "--json").stdout) == {"tasks": tasks}


def test_one_of_several_tasks_is_asked_at_its_own_address(run: Run, serve: Serve) -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return NO_SUCH_ROUTE

    serve(handler)
    assert run("node", "status", f"{URL}/tasks/digits/").exit_code == 1
    assert asked == ["/tasks/digits/v1/status"]


@pytest.mark.parametrize("answer", ["[3]", "{}", "no", "[" * 100_000])
def test_a_list_of_tasks_that_is_none(run: Run, serve: Serve, answer: str) -> None:
    serve(lambda request: httpx.Response(200, text=answer) if request.url.path == "/tasks" else NO_SUCH_ROUTE)
    result = run("node", "status", URL)
    assert result.exit_code == 1
    assert f"{URL} is not a node: /tasks " in error_line(result)


def test_table_names_those_that_do_not_sign(run: Run, serve: Serve) -> None:
    peers = [
        {"id": "k1", "name": "ann", "url": "http://10.0.0.1:8470", "state": "live", "verified": True},
        {"id": "id2", "name": "bob", "url": "http://10.0.0.2:8470", "state": "live", "verified": False},
        {"id": "id3", "name": "", "url": "http://10.0.0.3:8470", "state": "unreachable", "verified": False},
        {"id": "", "name": "", "url": "http://10.0.0.4:8470", "state": "new", "verified": False},
    ]
    answer = {**ANSWER, "peers": peers, "unverified": ["id2", "id\x1b9"]}
    serve(answering(httpx.Response(200, json=answer)))
    (line,) = [row for row in run("node", "status", URL).stdout.splitlines() if "unverified" in row]
    assert line.startswith("unverified: bob, id3, id")
    assert "\x1b" not in line


def test_table_says_that_a_robust_rule_had_too_few_models(run: Run, serve: Serve) -> None:
    serve(answering(httpx.Response(200, json=ANSWER | {"merge": "krum:f=2\x1b", "kept_own": 7})))
    (line,) = [row for row in run("node", "status", URL).stdout.splitlines() if row.startswith("merge ")]
    assert line.startswith("merge krum:f=2")
    assert line.endswith(": too few models, own weights kept 7 times")
    assert "\x1b" not in line
    serve(answering(httpx.Response(200, json=ANSWER | {"merge": "krum:f=2", "kept_own": 0})))
    assert "too few" not in run("node", "status", URL).stdout


def test_table_of_a_node_that_has_nothing_yet(run: Run, serve: Serve) -> None:
    empty = ANSWER | {"loss": None, "peers": [], "rejected": {}}
    serve(answering(httpx.Response(200, json=empty)))
    shown = run("node", "status", URL).stdout
    assert "no peers" in shown
    assert "none" in shown


def test_table_of_a_node_with_one_peer(run: Run, serve: Serve) -> None:
    serve(answering(httpx.Response(200, json=ANSWER | {"peers": ANSWER["peers"][:1]})))
    assert "1 peer:" in run("node", "status", URL).stdout.splitlines()


def test_table_defuses_what_a_terminal_would_obey(run: Run, serve: Serve) -> None:
    hostile = ANSWER | {"name": "\x1b[2J[red]x[/red]\n\r", "peers": [{"\x1b]0;title\x07": "\x1b[31m"}]}
    serve(answering(httpx.Response(200, json=hostile)))
    shown = run("node", "status", URL).stdout
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "[red]x[/red]" in shown


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (httpx.Response(404, text="not found"), "is not a node: /v1/status answers 404"),
        (
            httpx.Response(302, headers={"location": "http://elsewhere:1/"}),
            "is not a node: /v1/status answers 302",
        ),
        (httpx.Response(200, text="<html>"), "is not a node: /v1/status is not JSON"),
        (httpx.Response(200, content=b"\xff\xfe"), "is not a node: /v1/status is not JSON"),
        (httpx.Response(200, text="[" * 100_000), "is not a node: /v1/status is not JSON"),
        (httpx.Response(200, json=[1]), "is not a node: /v1/status holds something else"),
        (httpx.Response(200, json={"state": "done"}), "is not a node: /v1/status holds something else"),
        (
            httpx.Response(200, json={"state": "done", "peers": 3}),
            "is not a node: /v1/status holds something else",
        ),
    ],
)
def test_what_is_no_node_is_one_line(run: Run, serve: Serve, response: httpx.Response, message: str) -> None:
    serve(answering(response))
    result = run("node", "status", URL)
    assert result.exit_code == 1
    assert error_line(result) == f"{URL} {message}"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (httpx.ConnectError("refused"), Unreachable, "cannot be reached: refused; is a node running there"),
        (httpx.ConnectTimeout("slow"), Unreachable, "does not answer within 5 seconds"),
        (httpx.ReadTimeout("slow"), Unreachable, "does not answer within 5 seconds"),
        (httpx.RemoteProtocolError("SSH-2.0"), BadAnswer, r"does not speak HTTP \(SSH-2.0\)"),
    ],
)
def test_failures_on_the_way(error: Exception, kind: type[Exception], message: str) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(kind, match=message):
        status.fetch(URL, transport=httpx.MockTransport(handler))


def test_endless_answer_is_cut_off() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * 65536

    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=endless())

    with pytest.raises(BadAnswer, match="does not end"):
        status.fetch(URL, transport=httpx.MockTransport(handler))


def test_answer_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def drip() -> Iterator[bytes]:
        while True:
            now[0] += 1
            yield b" "

    monkeypatch.setattr("cli.asking.time.monotonic", lambda: now[0])
    with pytest.raises(BadAnswer, match="does not end"):
        status.fetch(URL, transport=httpx.MockTransport(lambda _: httpx.Response(200, content=drip())))
    assert now[0] <= asking.TIMEOUT + 1


@pytest.mark.parametrize(
    "url", ["http://a..b:1", "http://.:1", "http://a\x00b:1", "http://xn--\x80:1", "http://[v1.x]:1"]
)
def test_impossible_host_is_a_usage_error(run: Run, url: str) -> None:
    result = run("node", "status", url)
    assert result.exit_code == 2
    assert "is not http://HOST:PORT" in error_line(result)


@pytest.mark.parametrize("url", ["", "node", "ftp://a:1", "http://a", "http://a:1/v1/status", "a:b"])
def test_garbage_for_a_url_is_a_usage_error(run: Run, url: str) -> None:
    result = run("node", "status", url)
    assert result.exit_code == 2
    assert "is not http://HOST:PORT" in error_line(result)
    with pytest.raises(ConfigError):
        asking.parse_url(url)


@pytest.mark.parametrize(
    ("storage", "shown", "hidden"),
    [
        (None, [], ["saved"]),
        (STORAGE, ["saved: round 3\n"], ["not saved", "journal", "damaged"]),
        (STORAGE | {"round": None, "lost_lines": 2}, ["nothing is saved\n", "journal: 2 lines could"], []),
        (
            STORAGE | {"failures": 4, "problem": "No space left on device"},
            ["saved: round 3\n", "not saved since: No space left on device (4 times)\n"],
            [],
        ),
        (
            STORAGE
            | {"damaged": ["state.db: file is not a\x1b[31m database", "checkpoint-2.safetensors: empty"]},
            [
                "set aside: state.db: file is not a\N{REPLACEMENT CHARACTER}[31m database\n",
                "aside: checkpoint-2",
            ],
            ["not saved"],
        ),
        ("nonsense", [], ["saved"]),
        ({"damaged": 3}, ["nothing is saved"], []),
    ],
)
def test_what_became_of_the_state_is_shown(
    run: Run, serve: Serve, storage: object, shown: list[str], hidden: list[str]
) -> None:
    serve(answering(httpx.Response(200, json=ANSWER | {"storage": storage})))
    output = run("node", "status", URL).output
    assert all(text in output for text in shown)
    assert not any(text in output for text in hidden)

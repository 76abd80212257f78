"""Who is let in, and who is told what, when a node has a token or speaks TLS: on real sockets.

Each defence of SECURITY.md that is about connections and requests has its test here.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing
from starlette.types import Receive, Scope, Send

from p2pfl.errors import BadAnswer, HandshakeFailed, PlainHttp, Refused, Unreachable
from p2pfl.network import server, tls
from p2pfl.network.app import ASGIApp
from p2pfl.network.client import PeerClient
from p2pfl.network.presenting import PresentingTransport
from p2pfl.network.security import OPEN, Security
from p2pfl.network.server import HttpNetwork
from p2pfl.network.tls import Tls
from p2pfl.network.transport import TcpTransport
from tests.p2pfl.network import certified
from tests.p2pfl.network.certified import OTHER, SECRET, TOKEN, Files
from tests.p2pfl.network.sites import (
    BIG,
    LAYOUT,
    TASK,
    Site,
    Watched,
    app_of,
    body,
    call,
    frame,
    hello_body,
    pieces,
)
from tests.p2pfl.network.test_server import connected, get, post

PAGES = ("/v1/status", "/v1/peers", "/v1/history", "/v1/layout", "/readyz", "/metrics")
GUARDED = (*PAGES, "/v1/events", "/v1/model", "/v1/nothing")


@asynccontextmanager
async def guarding(app: ASGIApp, security: Security) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(HttpNetwork("127.0.0.1:0", None, security).serve, app)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def calling(security: Security) -> AsyncIterator[PeerClient]:
    """A node's client."""
    client = PeerClient(HttpNetwork("127.0.0.1:0", None, security).transport(), TASK, LAYOUT)
    with trio.fail_after(20):
        try:
            yield client
        finally:
            await client.aclose()


class Papers:
    """One network's authority and two of its nodes; and a stranger with an authority of his own."""

    def __init__(self, folder: Path) -> None:
        self.ca = certified.authority(folder)
        self.bob = certified.node(folder, self.ca, "bob")
        self.ann = certified.node(folder, self.ca, "ann")
        self.elsewhere = certified.node(folder, self.ca, "elsewhere", ["other.example"])
        self.eve = certified.node(folder, certified.authority(folder, "evil"), "eve")

    def security(self, files: Files, *, public: bool = False) -> Security:
        return Security(tls=Tls.load(*files, optional=public), public_status=public)

    def context(self, shown: Files | None, *, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """A foreign client's, that trusts our authority."""
        context = ssl.create_default_context(cafile=str(self.bob.ca))
        if shown is not None:
            context.load_cert_chain(shown.cert, shown.key)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


# ---- a token ----


async def test_without_the_token_nothing_is_answered_but_that_the_node_is_alive() -> None:
    site = Site()
    async with guarding(app_of(site), Security(token=TOKEN)) as url, connected(url) as line:
        for path in GUARDED:
            await line.send(get(path))
            response = await line.response()
            assert (response.status, response.reason) == (401, "unauthorised"), path
            assert response.headers["www-authenticate"] == "bearer"
        await line.send(get("/healthz"))
        assert (await line.response()).status == 200
    assert site.reasons == ["unauthorised"] * len(GUARDED)


@pytest.mark.parametrize("header", [b"Bearer wrong", b"Basic x", b"", b"Bearer \xff", OTHER.header.encode()])
async def test_another_token_is_none(header: bytes) -> None:
    async with guarding(app_of(Site()), Security(token=TOKEN)) as url, connected(url) as line:
        await line.send(get("/v1/model", b"authorization: " + header + b"\r\n"))
        response = await line.response()
        assert response.reason == "unauthorised"
        assert SECRET.encode() not in response.body


async def test_a_body_without_the_token_is_not_read() -> None:
    """The application never sees the request: what is not asked for is not decoded."""
    site = Site()
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])
        await app_of(site)(scope, receive, send)

    async with guarding(app, Security(token=TOKEN)) as url, connected(url) as line:
        await line.send(post(body()[:50], length=len(body())))
        response = await line.response()
        assert (response.status, response.headers["connection"]) == (401, "close")
    assert seen == ["p2pfl.refused"]
    assert site.models == []


async def test_nodes_with_one_token_talk() -> None:
    site = Site()
    async with guarding(app_of(site), Security(token=TOKEN)) as url, calling(Security(token=TOKEN)) as peers:
        await peers.hello(url, hello_body("ann"))
        assert (await peers.push(url, frame("ann", reply=True))).model is not None
        assert (await peers.pull(url, None))[0].model is not None
    assert len(site.models) == 1
    assert site.rejected == []


@pytest.mark.parametrize("security", [OPEN, Security(token=OTHER)], ids=["none", "another"])
async def test_a_node_without_the_token_is_told_what_to_do(security: Security) -> None:
    site = Site()
    async with guarding(app_of(site), Security(token=TOKEN)) as url, calling(security) as peers:
        with pytest.raises(
            Refused, match=r"asks for a token; give --token-file|nodes of a network need the same"
        ):
            await peers.hello(url, hello_body("ann"))
    assert site.reasons == ["unauthorised"]
    assert site.hellos == []


async def test_a_node_that_asks_nobody_for_the_token_is_not_believed() -> None:
    """Its view may hold addresses that strangers announced, to have our token sent to them."""
    site = Site()
    async with guarding(app_of(site), OPEN) as url, calling(Security(token=TOKEN)) as peers:
        for ask in (
            peers.hello(url, hello_body("ann")),
            peers.pull(url, None),
            peers.push(url, frame("ann")),
        ):
            with pytest.raises(
                BadAnswer, match="strangers can speak through it; start it with the same --token"
            ):
                await ask


async def test_a_stranger_who_announces_an_address_gets_no_token() -> None:
    """His hello is refused before anybody reads which address it names; so nobody calls it."""
    site = Site()
    async with guarding(app_of(site), Security(token=TOKEN)) as url, calling(OPEN) as stranger:
        with pytest.raises(Refused):
            await stranger.hello(url, hello_body("eve"))
        with pytest.raises(Refused):
            await stranger.push(url, frame("eve"))
    assert (site.hellos, site.models) == ([], [])


async def test_pages_are_open_with_public_status_and_nothing_else() -> None:
    site = Site()
    security = Security(token=TOKEN, public_status=True)
    async with guarding(app_of(site), security) as url, connected(url) as line:
        for path in PAGES:
            await line.send(get(path))
            assert (await line.response()).status == 200, path
        for refused in (get("/v1/model"), get("/v1/nothing"), b"PUT" + get("/v1/status")[3:]):
            await line.send(refused)
            assert (await line.response()).status == 401
        await line.send(post(body()))
        assert (await line.response()).status == 401
    assert site.models == []


async def test_the_token_is_in_no_log_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    with caplog.at_level(logging.DEBUG):
        async with guarding(app_of(site), Security(token=TOKEN)) as url:
            async with calling(Security(token=TOKEN)) as peers:
                await peers.hello(url, hello_body("ann"))
            async with connected(url) as line:
                await line.send(get("/v1/model", f"authorization: Basic {SECRET}\r\n".encode()))
                answer = await line.response()
        async with guarding(app_of(site), OPEN) as url, calling(Security(token=TOKEN)) as peers:
            with pytest.raises(BadAnswer) as caught:
                await peers.hello(url, hello_body("ann"))
    shown = (
        caplog.text + str(caught.value) + str(answer) + "".join(str(error) for error, _, _ in site.rejected)
    )
    assert SECRET not in shown


async def test_a_token_in_the_clear_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["authorization"])
        return httpx.Response(204, headers={"authentication-info": "token=required"})

    transport = PresentingTransport(httpx.MockTransport(answer), Security(token=TOKEN))
    for url in ("http://127.0.0.1:1/", "https://192.0.2.1:1/"):
        await transport.handle_async_request(httpx.Request("GET", url))
    assert not caplog.records
    for url in ("http://192.0.2.1:1/", "http://192.0.2.2:1/"):
        await transport.handle_async_request(httpx.Request("GET", url))
    assert len(caplog.records) == 1
    assert "the token goes to http://192.0.2.1:1 in the clear" in caplog.text
    assert asked == [TOKEN.header] * 4


# ---- TLS ----


async def test_nodes_of_one_authority_talk(papers: Papers) -> None:
    site = Site(layout=BIG)
    bob, ann = papers.security(papers.bob), papers.security(papers.ann)
    async with guarding(app_of(site), bob) as url:
        assert url.startswith("https://127.0.0.1:")
        client = PeerClient(HttpNetwork("127.0.0.1:0", None, ann).transport(), TASK, BIG)
        for _ in range(3):  # on one connection
            assert (await client.push(url, frame("ann", reply=True, layout=BIG))).model is not None
        await client.aclose()
    assert len(site.models) == 3
    assert site.rejected == []


async def test_hypercorn_tells_the_application_that_it_is_https(papers: Papers) -> None:
    schemes: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        schemes.append(scope["scheme"])
        await app_of(Site())(scope, receive, send)

    async with (
        guarding(app, papers.security(papers.bob)) as url,
        calling(papers.security(papers.ann)) as peers,
    ):
        await peers.hello(url, hello_body("ann"))
    assert schemes == ["https"]


Client = Callable[[Papers], Security]
STRANGERS: dict[str, tuple[Client, str]] = {
    "another authority": (
        lambda papers: Security(tls=foreign(papers.eve, papers.bob)),
        "does not know the authority of our certificate",
    ),
    "no certificate": (
        lambda papers: Security(tls=foreign(None, papers.bob)),
        "takes no client without a certificate; give --tls-cert",
    ),
    "another authority on both sides": (
        lambda papers: papers.security(papers.eve),
        "its certificate is of another authority; use one --tls-ca on all nodes",
    ),
}


def foreign(shown: Files | None, trusted: Files) -> Tls:
    """TLS that our own start would refuse."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(trusted.ca)
    if shown is not None:
        context.load_cert_chain(shown.cert, shown.key)
    return Tls(context, context, ())


@pytest.mark.parametrize(("client", "words"), STRANGERS.values(), ids=STRANGERS)
async def test_a_client_without_a_certificate_of_ours_is_refused_counted_and_told(
    client: Client, words: str, papers: Papers, caplog: pytest.LogCaptureFixture
) -> None:
    site = Watched()
    async with guarding(app_of(site), papers.security(papers.bob)) as url, calling(client(papers)) as peers:
        with pytest.raises(Unreachable, match=words):
            await peers.hello(url, hello_body("eve"))
        assert isinstance(await site.refused(), HandshakeFailed)
        assert [source for _, source, _ in site.rejected] == ["127.0.0.1"]
        async with calling(papers.security(papers.ann)) as others:
            await others.hello(url, hello_body("ann"))
    assert [each.sender.id for each, _, _ in site.hellos] == ["ann"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    """It was good when the node started: long-lived nodes meet those that ran out."""
    ca = certified.authority(tmp_path, ago=9)
    bob, old = certified.node(tmp_path, ca, "bob"), certified.node(tmp_path, ca, "old", days=3, ago=9)
    site = Watched()
    async with guarding(app_of(site), Security(tls=Tls.load(*bob))) as url:
        async with calling(Security(tls=foreign(old, bob))) as peers:
            with pytest.raises(Unreachable, match="says that our certificate has expired"):
                await peers.hello(url, hello_body("old"))
        assert "expired" in str(await site.refused())


async def test_a_peer_is_who_its_host_says(papers: Papers) -> None:
    """A certificate of our authority for another host: perhaps somebody took over the address."""
    site = Watched()
    async with (
        guarding(app_of(site), papers.security(papers.elsewhere)) as url,
        calling(papers.security(papers.ann)) as peers,
    ):
        with pytest.raises(Unreachable, match="for another host; issue it with --host"):
            await peers.hello(url, hello_body("ann"))
    assert site.hellos == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_other_clients_with_a_certificate_are_served(papers: Papers, version: ssl.TLSVersion) -> None:
    context = papers.context(papers.ann, version=version)
    async with guarding(app_of(Site()), papers.security(papers.bob)) as url:
        transport = TcpTransport(context)
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            assert (await client.get(f"{url}/v1/layout")).json()["fingerprint"] == LAYOUT.fingerprint


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_old_tls_is_not_spoken(papers: Papers) -> None:
    context = papers.context(papers.ann, version=ssl.TLSVersion.TLSv1_1)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    site = Watched()
    async with guarding(app_of(site), papers.security(papers.bob)) as url:
        request = httpx.Request("GET", f"{url}/healthz", extensions={})
        with pytest.raises(httpx.ConnectError):
            await TcpTransport(context).handle_async_request(request)
        assert isinstance(await site.refused(), HandshakeFailed)


async def test_plain_http_is_told_to_use_tls_and_gets_nothing(papers: Papers) -> None:
    site = Watched()
    async with guarding(app_of(site), papers.security(papers.bob, public=True)) as url:
        plain = url.replace("https:", "http:")
        for data in (get("/healthz"), post(body())):
            async with connected(plain) as line:
                await line.send(data)
                response = await line.response()
                assert (response.status, response.reason) == (400, "plain-http")
        async with calling(OPEN) as peers:
            with pytest.raises(Refused, match="speaks TLS only; call https://"):
                await peers.hello(plain, hello_body("ann"))
    assert site.reasons == ["plain-http"] * 3
    assert site.models == []


async def test_a_node_with_tls_calls_no_plain_address(papers: Papers) -> None:
    site = Site()
    async with guarding(app_of(site), OPEN) as url, calling(papers.security(papers.ann)) as peers:
        with pytest.raises(
            PlainHttp, match="is plain HTTP, and this node speaks TLS only; start that one with TLS"
        ):
            await peers.hello(url, hello_body("ann"))
    assert site.hellos == []


async def test_a_server_without_tls_is_unreachable_over_https(papers: Papers) -> None:
    async with guarding(app_of(Site()), OPEN) as url, calling(papers.security(papers.ann)) as peers:
        with pytest.raises(Unreachable, match="does not speak TLS; start it with --tls-cert"):
            await peers.hello(url.replace("http:", "https:"), hello_body("ann"))


@pytest.mark.parametrize("start", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["silent", "half a hello"])
async def test_a_slow_handshake_is_given_up_and_counted(
    start: bytes, papers: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HANDSHAKE", 0.01)
    site = Watched()
    async with guarding(app_of(site), papers.security(papers.bob)) as url, connected(url) as line:
        await line.send(start)
        assert await line.ended()
        assert "took longer than" in str(await site.refused())


async def test_handshakes_count_as_connections(papers: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(server, "RESERVED_CONNECTIONS", 0)
    bob = papers.security(papers.bob)
    async with guarding(app_of(Site()), bob) as url, connected(url), connected(url) as second:
        assert await second.ended()


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x00\x05hello", b"\x00" * 100, b"\x16\x03\x01\xff\xff" + b"\xff" * 70_000]
)
async def test_nonsense_for_a_handshake(
    data: bytes, papers: Papers, caplog: pytest.LogCaptureFixture
) -> None:
    site = Watched()
    async with guarding(app_of(site), papers.security(papers.bob)) as url, connected(url) as line:
        await line.send(data)
        assert isinstance(await site.refused(), HandshakeFailed)
    assert not caplog.records


async def test_nonsense_inside_tls_ends_that_connection_alone(
    papers: Papers, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that is in, and then breaks TLS itself."""
    site = Site()
    async with guarding(app_of(site), papers.security(papers.bob)) as url:
        port = int(url.rpartition(":")[2])
        raw = await trio.open_tcp_stream("127.0.0.1", port)
        secure = trio.SSLStream(raw, papers.context(papers.ann), server_hostname="127.0.0.1")
        await secure.do_handshake()
        await raw.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        with trio.fail_after(20):
            while True:
                try:
                    if not await raw.receive_some():
                        break
                except trio.BrokenResourceError:
                    break
        await trio.aclose_forcefully(raw)
        async with calling(papers.security(papers.ann)) as peers:
            await peers.hello(url, hello_body("ann"))
    assert not caplog.records


async def test_pages_without_a_certificate_with_public_status(papers: Papers) -> None:
    site = Site()
    async with guarding(app_of(site), papers.security(papers.bob, public=True)) as url:
        transport = TcpTransport(papers.context(None))
        async with httpx.AsyncClient(transport=transport, trust_env=False) as stranger:
            for path in (*PAGES, "/healthz"):
                assert (await stranger.get(f"{url}{path}")).status_code == 200, path
            for refused in (
                await stranger.get(f"{url}/v1/model"),
                await stranger.post(f"{url}/v1/exchange", content=body()),
                await stranger.post(f"{url}/v1/status"),
            ):
                assert refused.status_code == 403
                assert refused.json()["type"] == "urn:p2pfl:no-certificate"
        async with calling(papers.security(papers.ann)) as peers:
            await peers.push(url, frame("ann"))
    assert site.reasons == ["no-certificate"] * 3
    assert len(site.models) == 1


async def test_a_bad_certificate_is_not_forgiven_by_public_status(papers: Papers) -> None:
    site = Watched()
    async with guarding(app_of(site), papers.security(papers.bob, public=True)) as url:
        transport = TcpTransport(foreign(papers.eve, papers.bob).client)
        with pytest.raises(httpx.ConnectError):
            await transport.handle_async_request(httpx.Request("GET", f"{url}/v1/status"))
        assert isinstance(await site.refused(), HandshakeFailed)


async def test_token_and_certificate_are_both_asked_for(papers: Papers) -> None:
    both = Security(tls=papers.security(papers.bob).tls, token=TOKEN)
    async with guarding(app_of(Site()), both) as url:
        async with calling(papers.security(papers.ann)) as peers:
            with pytest.raises(Refused, match="asks for a token"):
                await peers.hello(url, hello_body("ann"))
        async with calling(Security(tls=papers.security(papers.ann).tls, token=TOKEN)) as peers:
            await peers.hello(url, hello_body("ann"))


async def test_shutdown_waits_for_no_handshake(papers: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE", 0.01)
    site = Site()
    with trio.fail_after(20):
        async with guarding(app_of(site), papers.security(papers.bob)) as url:
            silent = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
            await trio.testing.wait_all_tasks_blocked(0.01)
        await silent.aclose()
    assert site.rejected == []


def test_every_usual_failure_has_its_words() -> None:
    assert tls.explain(ValueError("nothing of ours")) == ""
    assert tls.explain_client(ValueError()) == "the client left"


async def test_the_simulated_network_asks_nobody() -> None:
    """Gate and token belong to real networks: the application itself is the same everywhere."""
    answer = await call(app_of(Site()), "POST", "/v1/exchange", pieces(body(), 100))
    assert answer.status == 204

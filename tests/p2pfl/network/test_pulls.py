"""Who asks for a model may say so, in a header: what is made of it, and what is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable

import pytest

from p2pfl.errors import PeerError, SignatureRequired
from p2pfl.gossip.codec import MAX_PULL, encode_pull, pull_header
from p2pfl.gossip.identity import Identity
from p2pfl.gossip.messages import Pull
from tests.p2pfl.gossip.packing import envelope, hello, keyed, public, signed
from tests.p2pfl.network.sites import Answer, Site, app_of, body, call, hello_body, pieces

ANN = Identity(bytes(range(32)))
NONCE = bytes(range(16))


def pull(**changes: object) -> dict[str, object]:
    """The entries of a signed pull before `sig`."""
    entries: dict[str, object] = {
        "v": 1,
        "kind": "pull",
        "id": keyed(public(bytes(range(32)))),
        "nonce": NONCE,
    }
    return {**entries, **envelope(), **changes}


def asked(site: Site, header: str | None, method: str = "GET") -> Awaitable[Answer]:
    headers = [] if header is None else [("p2pfl-pull", header)]
    return call(app_of(site), method, "/v1/model", headers=headers)


async def test_who_asks_is_told_to_the_service() -> None:
    site, frame = Site(), encode_pull(Pull(ANN.id, NONCE, ANN.envelope("bob")), ANN.sign)
    assert (await asked(site, pull_header(frame))).status == 200
    assert (await asked(site, None)).status == 200
    first, second = site.askers
    assert second is None
    assert first is not None
    assert (first.sender_id, first.nonce, first.envelope) == (
        ANN.id,
        NONCE,
        Identity(ANN.secret).envelope("bob"),
    )
    assert len(first.imprint) == 32


async def test_a_client_without_a_key_may_say_who_it_is_too() -> None:
    site = Site()
    assert (await asked(site, pull_header(encode_pull(Pull("n1", NONCE))))).status == 200
    assert site.askers[0] is not None
    assert (site.askers[0].sender_id, site.askers[0].envelope) == ("n1", None)


def of(entries: dict[str, object]) -> str:
    return pull_header(signed(list(entries.items())))


GOOD = signed(list(pull().items()))
HOSTILE = {
    "empty": ("", 400, "truncated"),
    "not base64": ("!", 400, "malformed"),
    "control codes": ("\x1b[2J", 400, "malformed"),
    "standard base64": (base64.b64encode(b"\xfb\xff" * 20).decode(), 400, "malformed"),
    "too long": ("A" * (MAX_PULL + 1), 413, "too-large"),
    "cut": (pull_header(GOOD[:-1]), 400, "truncated"),
    "byte behind": (pull_header(GOOD + b"!"), 400, "malformed"),
    "a model": (pull_header(body()), 400, "wrong-kind"),
    "a hello": (pull_header(hello_body()), 400, "wrong-kind"),
    "nonce of 15 bytes": (of(pull(nonce=bytes(15))), 400, "bad-field"),
    "nonce as text": (of(pull(nonce="x" * 16)), 400, "bad-field"),
    "no nonce": (of({key: value for key, value in pull().items() if key != "nonce"}), 400, "missing-field"),
    "no id": (of({key: value for key, value in pull().items() if key != "id"}), 400, "missing-field"),
    "flipped": (pull_header(GOOD.replace(b"bob", b"bop")), 400, "bad-checksum"),
    "not its signature": (pull_header(signed([*pull().items()], sig=bytes(64))), 403, "bad-signature"),
    "another id": (of(pull(id="mallory")), 403, "wrong-key"),
    "a key's id, unsigned": (
        pull_header(hello([*list(pull().items())[:4]])),
        403,
        "missing-signature",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_pull_is_refused_by_name(name: str) -> None:
    header, status, reason = HOSTILE[name]
    site = Site()
    answer = await asked(site, header)
    document = json.loads(answer.body)
    assert (answer.status, document["type"], site.reasons) == (status, f"urn:p2pfl:{reason}", [reason])
    assert document["detail"].isprintable()
    assert not site.askers
    assert not site.pulls


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_service_may_refuse(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Site, pull: Pull | None) -> None:
        raise SignatureRequired("who are you?")

    monkeypatch.setattr(Site, "snapshot", refuse)
    site = Site()
    answer = await asked(site, None, method)
    assert (answer.status, site.reasons) == (403, ["signature-required"])


async def test_a_head_that_is_not_admitted_is_refused_before_its_weights_are_read() -> None:
    class Stranger(PeerError):
        reason = "stranger"

    def refuse(head: object) -> None:
        raise Stranger("not you")

    site = Site(on_head=refuse)
    data = body()
    head_alone = pieces(data, len(data) - 20)[:1]  # then the client says nothing more
    answer = await call(app_of(site), "POST", "/v1/exchange", head_alone)
    assert (answer.status, site.reasons, answer.headers["connection"]) == (400, ["stranger"], "close")
    assert not site.models

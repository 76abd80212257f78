"""Nodes that sign, among themselves and among those that do not, and what others try on them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from p2pfl.errors import Refused
from p2pfl.events import Exchanged, Merged, PeerDropped, Rejected
from p2pfl.gossip.codec import MEDIA_TYPE
from p2pfl.gossip.identity import Identity
from p2pfl.network.client import PeerClient
from tests.p2pfl.network.sites import body, hello_body
from tests.p2pfl.village import LAYOUT, TASK, Village, Villager, living, until_done

pytestmark = pytest.mark.virtual

ANN, BOB, EVE = (Identity(bytes([number]) * 32).secret for number in range(3))


def of(secret: bytes, incarnation: int = 1) -> Identity:
    return Identity(secret, incarnation)


@asynccontextmanager
async def bob_was_there() -> AsyncIterator[tuple[Village, trio.Nursery, Villager, Villager]]:
    """Ann goes on living, Bob has gone without a word after both were done."""
    village = Village()
    a = village.villager(0, (1,), identity=of(ANN), rounds=1)
    b = village.villager(1, identity=of(BOB), rounds=1)
    async with living(village, a) as nursery:
        async with trio.open_nursery() as life:
            await life.start(b.node.run)
            await until_done(a, b)
            life.cancel_scope.cancel()
        yield village, nursery, a, b


def stranger(village: Village) -> PeerClient:
    return PeerClient(village.network.host(9).transport(), TASK, LAYOUT)


async def refusal(asking: object) -> str:
    with pytest.raises(Refused) as caught:
        await asking  # type: ignore[misc]
    return caught.value.cause


def outcomes(villager: Villager) -> set[str]:
    return {event.outcome for event in villager.events(Exchanged)}


def verified(villager: Villager) -> dict[str, bool]:
    return {peer["id"]: peer["verified"] for peer in villager.node.service.peers()}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("codec", ["f32", "f16+deflate"])
@pytest.mark.parametrize("mode", ["push", "pull", "push-pull"])
async def test_nodes_that_sign_understand_each_other(mode: str, codec: str, strict: bool) -> None:
    village = Village()
    config = {"gossip": mode, "codec": codec, "require_signed": strict, "rounds": 4}
    allowed = (of(ANN).id, of(BOB).id) if strict else None
    a = village.villager(0, (1,), identity=of(ANN), allowed=allowed, **config)
    b = village.villager(1, (0,), identity=of(BOB), allowed=allowed, seconds=1.1, **config)
    async with living(village, a, b):
        await until_done(a, b)
    assert outcomes(a) == outcomes(b) == {"ok"}
    assert a.events(Merged)
    assert b.events(Merged)
    assert not a.events(Rejected) + b.events(Rejected)
    assert (verified(a), verified(b)) == ({of(BOB).id: True}, {of(ANN).id: True})


@pytest.mark.parametrize("mode", ["push", "pull", "push-pull"])
async def test_who_does_not_sign_is_unverified_and_takes_part(mode: str) -> None:
    village = Village()
    a = village.villager(0, (1,), identity=of(ANN), gossip=mode)
    b = village.villager(1, (0,), gossip=mode, seconds=1.1)
    async with living(village, a, b):
        await until_done(a, b)
    assert outcomes(a) == outcomes(b) == {"ok"}
    assert (verified(a), verified(b)) == ({"id1": False}, {of(ANN).id: True})
    assert (a.status()["unverified"], b.status()["unverified"]) == (["id1"], [])
    assert (a.status()["signs"], b.status()["signs"]) == (True, False)
    assert a.events(Merged)
    assert b.events(Merged)


async def test_who_does_not_sign_is_refused_where_signatures_are_required() -> None:
    village = Village()
    a = village.villager(0, (1,), identity=of(ANN), require_signed=True)
    b = village.villager(1, (0,), seconds=1.1)
    async with living(village, a, b):
        await until_done(a, b)
        client, greeting = stranger(village), hello_body("eve", TASK, LAYOUT)
        assert await refusal(client.push(village.url(0), (body(), memoryview(b"")))) == "signature-required"
        assert await refusal(client.hello(village.url(0), greeting)) == "signature-required"
        assert await refusal(client.pull(village.url(0), None)) == "signature-required"
    assert not a.events(Merged) + b.events(Merged)
    for villager in (a, b):
        (peer,) = villager.node.service.peers()
        assert peer["state"] == "new"
        assert "which is required here" in peer["detail"]
    assert a.node.service.status()["rejected"]["signature-required"] > 3


async def test_who_is_not_on_the_list_is_refused() -> None:
    village = Village()
    friends = (of(ANN).id, of(BOB).id)
    a = village.villager(0, (1,), identity=of(ANN), allowed=friends)
    b = village.villager(1, (0, 2), identity=of(BOB), allowed=friends)
    eve = village.villager(2, (0, 1), identity=of(EVE))
    async with living(village, a, b, eve):
        await until_done(a, b, eve)
    assert not eve.events(Merged)
    assert a.events(Merged)
    assert {sender for event in a.events(Merged) + b.events(Merged) for sender in event.senders} == set(
        friends
    )
    assert a.node.service.status()["rejected"] == {"not-allowed": len(a.events(Rejected))}
    assert {peer["state"] for peer in eve.node.service.peers()} == {"new"}
    assert all("not on the list" in peer["detail"] for peer in eve.node.service.peers())


async def test_what_was_said_once_cannot_be_said_again_or_to_others() -> None:
    village = Village()
    a, b = village.villager(0, identity=of(ANN)), village.villager(1, identity=of(BOB))
    async with living(village, a, b):
        client, ann = stranger(village), a.node.gossip
        push = ann.frame(of(BOB).id)
        await client.push(village.url(1), push)
        assert await refusal(client.push(village.url(1), push)) == "replayed"
        greeting = ann.hello_frame(ann.hello())
        await client.hello(village.url(1), greeting)
        assert await refusal(client.hello(village.url(1), greeting)) == "replayed"
        pull = ann.pull_frame(of(BOB).id)
        await client.pull(village.url(1), None, pull)
        assert await refusal(client.pull(village.url(1), None, pull)) == "replayed"

        assert await refusal(client.push(village.url(0), ann.frame(of(BOB).id))) == "wrong-receiver"
        assert await refusal(client.push(village.url(1), ann.frame(""))) == "wrong-receiver"
        assert await refusal(client.pull(village.url(1), None, ann.pull_frame("eve"))) == "wrong-receiver"
        assert await refusal(client.push(village.url(1), ann.frame(of(BOB).id, b"x" * 32))) == "unasked"
        late = ann.frame(of(BOB).id)
        again = village.villager(2, identity=of(ANN, 2)).node.gossip  # the same node, started again
        await client.push(village.url(1), again.frame(of(BOB).id))
        assert await refusal(client.push(village.url(1), late)) == "replayed"
    counts = b.node.service.status()["rejected"]
    assert counts == {"replayed": 4, "unasked": 1, "wrong-receiver": 2}


async def test_a_frame_that_broke_off_may_come_again() -> None:
    village = Village()
    a, b = village.villager(0, identity=of(ANN)), village.villager(1, identity=of(BOB))
    async with living(village, a, b):
        client = stranger(village)
        head, weights = a.node.gossip.frame(of(BOB).id)
        assert await refusal(client.push(village.url(1), (head, weights[:-1]))) == "truncated"
        damaged = bytearray(weights)
        damaged[3] ^= 1
        assert await refusal(client.push(village.url(1), (head, memoryview(damaged)))) == "bad-checksum"
        await client.push(village.url(1), (head, weights))
    assert b.node.service.status()["rejected"] == {"bad-checksum": 1, "truncated": 1}


async def serve_recorded(village: Village, index: int, recorded: list[bytes], nursery: trio.Nursery) -> None:
    """At this address every request is answered with what was recorded last."""

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", MEDIA_TYPE.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": recorded[-1]})

    await nursery.start(village.network.host(index).serve, app)


@pytest.mark.parametrize(
    ("unsigned", "reason"), [(True, "missing-signature"), (False, "unasked")], ids=["unsigned", "recorded"]
)
async def test_another_in_a_verified_peers_place_is_found_out(unsigned: bool, reason: str) -> None:
    """The peer is gone and somebody else answers at its address: unsigned, or with what it said before."""
    async with bob_was_there() as (village, nursery, a, b):
        old = b.node.gossip.hello_frame(b.node.gossip.hello(), of(ANN).id, b"r" * 32)
        await serve_recorded(village, 1, [hello_body("bob", TASK, LAYOUT) if unsigned else old], nursery)
        courier = a.node._courier
        assert courier is not None
        (contact,) = a.node.gossip.view.contacts()
        assert not await courier.hello(contact)
        assert (contact.state, contact.verified, contact.id) == ("unreachable", True, of(BOB).id)
        assert a.node.service.status()["rejected"] == {reason: 1}


async def test_a_recorded_model_is_no_answer_to_another_request() -> None:
    async with bob_was_there() as (village, nursery, a, b):
        merges = len(a.events(Merged))
        old = b"".join(bytes(chunk) for chunk in b.node.gossip.frame(of(ANN).id, b"r" * 32))
        await serve_recorded(village, 1, [old], nursery)
        courier = a.node._courier
        assert courier is not None
        (contact,) = a.node.gossip.view.contacts()
        for mode in ("pull", "push-pull"):
            contact.state = "live"
            contact.etag = None
            await courier.exchange(contact, mode, 5.0)
        await trio.sleep(5)
        assert a.status()["rejected"]["unasked"] == 2
        assert len(a.events(Merged)) == merges


async def test_a_peer_that_comes_back_without_its_state_is_another_and_taken() -> None:
    village = Village()
    a = village.villager(0, (1,), identity=of(ANN), rounds=30, settle=0)
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        await nursery.start(a.node.run)
        for identity in (of(BOB), of(EVE), of(EVE, 2)):
            async with trio.open_nursery() as life:
                b = village.villager(1, (0,), identity=identity, rounds=30, settle=0)
                await life.start(b.node.run)
                await trio.sleep(8)
                assert verified(a) == {identity.id: True}
                assert {sender for event in a.events(Merged)[-1:] for sender in event.senders} == {
                    identity.id
                }
                life.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
    assert {event.reason for event in a.events(Rejected)} <= {"wrong-receiver"}
    assert not a.events(PeerDropped)


async def test_after_a_restart_what_was_heard_before_is_still_old() -> None:
    village = Village()
    a = village.villager(0, (1,), identity=of(ANN), rounds=2)
    b = village.villager(1, identity=of(BOB), rounds=2, require_signed=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(village.network.run)
        await nursery.start(a.node.run)
        recorded = a.node.gossip.frame(of(BOB).id)
        async with trio.open_nursery() as life:
            await life.start(b.node.run)
            await stranger(village).push(village.url(1), recorded)
            await until_done(a, b)
            life.cancel_scope.cancel()
        checkpoint = b.saved[-1]
        (known,) = [peer for peer in checkpoint.peers if peer.id == of(ANN).id]
        assert (known.url, known.incarnation) == (village.url(0), 1)
        assert known.counter >= 3
        async with trio.open_nursery() as life:
            again = village.villager(1, identity=of(BOB, 2), resume=checkpoint, rounds=2)
            (contact,) = again.node.gossip.view.contacts()
            assert (contact.id, contact.verified) == (of(ANN).id, True)
            await life.start(again.node.run)
            assert await refusal(stranger(village).push(village.url(1), recorded)) == "replayed"
            await trio.sleep(10)
            assert verified(again) == {of(ANN).id: True}
            assert again.status()["rejected"] == {"replayed": 1}
            life.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def test_of_those_who_only_call_the_newest_is_kept_too() -> None:
    village = Village()
    b = village.villager(1, identity=of(BOB), rounds=1)
    caller = village.villager(0, identity=of(ANN))
    async with living(village, b):
        await stranger(village).push(village.url(1), caller.node.gossip.frame(of(BOB).id))
        await until_done(b)
    assert [tuple(peer) for peer in b.saved[-1].peers] == [(of(ANN).id, "", 1, 1)]

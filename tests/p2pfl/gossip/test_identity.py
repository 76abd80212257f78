"""Keys, ids and signatures."""

from __future__ import annotations

import pytest

from p2pfl.errors import BadSignature, WrongKey
from p2pfl.gossip.identity import DOMAIN, Identity, check_signature, id_of, is_keyed

ANN, BOB = Identity(bytes(range(32))), Identity(bytes(32))


def test_the_first_key_of_rfc_8032_is_read_as_there() -> None:
    secret = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert Identity(secret).key == public


def test_an_id_is_recognised_as_a_keys() -> None:
    assert is_keyed(ANN.id)
    assert len(ANN.id) == 33
    assert id_of(ANN.key) == ANN.id != BOB.id
    for other in (
        "0" * 32,
        "k" + "0" * 31,
        "k" + "0" * 33,
        "K" + "0" * 32,
        "k" + "G" * 32,
        ANN.id + "\n",
        "",
    ):
        assert not is_keyed(other)


def test_each_message_has_the_next_counter() -> None:
    identity = Identity(bytes(32), 4)
    first, second = identity.envelope("ann"), identity.envelope("bob", b"x" * 32)
    assert (first.incarnation, first.counter, first.to, first.re) == (4, 1, "ann", b"")
    assert (second.incarnation, second.counter, second.to, second.re) == (4, 2, "bob", b"x" * 32)


def test_nonces_differ_between_messages_starts_and_keys() -> None:
    nonces = set()
    for identity in (Identity(bytes(32), 1), Identity(bytes(32), 2), Identity(b"x" * 32, 1)):
        for _ in range(3):
            nonces.add(identity.nonce())
            identity.envelope("bob")
    assert len(nonces) == 9
    assert {len(nonce) for nonce in nonces} == {16}


def test_a_signature_holds_for_its_bytes_and_key_alone() -> None:
    signature = ANN.sign(b"head")
    check_signature(ANN.id, ANN.key, b"head", signature)
    for head, made in ((b"heaD", signature), (b"head", BOB.sign(b"head")), (b"", signature)):
        with pytest.raises(BadSignature):
            check_signature(ANN.id, ANN.key, head, made)
    with pytest.raises(WrongKey):
        check_signature(BOB.id, ANN.key, b"head", signature)


def test_a_signature_made_for_something_else_is_none() -> None:
    bare = ANN._private.sign(b"head")
    with pytest.raises(BadSignature):
        check_signature(ANN.id, ANN.key, b"head", bare)
    check_signature(ANN.id, ANN.key, b"head", ANN._private.sign(DOMAIN + b"head"))

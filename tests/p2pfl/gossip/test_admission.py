"""Whose messages are taken: as requests, and as answers to what was asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfl.errors import (
    ConfigError,
    FrameError,
    MissingSignature,
    NotAllowed,
    Replayed,
    SignatureRequired,
    Unasked,
    WrongReceiver,
)
from p2pfl.gossip.admission import Admission, Signable, parse_allowed
from p2pfl.gossip.identity import Identity
from p2pfl.gossip.messages import Envelope, Pull

from .samples import HEAD, HELLO

ANN, BOB = Identity(bytes(range(32))), Identity(bytes(32))
ASKED = b"a" * 32


def signed(message: Signable, to: str = BOB.id, inc: int = 1, seq: int = 1, re: bytes = b"") -> Signable:
    """Said by Ann."""
    envelope = Envelope(ANN.key, to, inc, seq, re)
    if isinstance(message, Pull):
        return replace(message, sender_id=ANN.id, envelope=envelope)
    return replace(message, sender=replace(message.sender, id=ANN.id), envelope=envelope)


PULL = Pull("n1", bytes(16))
KINDS = [HEAD, HELLO, PULL]


def refusal(admission: Admission, message: Signable) -> type[FrameError] | None:
    """Of a request that is then accepted."""
    try:
        admission.accept(message)
    except FrameError as error:
        return type(error)
    return None


def refused_answer(
    admission: Admission, message: Signable, asked: bytes = ASKED, *, must_sign: bool = False
) -> type[FrameError] | None:
    try:
        admission.answer(message, asked, must_sign=must_sign)
    except FrameError as error:
        return type(error)
    return None


@pytest.mark.parametrize("message", KINDS, ids=lambda message: type(message).__name__)
def test_request(message: Signable) -> None:
    admission = Admission(BOB.id)
    assert refusal(admission, message) is None
    assert refusal(admission, message) is None  # unsigned: nothing tells it from a new one
    assert refusal(admission, signed(message)) is None
    assert refusal(admission, signed(message)) is Replayed
    assert refusal(admission, signed(message, seq=2)) is None
    assert refusal(admission, signed(message, inc=0, seq=9)) is Replayed
    assert refusal(admission, signed(message, to="eve", seq=3)) is WrongReceiver
    assert refusal(admission, signed(message, re=ASKED, seq=4)) is Unasked
    strict = Admission(BOB.id, require_signed=True)
    assert refusal(strict, message) is SignatureRequired
    assert refusal(strict, signed(message)) is None


def test_only_a_hello_may_be_for_whoever_is_there() -> None:
    assert refusal(Admission(BOB.id), signed(HELLO, to="")) is None
    assert refusal(Admission(BOB.id), signed(HEAD, to="")) is WrongReceiver
    assert refusal(Admission(BOB.id), signed(PULL, to="")) is WrongReceiver


def test_a_message_counts_as_heard_when_it_is_complete() -> None:
    admission = Admission(BOB.id)
    admission.request(signed(HEAD))
    admission.request(signed(HEAD))
    assert refusal(admission, signed(HEAD)) is None
    with pytest.raises(Replayed):
        admission.request(signed(HEAD))


def test_with_a_list_nobody_else_and_nothing_unsigned_is_taken() -> None:
    admission = Admission(BOB.id, allowed={ANN.id: "Ann"})
    assert refusal(admission, signed(HEAD)) is None
    assert refusal(admission, HEAD) is SignatureRequired
    with pytest.raises(SignatureRequired):
        admission.anonymous()
    admission.allow({BOB.id: ""})
    assert refusal(admission, signed(HEAD, seq=2)) is NotAllowed
    assert refused_answer(admission, signed(HEAD, re=ASKED)) is NotAllowed
    assert [admission.allows(id) for id in (ANN.id, BOB.id, "n1")] == [False, True, False]
    Admission(BOB.id).anonymous()


@pytest.mark.parametrize("message", [HEAD, HELLO], ids=["model", "hello"])
def test_answer(message: Signable) -> None:
    admission = Admission(BOB.id)
    assert refused_answer(admission, signed(message, re=ASKED)) is None
    assert refused_answer(admission, signed(message, re=ASKED)) is None  # bound to the request, not counted
    assert refused_answer(admission, signed(message, re=b"b" * 32)) is Unasked
    assert refused_answer(admission, signed(message)) is Unasked
    assert refused_answer(admission, signed(message, to="eve", re=ASKED)) is WrongReceiver
    assert refused_answer(admission, signed(message, to="", re=ASKED)) is WrongReceiver
    assert refused_answer(admission, message) is None
    assert refused_answer(admission, message, must_sign=True) is MissingSignature
    assert refused_answer(Admission(BOB.id, require_signed=True), message) is SignatureRequired


def test_answer_to_somebody_who_did_not_say_who_asks() -> None:
    admission = Admission("n2")
    assert refused_answer(admission, signed(HEAD, to=""), b"") is None
    assert refused_answer(admission, signed(HEAD, to="", re=ASKED), b"") is Unasked
    assert refused_answer(admission, signed(HEAD, to="n2"), b"") is WrongReceiver


def test_an_answer_makes_old_what_is_older_than_it() -> None:
    admission = Admission(BOB.id)
    admission.answer(signed(HELLO, inc=2, seq=1, re=ASKED), ASKED)
    assert refusal(admission, signed(HEAD, inc=1, seq=50)) is Replayed
    assert admission.replays.newest(ANN.id) == (2, 1)


def test_list_of_those_allowed() -> None:
    text = f"# our nodes\n\n{ANN.id}  Ann's laptop # in the lab\n  {BOB.id}\n"
    assert parse_allowed(text, "list") == {ANN.id: "Ann's laptop", BOB.id: ""}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names nobody"),
        ("# only this\n", "names nobody"),
        (f"{ANN.id}\nn1\n", "line 2: 'n1' does not begin with an identity"),
        (f"\n{ANN.id.upper()} Ann", "line 2: "),
        (f"Ann {ANN.id}", "line 1: "),
        (f"{ANN.id}\n{BOB.id}\n{ANN.id} again", f"line 3: {ANN.id} is there twice"),
        (f"{ANN.id},{BOB.id}", "line 1: "),
    ],
)
def test_bad_list_names_the_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"^allow\.txt") as caught:
        parse_allowed(text, "allow.txt")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)

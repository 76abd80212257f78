"""Every hostile frame is refused for its own reason, whatever the chunking, and costs next to nothing."""

from __future__ import annotations

import tracemalloc

import pytest

from p2pfl import errors
from p2pfl.errors import FrameError
from p2pfl.gossip.codec import MAX_HEAD, ModelDecoder, decode_hello
from p2pfl.gossip.messages import Layout, TensorSpec

from . import hostile_frames, hostile_signatures, packing
from .hostile_frames import Hostile
from .samples import LAYOUT, TASK, decode, refusal

MODELS = hostile_frames.model_frames(TASK, LAYOUT)
HELLOS = hostile_frames.hello_frames(TASK, LAYOUT)
PIECE = 1 << 14


def feed_all(decoder: ModelDecoder, body: bytes) -> None:
    for start in range(0, len(body), PIECE):
        decoder.feed(body[start : start + PIECE])
    decoder.finish()


@pytest.mark.parametrize("step", [None, 1, 7])
def test_model_is_refused_for_its_reason(step: int | None) -> None:
    wrong = [
        (frame.name, frame.error.__name__, got)
        for frame in MODELS
        if (len(frame.body) < 10_000 or step != 1) and (got := refusal(frame.body, step)) is not frame.error
    ]
    assert not wrong


def test_weights_of_more_than_one_block_are_refused_for_the_same_reasons() -> None:
    large = Layout("large", (TensorSpec("weight", (40_000,)),))
    wrong = []
    for frame in hostile_frames.model_frames(TASK, large):
        with pytest.raises(FrameError) as caught:
            decode(frame.body, layout=large)
        if type(caught.value) is not frame.error:
            wrong.append((frame.name, caught.value))
    assert not wrong


@pytest.mark.parametrize("frame", HELLOS, ids=lambda frame: frame.name)
def test_hello_is_refused_for_its_reason(frame: Hostile) -> None:
    with pytest.raises(FrameError) as caught:
        decode_hello(frame.body, TASK, LAYOUT)
    assert type(caught.value) is frame.error


def test_the_frames_they_are_made_from_are_good() -> None:
    entries, payload = packing.good_model(TASK, LAYOUT)
    assert decode(packing.model(list(entries.items()), payload)).head.sender.id == "mallory"
    body = packing.hello(list(packing.good_hello(TASK, LAYOUT).items()))
    assert decode_hello(body, TASK, LAYOUT).sender.id == "mallory"
    entries, payload = packing.good_signed_model(TASK, LAYOUT)
    envelope = decode(packing.signed(list(entries.items()), payload)).head.envelope
    assert envelope is not None
    assert (envelope.to, envelope.incarnation, envelope.counter) == ("bob", 7, 21)
    body = packing.signed(list(packing.good_signed_hello(TASK, LAYOUT).items()))
    assert decode_hello(body, TASK, LAYOUT).envelope == envelope


def test_no_bit_of_a_signed_head_can_be_flipped() -> None:
    """Nor if the sum, which anybody can make, is mended."""
    entries, payload = packing.good_signed_model(TASK, LAYOUT)
    good = packing.signed(list(entries.items()), payload)
    for place in range(len(good) - len(payload)):
        flipped = bytearray(good)
        flipped[place] ^= 1 << place % 8
        for body in (bytes(flipped), hostile_signatures.resealed(bytes(flipped), payload)):
            assert body == good or refusal(body) is not None, place


def test_corpus_has_a_frame_for_every_error() -> None:
    assert len(MODELS) >= 40
    assert len({frame.name for frame in MODELS + HELLOS}) == len(MODELS + HELLOS)
    about_requests = {errors.TooSlow, errors.NoSuchRoute, errors.WrongMethod, errors.Busy, errors.NotRunning}
    about_requests |= {errors.Unauthorised, errors.NoCertificate, errors.PlainHttp, errors.TooManyRequests}
    # What people and their programs ask, and peers do not.
    about_requests |= {
        errors.BadSetting,
        errors.NotOperator,
        errors.ForeignOrigin,
        errors.BadPicture,
        errors.CannotPredict,
    }
    # What only some receivers refuse, and only sometimes: test_admission.py.
    about_senders = {errors.SignatureRequired, errors.NotAllowed, errors.WrongReceiver}
    about_senders |= {errors.Replayed, errors.Unasked}
    others = about_requests | about_senders
    assert {frame.error for frame in MODELS} == set(FrameError.__subclasses__()) - others


def test_refusals_are_one_short_printable_line() -> None:
    for frame in MODELS:
        with pytest.raises(FrameError) as caught:
            decode(frame.body)
        assert str(caught.value).isprintable(), frame.name
        assert 0 < len(str(caught.value)) < 400, frame.name


def test_a_refused_head_allocates_no_weights_and_a_bomb_no_containers() -> None:
    large = Layout("large", (TensorSpec("weight", (1 << 28,)),))  # 1 GiB of weights
    small = hostile_frames.model_frames(TASK, LAYOUT)
    tracemalloc.start()
    try:
        for frame in small:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            decoder = ModelDecoder(TASK, large)
            with pytest.raises(FrameError):
                feed_all(decoder, frame.body)
            assert tracemalloc.get_traced_memory()[1] - before < 40 * MAX_HEAD, frame.name
    finally:
        tracemalloc.stop()


def test_endless_body_is_refused_within_the_head_limit() -> None:
    decoder = ModelDecoder(TASK, LAYOUT)
    entries, payload = packing.good_model(TASK, LAYOUT)
    pairs = [*entries.items(), ("x", packing.Raw(b"\xc6\xff\xff\xff\xff"))]
    decoder.feed(packing.model(pairs, payload))
    with pytest.raises(errors.TooLarge):
        feed_all(decoder, bytes(1_000_000))
    assert decoder.size <= MAX_HEAD + PIECE


def test_the_sender_of_a_frame_of_another_task_is_known() -> None:
    (frame,) = (frame for frame in MODELS if frame.name == "task of other name")
    decoder = ModelDecoder(TASK, LAYOUT)
    with pytest.raises(errors.WrongTask, match="name is 'toy' here, 'toy-2' there"):
        decoder.feed(frame.body)
    assert decoder.head is not None
    assert decoder.head.sender.id == "mallory"

"""Bytes <-> messages, decoded as if attacked. docs/protocol.md is the specification.

A frame goes out as two chunks, a small head and a view of the weights, and comes in as any number of chunks,
which are checked as they arrive. The checks and their order:

    encoding, version, kind, entries' types and ranges, head's sum, signature, whether it is admitted, task,
    layout, codec, number and length; only now is the vector allocated; then, of the weights, length, digest,
    inflation, finiteness.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xxhash

from p2pfl.errors import (
    BadChecksum,
    DataError,
    FrameError,
    Malformed,
    MissingSignature,
    NotFinite,
    TooLarge,
    Truncated,
    WrongLayout,
    WrongLength,
    WrongTask,
)
from p2pfl.gossip import compress, fields
from p2pfl.gossip.frame import MAX_HEAD, MAX_HELLO, PROTOCOL_VERSION, HeadScanner, imprint, seal, shown
from p2pfl.gossip.identity import check_signature, is_keyed
from p2pfl.gossip.messages import Envelope, Hello, Layout, Model, ModelHead, Pull, Task, Vector
from p2pfl.gossip.snapshot import Snapshot, whole_snapshot

MEDIA_TYPE = "application/msgpack"
MAX_PULL = 2048
"""Characters of a pull as it stands in its header; a usual one has some 400."""
NONCE_SIZE = 16
XXH3_SIZE, SHA256_SIZE = 16, 32
"""Bytes of the weights' `digest`, and of the `sha256` that a signed head has beside it."""

Sign = Callable[[bytes], bytes]
"""From a head's bytes to the 64 bytes of its signature."""


@dataclass(frozen=True)
class Payload:
    """Encoded weights, made once per snapshot, and hashed when first asked for, each way once.

    codec: the one really used.  count: elements.  data: bytes as sent.
    """

    codec: str
    count: int
    data: memoryview

    @cached_property
    def digest(self) -> bytes:
        """16 bytes, XXH3-128 of data: against accidents."""
        known = whole_snapshot(self.data)
        return xxhash.xxh3_128_digest(self.data) if known is None else known.digest

    @cached_property
    def sha256(self) -> bytes:
        """32 bytes, SHA-256 of data: against forgers, in signed heads."""
        known = whole_snapshot(self.data)
        return hashlib.sha256(self.data).digest() if known is None else known.sha256


def encode_weights(weights: Vector, codec: str = "f32") -> Payload:
    """weights: (P,) float32. For f32 nothing is copied, so `weights` must not be modified afterwards.

    Raises UnknownCodec.
    """
    used, data = compress.encode(codec, weights)
    return Payload(used, weights.size, data)


def encode_model(head: ModelHead, payload: Payload, sign: Sign | None = None) -> tuple[bytes, memoryview]:
    """The two chunks of a model frame. sign: needed if the head has an envelope.

    Raises DataError if the task's description does not fit.
    """
    entries: dict[str, object] = {"v": PROTOCOL_VERSION, "kind": "model"}
    entries |= fields.of_sender(head.sender, head.task, head.fingerprint, head.view, head.news)
    entries |= {
        "round": head.round,
        "version": head.version,
        "age": float(head.age),
        "samples": head.samples,
        "reply": head.wants_reply,
        "codec": payload.codec,
        "n": payload.count,
        "digest": payload.digest,
    }
    if head.envelope is not None:
        entries["sha256"] = payload.sha256
    return _fitting(_seal(entries, head.envelope, sign, weights=len(payload.data))), payload.data


def largest_model(layout: Layout) -> int:
    """Bytes of the longest model frame that this layout can have, whatever the codec."""
    return MAX_HEAD + compress.most_bytes(layout.size)


def encode_hello(hello: Hello, sign: Sign | None = None) -> bytes:
    """sign: needed if the hello has an envelope. Raises DataError if the task's description does not fit."""
    entries: dict[str, object] = {"v": PROTOCOL_VERSION, "kind": "hello"}
    entries |= fields.of_sender(hello.sender, hello.task, hello.fingerprint, hello.view, hello.news)
    entries["round"] = hello.round
    entries |= fields.of_question(hello)
    return _fitting(_seal(entries, hello.envelope, sign))


def encode_pull(pull: Pull, sign: Sign | None = None) -> bytes:
    """sign: needed if the pull has an envelope. A frame that travels in a header, as pull_header() has it."""
    entries: dict[str, object] = {"v": PROTOCOL_VERSION, "kind": "pull", "id": pull.sender_id}
    entries["nonce"] = pull.nonce
    return _seal(entries, pull.envelope, sign)


def pull_header(frame: bytes) -> str:
    """The value of the header that a pull travels in: base64url without padding."""
    return base64.urlsafe_b64encode(frame).rstrip(b"=").decode("ascii")


def _seal(
    entries: dict[str, object], envelope: Envelope | None, sign: Sign | None, weights: int | None = None
) -> bytes:
    if envelope is None:
        return seal(entries, weights=weights)
    assert sign is not None, "a message with an envelope is signed"
    return seal(entries | fields.of_envelope(envelope), weights=weights, sign=sign)


def _fitting(head: bytes) -> bytes:
    if len(head) > MAX_HEAD:
        raise DataError(
            f"the description of the task takes {len(head)} bytes, more than the {MAX_HEAD} of a message; "
            "give the classes shorter names (--classes)"
        )
    return head


def decode_hello(body: bytes, task: Task, layout: Layout) -> Hello:
    """body: a whole hello frame. Raises FrameError."""
    scanner = HeadScanner("hello")
    entries = _whole(scanner, body)
    ask, target, reached = fields.question(entries)
    hello = Hello(
        sender=fields.sender(entries),
        task=fields.task(entries, task),
        fingerprint=fields.fingerprint(entries),
        round=fields.whole(entries, "round"),
        view=fields.view(entries),
        news=fields.news(entries),
        ask=ask,
        target=target,
        reached=reached,
        envelope=fields.envelope(entries),
        imprint=scanner.imprint(),
    )
    _check_genuine(hello, scanner, entries)
    _check_same(hello, task, layout)
    return hello


def decode_pull(header: str) -> Pull:
    """header: as pull_header() makes it. Raises FrameError."""
    if len(header) > MAX_PULL:
        raise TooLarge(f"a pull has at most {MAX_PULL} characters")
    try:
        frame = base64.b64decode(header + "=" * (-len(header) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise Malformed(f"the pull {shown(header)} is not base64url") from None
    scanner = HeadScanner("pull")
    entries = _whole(scanner, frame)
    pull = Pull(
        sender_id=fields.id(entries),
        nonce=fields.raw(entries, "nonce", NONCE_SIZE),
        envelope=fields.envelope(entries),
        imprint=scanner.imprint(),
    )
    _check_genuine(pull, scanner, entries)
    return pull


def _whole(scanner: HeadScanner, body: bytes) -> fields.Entries:
    """The entries of a frame without weights."""
    rest = scanner.feed(memoryview(body))
    if rest is None:
        raise Truncated(f"the body ends inside the frame, after {len(body)} bytes")
    if rest:
        raise Malformed(f"there are {len(rest)} bytes after the frame")
    return scanner.entries()


def _check_genuine(theirs: ModelHead | Hello | Pull, scanner: HeadScanner, entries: fields.Entries) -> None:
    """The head is as its sender made it, and whoever says it has a key has signed it. Raises FrameError."""
    if theirs.envelope is None:
        scanner.check_sum()
        if is_keyed(theirs.sender_id):
            raise MissingSignature(f"{theirs.sender_id} is a key's id, and the frame is not signed")
        return
    head, signature = scanner.signed(entries)
    scanner.check_sum()
    check_signature(theirs.sender_id, theirs.envelope.key, head, signature)


def _check_same(theirs: ModelHead | Hello, task: Task, layout: Layout) -> None:
    """Raises WrongTask or WrongLayout."""
    if theirs.task is not task and (difference := task.difference(theirs.task)):
        raise WrongTask(
            f"the task differs: {difference if len(difference) <= 300 else difference[:299] + '…'}"
        )
    if theirs.fingerprint != layout.fingerprint:
        raise WrongLayout(
            f"the layout is {layout.fingerprint} (model {layout.model!r}) here, {theirs.fingerprint} there: "
            "another model, or other shapes"
        )


class ModelDecoder:
    """Decodes one model frame from chunks of any size: feed() each, then finish(). Sans-io.

    A FrameError is raised as soon as what has come cannot become a good frame; the decoder is of no use then.
    Memory: at most MAX_HEAD until the head is found good, then the vector of the layout and one block; none
    for a snapshot of this very process that comes whole.
    """

    head: ModelHead | None
    """The metadata, once it has come in full and is genuine, also of a frame refused later on."""
    size: int
    """Bytes fed so far."""

    def __init__(
        self, task: Task, layout: Layout, admit: Callable[[ModelHead], None] = lambda head: None
    ) -> None:
        """admit: may raise a FrameError as soon as the head is found genuine, before the weights are read."""
        self.head = None
        self.size = 0
        self._task = task
        self._layout = layout
        self._admit = admit
        self._scanner = HeadScanner("model")
        self._codec: compress.Codec | None = None
        self._snapshot: Snapshot | None = None  # instead of a vector, a sink and a hash
        self._vector: Vector | None = None
        self._left = 0  # bytes of the weights still to come
        self._fault: FrameError | None = None  # what is wrong with the weights, should their digest be right

    def feed(self, chunk: bytes | memoryview) -> None:
        """Raises FrameError."""
        view = memoryview(chunk).cast("B")
        self.size += len(view)
        if self.head is None:
            rest = self._scanner.feed(view)
            if rest is None:
                return
            self._begin()
            view = rest
        if len(view) > self._left:
            raise Malformed(f"there are {len(view) - self._left} bytes or more after the frame")
        if self._vector is None and view and not self._take_whole(view):
            self._allocate()
        self._left -= len(view)
        if self._snapshot is not None:
            return
        for start in range(0, len(view), compress.BLOCK):
            piece = view[start : start + compress.BLOCK]
            if self._fault is None:
                try:
                    self._sink.write(piece)
                except FrameError as fault:
                    # If the digest is wrong as well, that is the cause, and what the sender should hear.
                    self._fault = fault
            self._hash.update(piece)

    def _begin(self) -> None:
        """Checks the complete head; only then allocates."""
        length = self._scanner.weights_length or 0
        entries = self._scanner.entries()
        envelope = fields.envelope(entries)
        head = ModelHead(
            sender=fields.sender(entries),
            task=fields.task(entries, self._task),
            fingerprint=fields.fingerprint(entries),
            version=fields.whole(entries, "version"),
            round=fields.whole(entries, "round"),
            age=fields.age(entries),
            samples=fields.whole(entries, "samples"),
            wants_reply=fields.flag(entries, "reply"),
            view=fields.view(entries),
            news=fields.news(entries),
            envelope=envelope,
            imprint=self._scanner.imprint(),
        )
        spec = fields.text(entries, "codec", fields.MAX_TEXT)
        count = fields.whole(entries, "n")
        self._digest = fields.raw(entries, "digest", XXH3_SIZE)
        if envelope is not None:  # what is signed is that; the other one would only be hashed besides
            self._digest = fields.raw(entries, "sha256", SHA256_SIZE)
        _check_genuine(head, self._scanner, entries)
        self.head = head
        self._admit(head)
        _check_same(head, self._task, self._layout)
        codec = compress.parse(spec)
        size = self._layout.size
        if length > compress.most_bytes(size):
            raise TooLarge(f"{length} bytes of weights are more than any codec makes of {size} elements")
        if count != size:
            raise WrongLength(f"n is {count}; the layout has {size} elements")
        if not codec.length_fits(length, size):
            raise WrongLength(f"{length} bytes of weights do not hold {size} elements of {spec}")
        self._codec = codec
        self._left = length

    def _take_whole(self, view: memoryview) -> bool:
        """Whether `view` is a snapshot in this process's own memory, all of it, which needs no copy."""
        if self._codec == compress.PLAIN and len(view) == self._left:
            self._snapshot = whole_snapshot(view)
        return self._snapshot is not None

    def _allocate(self) -> None:
        """For weights that come over a wire, or in pieces."""
        assert self._codec is not None
        self._vector = np.empty(self._layout.size, dtype="<f4")
        self._sink = compress.sink(self._codec, self._vector)
        self._hash = xxhash.xxh3_128() if len(self._digest) == XXH3_SIZE else hashlib.sha256()

    def finish(self) -> Model:
        """The model, once all has been fed. Raises FrameError."""
        if self.head is not None and self._snapshot is not None:
            known = self._snapshot
            if self._digest != (known.digest if len(self._digest) == XXH3_SIZE else known.sha256):
                raise BadChecksum("the weights are not those that the digest was made of")
            if not self._snapshot.is_finite:
                raise NotFinite("a weight is NaN or infinite")
            return Model(self.head, self._snapshot.vector, self._digest)
        if self.head is None or self._vector is None or self._left:
            raise Truncated(f"the body ends inside the frame, after {self.size} bytes")
        if self._hash.digest() != self._digest:
            raise BadChecksum("the weights are not those that the digest was made of")
        if self._fault is not None:
            raise self._fault
        self._sink.finish()
        # Native byte order; no copy on a little-endian machine.
        return Model(self.head, self._vector.astype(np.float32, copy=False), self._digest)


__all__ = [
    "MAX_HEAD",
    "MAX_HELLO",
    "MEDIA_TYPE",
    "ModelDecoder",
    "Payload",
    "decode_hello",
    "decode_pull",
    "encode_hello",
    "encode_model",
    "encode_pull",
    "encode_weights",
    "imprint",
    "largest_model",
    "pull_header",
]

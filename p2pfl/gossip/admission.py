"""Whose messages a node takes. Sans-io; signatures have been found good, or absent, by the codec before."""

from __future__ import annotations

import re
from collections.abc import Collection

from p2pfl.errors import (
    ConfigError,
    MissingSignature,
    NotAllowed,
    SignatureRequired,
    Unasked,
    WrongReceiver,
)
from p2pfl.gossip.identity import is_keyed
from p2pfl.gossip.messages import Hello, ModelHead, Pull
from p2pfl.gossip.replay import ReplayGuard

Signable = Hello | ModelHead | Pull


class Admission:
    """allowed: the ids that may take part; None: anybody.  require_signed: nothing unsigned is taken.

    With a list of those allowed nothing unsigned is taken either: anybody could claim an id of it.
    """

    def __init__(
        self,
        own_id: str,
        *,
        require_signed: bool = False,
        allowed: Collection[str] | None = None,
    ) -> None:
        self.replays = ReplayGuard()
        self._own_id = own_id
        self._require_signed = require_signed
        self._allowed = allowed

    @property
    def require_signed(self) -> bool:
        return self._require_signed or self._allowed is not None

    def allow(self, ids: Collection[str]) -> None:
        """From now on these may take part, and nobody else."""
        self._allowed = ids

    def allows(self, id: str) -> bool:
        return self._allowed is None or id in self._allowed

    def anonymous(self) -> None:
        """Somebody asks who does not say who it is. Raises SignatureRequired."""
        if self.require_signed:
            raise SignatureRequired("whoever asks here has to sign; this request names nobody")

    def request(self, message: Signable) -> None:
        """Raises a FrameError unless this request may be answered. It may be asked of a head alone."""
        self._check_sender(message, must_sign=False)
        envelope = message.envelope
        if envelope is None:
            return
        if envelope.re:
            raise Unasked("this is an answer, and nothing was asked")
        if envelope.to != self._own_id and (envelope.to or not isinstance(message, Hello)):
            raise WrongReceiver(f"this is for {envelope.to or 'nobody'}, not for {self._own_id}")
        self.replays.check(message.sender_id, envelope.incarnation, envelope.counter)

    def accept(self, message: Signable) -> None:
        """As request(), of a message that is complete; the same one is refused from now on."""
        self.request(message)
        if message.envelope is not None:
            self.replays.note(message.sender_id, message.envelope.incarnation, message.envelope.counter)

    def answer(self, message: Signable, asked: bytes, *, must_sign: bool = False) -> None:
        """Raises a FrameError unless `message` answers our request.

        asked: the request's imprint, b"" if it was none that says who asks.  must_sign: who was asked has
        signed before, so that an unsigned answer is somebody else's.
        """
        self._check_sender(message, must_sign=must_sign)
        envelope = message.envelope
        if envelope is None:
            return
        if envelope.re != asked:
            raise Unasked("this answers something else than what was asked")
        if envelope.to != (self._own_id if asked else ""):
            raise WrongReceiver(f"this is for {envelope.to or 'nobody'}, not for {self._own_id}")
        # Bound to a request of ours it cannot be old; but what is older than it can from now on be told.
        self.replays.note(message.sender_id, envelope.incarnation, envelope.counter)

    def _check_sender(self, message: Signable, *, must_sign: bool) -> None:
        if message.envelope is None and self.require_signed:
            raise SignatureRequired(f"{message.sender_id} does not sign, which is required here")
        if message.envelope is None and must_sign:
            raise MissingSignature(f"{message.sender_id} does not sign; who was there before did")
        if not self.allows(message.sender_id):
            raise NotAllowed(f"{message.sender_id} is not on the list of those allowed here")


_LINE = re.compile(r"(?P<id>\S+)(?:\s+(?P<name>\S.*?))?\s*")


def parse_allowed(text: str, source: str) -> dict[str, str]:
    """{id: name, or ""} of a list of those allowed: an id a line, a name behind it if wanted, # comments.

    source: what errors call the list. Raises ConfigError with the line's number.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        match = _LINE.fullmatch(line)
        if match is None or not is_keyed(match["id"]):
            raise ConfigError(
                f"{source}, line {number}: {line[:50]!r} does not begin with an identity, which is k and 32 "
                "hex digits; `p2pfl keys show --state-dir D` prints a node's"
            )
        if match["id"] in found:
            raise ConfigError(f"{source}, line {number}: {match['id']} is there twice")
        found[match["id"]] = match["name"] or ""
    if not found:
        raise ConfigError(
            f"{source} names nobody: with it no node could take part; put an identity on each line"
        )
    return found

"""Everything that can go wrong, as one tree.

P2pflError
|-- UsageError              the user asked for something impossible                    exit 2
|   |-- ConfigError         an unknown key, a value out of range, keys that exclude each other
|   |   `-- SettingError    of these, one that was to be changed in a running node
|   `-- PartitionError      the data cannot be split as asked
|-- SetupError              the surroundings are not as the user believed              exit 1
|   |-- DataError           a data set is missing or is not what it should be
|   |-- ModelError          a model factory that cannot be used
|   |-- StorageError        a state directory or file that cannot be read or written
|   |-- CredentialError     a certificate, key or token that cannot be used
|   `-- ListenError         the address cannot be listened on
|-- LearningError           a learner raised, or its process died                    exit 1
|-- TasksFailed             of several tasks in one process, the failed ones         the worst of theirs
|-- SimulationError         the simulator itself broke (a dead worker, a lost process) exit 1
`-- PeerError               a peer's fault: refused, counted, shown; never stops the node
    |-- FrameError          bytes that are not a frame for us; answered with a 4xx problem document
    |   `-- (one class for each rule of docs/protocol.md, below)
    |-- Unreachable         definite: nothing was delivered
    |-- TimedOut            indefinite: it may or may not have been delivered
    |-- Refused             definite: the peer answered with an error
    |-- BadAnswer           the peer answered with something that is not an answer
    `-- HandshakeFailed     a client came to no agreement with us on TLS
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar


class P2pflError(Exception):
    """Base of all. `str()` is one line: what is wrong and, where there is a cure, what to do."""

    exit_code: ClassVar[int] = 1


class UsageError(P2pflError):
    exit_code = 2


class ConfigError(UsageError):
    """A configuration key or value that cannot be used."""


class SettingError(ConfigError):
    """A setting that a running node cannot take. field: its name, with underscores; "" if it is none's."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class PartitionError(UsageError):
    """The data set cannot be split as asked; the message names the partition."""


class SetupError(P2pflError):
    """The user's surroundings are not as expected."""


class DataError(SetupError):
    """A data set is missing, unreadable, or has too few classes or samples."""


class ModelError(SetupError):
    """A model that cannot be built or cannot be flattened."""


class StorageError(SetupError):
    """A state directory, checkpoint or journal that cannot be read or written."""


class CredentialError(SetupError):
    """A certificate, key or token file that is missing, unreadable, expired, or does not fit the others."""


class ListenError(SetupError):
    """The listening address is taken or not ours."""


class LearningError(P2pflError):
    """A learner raised, or the process died in which it computes."""


class TasksFailed(P2pflError):
    """Of several tasks in one process, these had failed at its end. The worst of their exit codes."""

    def __init__(self, failures: Sequence[tuple[str, str, int]]) -> None:
        """failures: of each its name, the reason, and the exit code that it would give alone."""
        super().__init__("; ".join(f"task {name} failed: {reason}" for name, reason, _ in failures))
        self.exit_code = max(code for *_, code in failures)  # type: ignore[misc]


class SimulationError(P2pflError):
    """The simulator broke: a worker died, a process did not start."""


class PeerError(P2pflError):
    """A peer's fault. `reason` is the counter's name and the problem document's type."""

    reason: ClassVar[str] = "peer-error"


class FrameError(PeerError):
    """Bytes that are refused. `status` is the HTTP status of the answer."""

    reason = "bad-frame"
    status: ClassVar[int] = 400


class Truncated(FrameError):
    """The body ended inside the frame."""

    reason = "truncated"


class TooLarge(FrameError):
    """More bytes than a frame for this layout can have; refused while streaming."""

    reason = "too-large"
    status = 413


class Malformed(FrameError):
    """Not the msgpack that docs/protocol.md describes: wrong outer type, nesting, trailing bytes."""

    reason = "malformed"


class DuplicateKey(FrameError):
    reason = "duplicate-key"


class MissingField(FrameError):
    reason = "missing-field"


class BadField(FrameError):
    """A field of the wrong type or out of its range."""

    reason = "bad-field"


class WrongVersion(FrameError):
    reason = "wrong-version"


class WrongKind(FrameError):
    """A frame of another kind than this route takes."""

    reason = "wrong-kind"


class WrongTask(FrameError):
    """The peer trains something else; the message names the difference."""

    reason = "wrong-task"
    status = 409


class WrongLayout(FrameError):
    """The peer's flat vector means something else."""

    reason = "wrong-layout"
    status = 409


class UnknownCodec(FrameError):
    reason = "unknown-codec"
    status = 415


class WrongLength(FrameError):
    """Element count, payload length and layout disagree."""

    reason = "wrong-length"


class BadChecksum(FrameError):
    reason = "bad-checksum"


class NotFinite(FrameError):
    """A weight is NaN or infinite."""

    reason = "not-finite"
    status = 422


class BadSignature(FrameError):
    """Not signed with the key that it names, or changed since."""

    reason = "bad-signature"
    status = 403


class WrongKey(FrameError):
    """Signed with a key whose fingerprint is not the sender's id."""

    reason = "wrong-key"
    status = 403


class MissingSignature(FrameError):
    """Not signed, though its sender's id is a key's, or though who was at that address did sign."""

    reason = "missing-signature"
    status = 403


class SignatureRequired(FrameError):
    """Not signed, and nothing unsigned is taken here."""

    reason = "signature-required"
    status = 403


class NotAllowed(FrameError):
    """The sender is not on the list of those who may take part."""

    reason = "not-allowed"
    status = 403


class WrongReceiver(FrameError):
    """Signed for another node."""

    reason = "wrong-receiver"
    status = 421


class Replayed(FrameError):
    """Signed, and heard before or older than what was."""

    reason = "replayed"
    status = 409


class Unasked(FrameError):
    """An answer to something else than what was asked, or to nothing."""

    reason = "unasked"


class TooSlow(FrameError):
    """The body did not arrive within the time limit."""

    reason = "too-slow"
    status = 408


class NoSuchRoute(FrameError):
    """A path that a node does not serve."""

    reason = "no-such-route"
    status = 404


class NotRunning(FrameError):
    """One of several tasks of a process, which has been stopped or has failed."""

    reason = "not-running"
    status = 503


class WrongMethod(FrameError):
    reason = "wrong-method"
    status = 405


class BadPicture(FrameError):
    """Not a picture that a model could look at."""

    reason = "bad-picture"
    status = 422


class CannotPredict(FrameError):
    """This node's learner, or its task, has no answer for pictures."""

    reason = "cannot-predict"
    status = 501


class Busy(FrameError):
    """As many bodies are being received as memory allows; the peer may try again."""

    reason = "busy"
    status = 503


class TooManyRequests(FrameError):
    """One address asks or sends more than its share. retry_after: seconds until it may ask again."""

    reason = "too-many-requests"
    status = 429

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unauthorised(FrameError):
    """The token is missing or another."""

    reason = "unauthorised"
    status = 401


class NoCertificate(FrameError):
    """A client without a certificate asks for more than the pages that are open to it."""

    reason = "no-certificate"
    status = 403


class NotOperator(FrameError):
    """The operator's token of this one node is missing or another."""

    reason = "not-operator"
    status = 403


class ForeignOrigin(FrameError):
    """A browser sends it for another site's page."""

    reason = "foreign-origin"
    status = 403


class BadSetting(FrameError):
    """An operator's setting that the node does not take. field: its name; "" if it is none's."""

    reason = "bad-setting"
    status = 422

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class PlainHttp(FrameError):
    """Plain HTTP where only TLS will do: from a client, or in the address of a peer."""

    reason = "plain-http"


class Unreachable(PeerError):
    reason = "unreachable"


class TimedOut(PeerError):
    reason = "timed-out"


class Refused(PeerError):
    """`cause` is the peer's own reason (its problem document's type), `http_status` its status.

    retry_after: seconds for which the peer asks to be left alone; None if it does not.
    """

    reason = "refused"

    def __init__(
        self, message: str, *, cause: str, http_status: int, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.http_status = http_status
        self.retry_after = retry_after


class BadAnswer(PeerError):
    reason = "bad-answer"


class HandshakeFailed(PeerError):
    """A client that showed no certificate of our authority, does not speak TLS, or is too slow at it."""

    reason = "handshake"


@contextmanager
def plain() -> Iterator[None]:
    """Turn an exception group that holds only our own errors, or Ctrl-C, into the first of them.

    Nurseries wrap what leaves them in groups; callers want the error that the user can do something about.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        expected, bugs = group.split((P2pflError, KeyboardInterrupt))
        if expected is None or bugs is not None:
            raise
        first: BaseException = expected
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None

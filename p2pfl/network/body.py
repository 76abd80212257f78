"""A request's body, read as a stream from somebody who may send too much, too slowly, or not to the end."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import Receive, Scope

from p2pfl.clock import Clock
from p2pfl.errors import TooLarge, TooSlow, Truncated, UnknownCodec
from p2pfl.gossip.codec import MEDIA_TYPE
from p2pfl.network import problems


class Body:
    """The body of one request, read as a stream, within a size and a time."""

    __slots__ = ("_receive", "complete", "encoding", "gone", "length", "media_type")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self.complete = False  # all of it was read
        self.gone = False  # the client left before that
        self.length: int | None = None
        self.media_type = b""
        self.encoding = b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                self.media_type = value
            elif name == b"content-length" and value.isdigit():
                self.length = int(value)
            elif name == b"content-encoding":
                self.encoding = value

    def check(self, limit: int, wanted: str = MEDIA_TYPE) -> None:
        """Refuse by its headers alone what would be refused anyway. limit: bytes.  wanted: content type."""
        media_type = self.media_type.partition(b";")[0].strip().lower()
        if media_type != wanted.encode():
            shown = problems.one_line(media_type.decode("latin-1")) or "none"
            raise UnknownCodec(f"content-type is {shown}; send {wanted}")
        if self.encoding and self.encoding.strip().lower() != b"identity":
            raise UnknownCodec("content-encoding is not taken; a frame names its own codec")
        if self.length is not None and self.length > limit:
            raise TooLarge(f"content-length is {self.length}; at most {limit} bytes are taken here")

    async def read(self, feed: Callable[[bytes], None], clock: Clock, seconds: float, slowest: float) -> None:
        """Hand the body to `feed` as it arrives. Raises TooSlow, Truncated, and what `feed` raises.

        seconds: it may take, and longer by what has come of it at `slowest` bytes a second. What was only
        announced gives no time: who sends nothing is soon gone.
        """
        size = 0
        with clock.deadline(seconds) as scope:
            while True:
                message = await self._receive()
                if message["type"] != "http.request":
                    self.gone = True
                    raise Truncated("the connection was closed inside the body")
                chunk = message.get("body", b"")
                if not message.get("more_body", False):
                    self.complete = True
                if chunk:
                    feed(chunk)
                    size += len(chunk)
                    scope.deadline += len(chunk) / slowest / clock.rate
                if self.complete:
                    return
        if scope.cancelled_caught:
            taken = seconds + size / slowest
            raise TooSlow(f"{size} bytes of the body came in {taken:.0f} s, and then no more in time")

"""TLS on a trio stream, for big bodies: trio's own takes one record (16 KiB) at a time, a third as fast.

It also tells the other end why a handshake failed (trio keeps the alert to itself), so that a person reads
"certificate required" instead of "disconnected".
"""

from __future__ import annotations

import contextlib
import ssl

import trio

RECEIVE = 128 * 1024
"""Bytes read from the socket at a time, as transport.RECEIVE."""
SLICE = 128 * 1024
"""Bytes encrypted before they are sent: TLS needs them twice in memory."""


class TlsStream(trio.abc.AsyncResource):
    """What a client and a server need of a stream. One task may send while another receives.

    The other end may close without a closing alert: HTTP's lengths tell whether all has arrived.
    """

    def __init__(
        self,
        stream: trio.SocketStream,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        host: str | None = None,
    ) -> None:
        """host: whom a client means to talk to, a name or an address."""
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=host
        )
        self._sending = trio.Lock()

    @property
    def socket(self) -> trio.socket.SocketType:
        return self._stream.socket

    @property
    def has_certificate(self) -> bool:
        """The other end has shown a certificate, and it was good."""
        return self._tls.getpeercert(binary_form=True) is not None

    async def handshake(self) -> None:
        """Raises trio.BrokenResourceError, whose cause is the ssl.SSLError or the system's."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._receive()
            except (ssl.SSLError, ssl.CertificateError) as error:
                await self._give_up()
                raise trio.BrokenResourceError from error
            else:
                await self._flush()
                return

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Raises trio.BrokenResourceError, trio.ClosedResourceError."""
        view = memoryview(data)
        for start in range(0, len(view), SLICE):
            try:
                self._tls.write(view[start : start + SLICE])
            except ssl.SSLError as error:
                raise trio.BrokenResourceError from error
            await self._flush()
        if not view:
            await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int = RECEIVE) -> bytes:
        """What has come, at most max_bytes; b"" at the end. Raises as send_all."""
        pieces: list[bytes] = []
        left = max_bytes
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            try:
                while left:
                    piece = self._tls.read(left)
                    if not piece:
                        return b"".join(pieces)
                    pieces.append(piece)
                    left -= len(piece)
            except ssl.SSLWantReadError:
                if not pieces:
                    await self._flush()
                    await self._receive()
                    continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                pass  # what came before it counts; the next call comes here again
            except ssl.SSLError as error:
                await self._give_up()
                raise trio.BrokenResourceError from error
            await trio.lowlevel.cancel_shielded_checkpoint()
            return b"".join(pieces) if len(pieces) != 1 else pieces[0]

    async def aclose(self) -> None:
        """At once, without a closing alert."""
        await self._stream.aclose()

    async def _receive(self) -> None:
        data = await self._stream.receive_some(RECEIVE)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        """Send what there is to send, in the order in which it was encrypted."""
        if self._outgoing.pending:
            async with self._sending:
                if data := self._outgoing.read():
                    await self._stream.send_all(data)

    async def _give_up(self) -> None:
        """Tell the other end what is wrong, if it still listens."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._flush()

"""What the application asks of the node that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import trio

from p2pfl.errors import PeerError
from p2pfl.gossip.messages import Hello, Layout, Model, ModelHead, Pull, Task
from p2pfl.network.tokens import Token

Chunks = tuple[bytes, memoryview]
Invert = Literal["auto", "yes", "no"]


class Operated(Protocol):
    """What whoever operates a node may do with it."""

    @property
    def token(self) -> Token:
        """Who shows it is the operator."""

    def as_dict(self) -> dict[str, object]:
        """The JSON of GET /v1/controls."""

    async def change(self, values: Mapping[str, object]) -> None:
        """Set all of these, or raise a BadSetting. On the disk then, if the node keeps anything."""

    def stop(self) -> None:
        """Have the node leave the network in good order; returns at once."""


class Service(Protocol):
    """Implemented by the node. Nothing here waits, but `change`, and a hello that asks for a probe."""

    @property
    def operated(self) -> Operated | None:
        """None: nobody controls this node by HTTP."""

    @property
    def task(self) -> Task: ...

    @property
    def layout(self) -> Layout: ...

    def admit(self, head: ModelHead) -> None:
        """A model's head has come. May raise a PeerError to refuse it before its weights are read."""

    def receive_model(self, model: Model, source: str, size: int) -> Chunks | None:
        """A model was posted; the reply frame of a push-pull, or None. May raise a PeerError to refuse it."""

    async def receive_hello(self, hello: Hello, source: str, size: int) -> bytes:
        """A hello was posted; ours, encoded. May raise a PeerError to refuse it."""

    def snapshot(self, pull: Pull | None) -> tuple[str, Chunks]:
        """(ETag in its quotes, frame) of GET /v1/model. May raise a PeerError to refuse it.

        pull: who asks; None if the request does not say.
        """

    def pulled(self, source: str, size: int) -> None:
        """GET /v1/model was answered with `size` bytes of body (0: not modified)."""

    def reject(self, error: PeerError, source: str, peer: str) -> None:
        """Something was refused: count it. source: the host it came from; peer: the sender's id, if known."""

    def status(self) -> dict[str, object]: ...

    def peers(self) -> list[dict[str, object]]: ...

    def lacks(self) -> list[str]:
        """What keeps the node from being ready; nothing if it is."""

    def metrics(self) -> tuple[str, bytes] | None:
        """(content type, body) of GET /metrics; None if the node shows none."""

    def history(self, since: int = 0) -> dict[str, object]:
        """What is remembered; since: the `sequence` of an earlier answer, for what came after it."""

    async def change(self, since: int) -> None:
        """Return once something has happened after that `sequence`, or the node ends. This one waits."""

    async def predict(self, content: bytes, drawn: bool, invert: Invert) -> dict[str, object]:
        """What the model says of a picture's file. Raises BadPicture, CannotPredict. This one waits, too."""

    def exported(self) -> tuple[str, bytes]:
        """(file name, content) of the model as it is, as a safetensors file."""

    @property
    def end(self) -> trio.Event:
        """Set when the node stops: who watches it need not wait any longer."""

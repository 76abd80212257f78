"""What real nodes tell: the journals that they write, while they write them, and their models at the end."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio

from p2pfl.errors import FrameError, SimulationError
from p2pfl.events import Event, Started
from p2pfl.gossip.codec import ModelDecoder, encode_pull, pull_header
from p2pfl.gossip.identity import SECRET_SIZE, Identity
from p2pfl.gossip.messages import Layout, Pull, Task, TensorSpec, Vector
from p2pfl.network.client import PULL_HEADER

MODEL_DEADLINE = 60.0  # seconds to fetch a model


# -- journals


def restore(fields: dict[str, Any]) -> Event:
    """The inverse of Event.as_dict; null stays None. SimulationError for what is no event of a node."""
    known = {kind.kind: kind for kind in Event.__subclasses__()}
    values = {key: _frozen(value) for key, value in fields.items() if key != "event"}
    try:
        return known[fields["event"]](**values)
    except (KeyError, TypeError) as error:
        raise SimulationError(f"a node's journal has an unknown event: {fields.get('event')!r}") from error


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


class Tail:
    """The journal of one life of a node. A node's times count from its own start; ours are the caller's.

    The two are tied together where the node starts: it writes Started and then says that it listens. A last
    line that the node's death cut short is never complete and so never read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0  # bytes read, whole lines only
        self._offset: float | None = None
        self._held: list[tuple[float, Event]] = []  # read before the offset was known
        self.listens_at: float | None = None

    def look(self) -> Iterator[tuple[float, Event]]:
        """What is new since the last look, once `listens_at` (seconds of the caller's clock) is known."""
        self._held.extend(self._new())
        if self._offset is None and self.listens_at is not None:
            for time, event in self._held:
                if isinstance(event, Started):
                    self._offset = self.listens_at - time
        if self._offset is not None:
            held, self._held = self._held, []
            for time, event in held:
                yield self._offset + time, event

    def _new(self) -> Iterator[tuple[float, Event]]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                for line in file:
                    if not line.endswith(b"\n"):
                        return  # being written
                    self._position += len(line)
                    fields = json.loads(line)
                    yield fields.pop("t"), restore(fields)
        except FileNotFoundError:
            return  # it has not come so far
        except (OSError, ValueError, KeyError) as error:
            raise SimulationError(f"the journal {self._path} cannot be read: {error}") from error


# -- models


async def fetch_models(urls: Mapping[int, str], *, signed: bool = False) -> dict[int, Vector]:
    """(P,) float32 of each node, by its index, from the addresses at which they listen.

    signed: they answer nobody who does not sign; any key will do. Raises SimulationError.
    """
    weights: dict[int, Vector] = {}
    asker = Identity(secrets.token_bytes(SECRET_SIZE)) if signed else None
    # trust_env=False: no proxy of the user's stands between us and our own machine.
    async with httpx.AsyncClient(timeout=None, trust_env=False) as client:
        for index, url in urls.items():
            try:
                with trio.fail_after(MODEL_DEADLINE):
                    if not weights:
                        decoder = partial(ModelDecoder, *await read_layout(client, url))
                    headers = {} if asker is None else await _signed_pull(client, url, asker)
                    weights[index] = await _fetch_model(client, url, headers, decoder())
            except (
                httpx.TransportError,
                FrameError,
                trio.TooSlowError,
                ValueError,
                KeyError,
                TypeError,
            ) as error:
                raise SimulationError(f"the model of node {index} cannot be fetched: {error!r}") from error
    return weights


async def read_layout(client: httpx.AsyncClient, url: str) -> tuple[Task, Layout]:
    """What a node trains, as it describes it itself."""
    answer: dict[str, Any] = (await client.get(f"{url}/v1/layout")).json()
    task = answer["task"]
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in task.items()
    }
    tensors = [TensorSpec(spec["name"], tuple(spec["shape"]), spec["dtype"]) for spec in answer["tensors"]]
    return Task(**values), Layout(answer["model"], tuple(tensors))


async def _signed_pull(client: httpx.AsyncClient, url: str, asker: Identity) -> dict[str, str]:
    """The header by which `asker` pulls the model of the node at `url`."""
    node = str((await client.get(f"{url}/v1/status")).json()["id"])
    pull = Pull(asker.id, asker.nonce(), asker.envelope(node))
    return {PULL_HEADER: pull_header(encode_pull(pull, asker.sign))}


async def _fetch_model(
    client: httpx.AsyncClient, url: str, headers: dict[str, str], decoder: ModelDecoder
) -> Vector:
    async with client.stream("GET", f"{url}/v1/model", headers=headers) as response:
        async for chunk in response.aiter_raw():
            decoder.feed(chunk)
    return decoder.finish().weights

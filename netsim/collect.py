"""Reading the journals that real nodes write, while they write them, on one common scale of time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from p2pfl.errors import SimulationError
from p2pfl.events import Event, Started

# (seconds of the run's clock, index of the node, event)
Observation = tuple[float, int, Event]


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
    """One node's journal. A node's times count from its own start; ours from the run's.

    The two are tied together where the node starts: it writes Started and then says that it listens.
    """

    def __init__(self, path: Path, index: int) -> None:
        self._path = path
        self._index = index
        self._position = 0  # bytes read, whole lines only
        self._offset: float | None = None
        self._held: list[tuple[float, Event]] = []  # read before the offset was known
        self.listens_at: float | None = None

    def look(self) -> Iterator[Observation]:
        """What is new since the last look, once `listens_at` (seconds of the run's clock) is known."""
        self._held.extend(self._new())
        if self._offset is None and self.listens_at is not None:
            for time, event in self._held:
                if isinstance(event, Started):
                    self._offset = self.listens_at - time
        if self._offset is not None:
            held, self._held = self._held, []
            for time, event in held:
                yield self._offset + time, self._index, event

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

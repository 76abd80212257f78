"""Models that arrived and wait to be merged: bounded, the newest of each sender."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from p2pfl.gossip.messages import Model

# Memory that waiting models may take. Within it a node keeps between MIN_MODELS and MAX_MODELS of them.
BUDGET_BYTES = 256 * 2**20
MIN_MODELS = 8
MAX_MODELS = 64


def capacity_for(parameters: int) -> int:
    """How many models of `parameters` float32 elements an inbox holds."""
    return max(MIN_MODELS, min(MAX_MODELS, BUDGET_BYTES // (4 * max(1, parameters))))


@dataclass(frozen=True)
class _Entry:
    model: Model
    source: str
    known: bool


@dataclass
class Unmerged:
    """Models that were received and will not be merged; with the merged ones they are all that came.

    superseded: replaced by a later one of the same sender before they could be merged.
    repeated: merged already.  displaced: the inbox was full, when they came or later.
    """

    superseded: int = 0
    repeated: int = 0
    displaced: int = 0


class Inbox:
    """One entry per sender; a newer model of the same sender replaces the older.

    A sender is its id if it signs, which nobody else can claim; else (id, source address).

    When full, models of unknown senders (ids that we have not called ourselves) go first, and among them
    those of the source that has most: inventing ids only displaces one's own models.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: dict[tuple[str, str], _Entry] = {}
        self.unmerged = Unmerged()  # since whoever merges took them over
        self.arrivals = 0  # models that came, whatever became of them

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, model: Model, source: str, *, known: bool) -> bool:
        """Keep `model`; False if it is dropped because the inbox is full of better known senders.

        source: the address it came from.  known: the sender's id has answered at its own address.
        """
        key = (model.head.sender.id, "" if model.head.envelope else source)
        self.arrivals += 1
        self.unmerged.superseded += self._entries.pop(key, None) is not None
        if len(self._entries) >= self._capacity:
            self.unmerged.displaced += 1  # this one or another
            if not self._make_room(known):
                return False
        self._entries[key] = _Entry(model, source, known)
        return True

    def waiting(self) -> list[Model]:
        """All models in order of arrival; they stay."""
        return [entry.model for entry in self._entries.values()]

    def drain(self) -> list[Model]:
        """All waiting models in order of arrival; the inbox is empty afterwards."""
        models = self.waiting()
        self._entries.clear()
        return models

    def remove(self, models: list[Model]) -> None:
        """These very objects wait no more."""
        gone = {id(model) for model in models}
        self._entries = {key: entry for key, entry in self._entries.items() if id(entry.model) not in gone}

    def _make_room(self, known: bool) -> bool:
        unknown = [key for key, entry in self._entries.items() if not entry.known]
        if unknown:
            crowds = Counter(self._entries[key].source for key in unknown)
            (crowded, _), *_ = crowds.most_common(1)
            victim = next(key for key in unknown if self._entries[key].source == crowded)
        elif known:
            victim = next(iter(self._entries))
        else:
            return False
        del self._entries[victim]
        return True

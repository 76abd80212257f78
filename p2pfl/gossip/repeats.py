"""Models that were merged already: a model that is delivered twice is merged once. Sans-io."""

from __future__ import annotations

from collections import OrderedDict

from p2pfl.gossip.messages import Model

# Senders whose last merged snapshot is remembered.
REMEMBERED = 256


class Repeats:
    """The digest of the snapshot of each sender that was merged last."""

    def __init__(self) -> None:
        self._merged: OrderedDict[str, bytes] = OrderedDict()  # by sender; the one merged last at the end

    def news(self, models: list[Model]) -> list[Model]:
        """Without snapshots that their senders' last merged ones already were (retries, duplicates)."""
        found, last = [], dict[str, bytes]()
        for model in models:
            sender = model.head.sender.id
            if last.get(sender, self._merged.get(sender)) != model.digest:
                last[sender] = model.digest
                found.append(model)
        return found

    def remember(self, models: list[Model]) -> None:
        """They have been merged."""
        for model in models:
            sender = model.head.sender.id
            self._merged[sender] = model.digest
            self._merged.move_to_end(sender)
            if len(self._merged) > REMEMBERED:
                self._merged.popitem(last=False)

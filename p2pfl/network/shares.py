"""Places that many want, of which nobody may hold too many."""

from __future__ import annotations


class Shares:
    """`size` places. A source may take one more only while it holds fewer than are free.

    So one source gets at most half of them, two a third each, and there is room for whoever comes next.
    (Choudhury and Hahne 1998, "Dynamic queue length thresholds for shared-memory packet switches", alpha 1.)
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._held: dict[str, int] = {}

    @property
    def free(self) -> int:
        return self._free

    def held(self, source: str) -> int:
        return self._held.get(source, 0)

    def take(self, source: str) -> bool:
        """Whether the source now holds one place more."""
        held = self.held(source)
        if held >= self._free:
            return False
        self._free -= 1
        self._held[source] = held + 1
        return True

    def give_back(self, source: str) -> None:
        self._free += 1
        if self._held[source] == 1:
            del self._held[source]
        else:
            self._held[source] -= 1

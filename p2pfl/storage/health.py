"""How a node's storage is: what is safe on disk, and what went wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class StorageHealth:
    """For the node's status. Changed by whoever saves, in the node's own thread.

    round: of the last checkpoint on disk, None if there is none.
    failures: saves that failed, or kept only a part.  problem: why the last one did, "" if it did not.
    lost_lines: of the journal, that could not be written.
    damaged: "file: reason" of what was found damaged and set aside since the start.
    """

    round: int | None = None
    failures: int = 0
    problem: str = ""
    lost_lines: int = 0
    damaged: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        return {
            "round": self.round,
            "failures": self.failures,
            "problem": self.problem,
            "lost_lines": self.lost_lines,
            "damaged": list(self.damaged),
        }

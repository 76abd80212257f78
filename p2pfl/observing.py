"""Where a node process puts what it observes: its journal, its log, and whoever else asked."""

from __future__ import annotations

import logging
from collections.abc import Callable

from p2pfl.clock import Clock
from p2pfl.errors import StorageError
from p2pfl.events import Event, LinesLost
from p2pfl.storage.health import StorageHealth
from p2pfl.storage.journal import JournalFile

log = logging.getLogger(__name__)

# Events that a person who watches a node wants to see; the others are logged at level debug.
NOTABLE = (
    "started",
    "state-changed",
    "training-held",
    "training-released",
    "paused",
    "resumed",
    "settings-changed",
    "joined",
    "peer-added",
    "peer-dropped",
    "standing-changed",
    "rejected",
    "evaluated",
)

# Fields that would fill the log.
_NOT_LOGGED = ("event", "confusion", "labels")


class Observer:
    """The observe seam of a process. listeners: called with every event, also.

    A line that cannot be written to the journal is counted, and the node goes on: the next that can be
    written says how many are missing before it.
    """

    def __init__(self, clock: Clock, journal: JournalFile | None, health: StorageHealth) -> None:
        self.listeners: list[Callable[[Event], None]] = []
        self._clock = clock
        self._journal = journal
        self._health = health
        self._began: float | None = None
        self._missing = 0

    def __call__(self, event: Event) -> None:
        now = self._clock.now()
        self._began = now if self._began is None else self._began
        for listener in self.listeners:
            listener(event)
        if self._journal is not None:
            self._write(self._journal, round(now - self._began, 6), event)
        level = logging.INFO if event.kind in NOTABLE else logging.DEBUG
        if log.isEnabledFor(level):
            shown = {key: value for key, value in event.as_dict().items() if key not in _NOT_LOGGED}
            log.log(level, event.kind, extra={"fields": shown})

    def _write(self, journal: JournalFile, at: float, event: Event) -> None:
        try:
            if self._missing:
                journal.append({"t": at, **LinesLost(self._missing).as_dict()})
                log.warning("the journal can be written again, lines=%d are missing", self._missing)
                self._missing = 0
            journal.append({"t": at, **event.as_dict()})
        except StorageError as error:
            if not self._missing:
                log.warning("%s; the node goes on without it", error)
            self._missing += 1
            self._health.lost_lines += 1

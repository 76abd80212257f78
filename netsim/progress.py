"""What a person sees while a run goes on: a live line on a terminal, a few quiet lines in a pipe.

It is driven by the events of the run alone, has no thread and never sleeps: virtual time does not notice it.
"""

from __future__ import annotations

import sys
import time as host
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from netsim.journal import FaultStruck
from p2pfl.events import Evaluated, Event, RoundCompleted, StateChanged, Trained

if TYPE_CHECKING:
    import rich.progress

REDRAW = 0.1  # least real seconds between two pictures
PIPED_LINES = 10  # lines of a whole run when nobody watches live


class Progress:
    """Counts what it is told and shows it on stderr. Use as a context manager.

    nodes x rounds: what the run will do; rounds 0: until it is stopped.
    quiet: lines as in a pipe, also on a terminal.
    """

    def __init__(self, nodes: int, rounds: int, *, quiet: bool = False) -> None:
        self._nodes = nodes
        self._total = nodes * rounds
        self._rounds = 0
        self._done = 0
        self._away = 0
        self._images = 0
        self._time = 0.0
        self._first_round: int | None = None
        self._evaluators = 0
        self._accuracies: deque[float] = deque(maxlen=1)
        self._began: float | None = None  # when the first node began to train
        self._drawn = host.perf_counter()
        self._lines = 0
        self._err: TextIO = sys.stderr
        self._live = not quiet and self._err.isatty()
        self._bar: rich.progress.Progress | None = None

    def watch(self, time: float, event: Event) -> None:
        """One event of a node, or of the simulator. time: seconds of the run's clock."""
        self._time = time
        if isinstance(event, Trained):
            self._images += event.samples
        elif isinstance(event, RoundCompleted):
            self._rounds += 1
            if not self._live and 0 < (self._lines + 1) * self._total <= self._rounds * PIPED_LINES:
                self._line()
        elif isinstance(event, Evaluated):
            self._evaluated(event)
        elif isinstance(event, StateChanged):
            self._state_changed(event)
        elif isinstance(event, FaultStruck):
            self._fault(event)
        if self._bar is not None and host.perf_counter() >= self._drawn + REDRAW:
            self._redraw()

    def _state_changed(self, event: StateChanged) -> None:
        if event.state == "done":
            self._done += 1
        elif event.state == "training" and self._began is None:
            self._began = host.perf_counter()  # what it takes to start is no part of the rate

    def _fault(self, event: FaultStruck) -> None:
        """Who is away: crashed, left, hanging. Late joiners are only there once they have joined."""
        if event.fault in ("crash", "leave", "hang"):
            self._away += len(event.nodes)
        elif event.fault in ("restart", "resume"):
            self._away = max(0, self._away - len(event.nodes))

    def _evaluated(self, event: Evaluated) -> None:
        """Keep one value for each node that evaluates itself: as many as did so after the first round."""
        if self._first_round in (None, event.round) and self._evaluators < self._nodes:
            self._first_round = event.round
            self._evaluators += 1
            self._accuracies = deque(self._accuracies, maxlen=self._evaluators)
        self._accuracies.append(event.accuracy)

    def text(self) -> str:
        """`done 3/20  t 12.3 s  accuracy 0.912  45,000 images/s`; t is the run's clock."""
        accuracy = f"{sum(self._accuracies) / len(self._accuracies):.3f}" if self._accuracies else "-"
        now = host.perf_counter()
        rate = self._images / max(now - (self._began or now), 1e-3)
        away = f"away {self._away}  " if self._away else ""
        return (
            f"done {self._done}/{self._nodes}  {away}t {self._time:.1f} s  "
            f"accuracy {accuracy}  {rate:,.0f} images/s"
        )

    def _line(self) -> None:
        # One event may complete several tenths of a short run: they are one line.
        done = f"{self._rounds}"
        if self._total:
            self._lines = self._rounds * PIPED_LINES // self._total
            done += f"/{self._total} ({100 * self._rounds // self._total} %)"
        print(f"rounds {done}  {self.text()}", file=self._err, flush=True)

    def _redraw(self) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._rounds, text=self.text())
            self._bar.refresh()
        self._drawn = host.perf_counter()

    def __enter__(self) -> Progress:
        if self._live:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("rounds"),
                MofNCompleteColumn(),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[text]}", markup=False),
                TimeRemainingColumn(compact=True),
                console=Console(file=self._err),
                auto_refresh=False,  # its refreshing thread would read a clock that is not the run's
                expand=True,
            )
            self._bar.add_task("rounds", total=self._total or None, text=self.text())
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._redraw()
            self._bar.stop()
            self._bar = None
        elif kind is None and self._done:
            self._line()  # all rounds were complete before the last exchanges: this is how it ended

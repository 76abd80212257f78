"""The figures of kill -9 at random instants of real training, each followed by a restart (kills.py)."""

from __future__ import annotations

from collections.abc import Iterator

from soak.figures import Figure, at_least, at_most, explains, none_of
from soak.kills import run
from soak.options import Options

KILLS, FEW = 100, 10


def measure(options: Options) -> Iterator[Figure]:
    """The figures of `python -m soak kills`."""
    asked = FEW if options.small else KILLS
    found = run(asked, options.seed, options.folder)
    yield at_least("kills: lives ended by SIGKILL", found.kills, asked)
    yield none_of("kills: corrupt states, wrong restarts", list(found.faults))
    yield at_most("kills: completed rounds lost by a kill", found.lost, 1)
    yield explains("kills: rounds trained", f"{found.rounds:,}")
    yield explains("kills: struck before a save, in a write", f"{found.unsaved}, {found.torn}")
    yield explains("kills: lives that rejoined by themselves", f"{found.rejoined}")

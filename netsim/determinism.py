"""Running trio so that equal programs take equal steps.

Trio shuffles the tasks that become runnable together, on purpose. It has a private switch for Hypothesis that
sorts them by age first; we set the switch and put a fixed order in the shuffle's place: older tasks first.
A seeded shuffle would be repeatable too, but only as long as no batch ever has one task more: a
garbage-collected asynchronous generator wakes a task of trio's own at a moment that depends on the host's
memory, and all shuffles after it would differ. Without drawing, such a task changes nothing for the others.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, TypeVarTuple

import trio
from trio._core import _run

from p2pfl.errors import SimulationError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_SWITCH = "_ALLOW_DETERMINISTIC_SCHEDULING"
_RANDOM = "_r"


class _OldestFirst(random.Random):
    """Stands in for trio's own generator: turns the sorted batch round, as trio takes tasks from its end."""

    def shuffle(self, x: Any) -> None:
        x.reverse()


@contextmanager
def deterministic_scheduling() -> Iterator[None]:
    """Trio runs that start inside schedule by task age alone. Process-wide: one such simulation at a time.

    Raises SimulationError if this version of trio lacks the private names.
    """
    module = vars(_run)
    if not isinstance(module.get(_SWITCH), bool) or not isinstance(module.get(_RANDOM), random.Random):
        raise SimulationError(
            f"trio {trio.__version__} has no switch for deterministic scheduling; "
            "install the version in constraints.txt"
        )
    before = module[_SWITCH], module[_RANDOM]
    module[_SWITCH], module[_RANDOM] = True, _OldestFirst(0)
    try:
        yield
    finally:
        module[_SWITCH], module[_RANDOM] = before


def run_deterministically(
    async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts, clock: trio.abc.Clock | None = None
) -> T:
    """trio.run with tasks that become runnable together run in the order of their creation.

    clock: the simulator's JumpingClock.
    """
    with deterministic_scheduling():
        return trio.run(async_fn, *args, clock=clock)

"""Virtual time: a clock that stands still while a task can run, and then jumps to the next deadline."""

from __future__ import annotations

import math
from collections.abc import Callable

import trio


class JumpingClock(trio.abc.Clock):
    """What trio.testing.MockClock(autojump_threshold=0) does, in one pass of trio's loop instead of two.

    It also lands on the deadline itself: MockClock adds a difference, which may miss it by a float's last
    bit. For programs that wait for nothing but each other and time: what else wakes a task (a thread, a
    socket) comes at some moment of virtual time, and wait_all_tasks_blocked() does not stop the jumps.

    on_alarm: called with the time at alarm_time, when no task can run: before the deadlines of that instant.
    Whoever uses it sets alarm_time anew; it must not raise. A task that sleeps costs ten times as much.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self.alarm_time = math.inf
        self.on_alarm: Callable[[float], None] = lambda now: None

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Trio asks when no task can run, and would wait so many real seconds for the next deadline."""
        time = min(deadline, self.alarm_time)
        if time == math.inf:
            return time
        self._now = max(self._now, time)
        if self.alarm_time <= self._now:
            self.alarm_time = math.inf
            self.on_alarm(self._now)
        return 0.0

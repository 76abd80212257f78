"""Whether other processes have ended."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable

# Seconds: so long that only a process that does not end at all takes them.
PATIENCE = 60.0


def watch(pids: Iterable[int]) -> list[int]:
    """File descriptors of running processes, for all_ended."""
    return [os.pidfd_open(pid) for pid in pids]


def all_ended(processes: list[int]) -> bool:
    """Waits for them; False if one does not end. Closes the descriptors."""
    try:
        return all(select.select([process], [], [], PATIENCE)[0] for process in processes)
    finally:
        for process in processes:
            os.close(process)

"""Peak memory of a process tree, from /proc."""

from __future__ import annotations

import gc
import mmap
import os
import resource
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from netsim import memory
from netsim.memory import (
    PeakMemory,
    descendants,
    frozen_heap,
    keep_freed_memory,
    rare_collections,
    tree_pss,
)

SIZE = 64 << 20  # bytes: large beside what else a test process allocates meanwhile

pytestmark = [
    pytest.mark.skipif(
        not Path("/proc/self/smaps_rollup").exists(), reason="this kernel has no /proc/PID/smaps_rollup"
    ),
    # pytest-xdist's workers have a thread, which Python 3.12 minds; what is forked here needs no lock.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def touched() -> mmap.mmap:
    """SIZE bytes of anonymous memory, every page written."""
    area = mmap.mmap(-1, SIZE)
    for page in range(0, SIZE, mmap.PAGESIZE):
        area[page] = 1
    return area


class Child:
    """A forked process that holds `touched` memory until told to end."""

    def __enter__(self) -> Child:
        ready, ready_out = os.pipe()
        end, self._end_out = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._end_out)
            area = touched()
            os.write(ready_out, b"!")
            os.read(end, 1)
            area.close()
            os._exit(0)
        os.close(ready_out)
        os.close(end)
        assert os.read(ready, 1) == b"!"
        os.close(ready)
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._end_out)
        os.waitpid(self.pid, 0)


def test_descendants_are_counted() -> None:
    before = tree_pss(os.getpid())
    assert before is not None
    with Child() as child:
        assert child.pid in descendants(os.getpid())
        during = tree_pss(os.getpid())
        assert during is not None
        assert during - before > SIZE / 2
    assert child.pid not in descendants(os.getpid())


def test_the_peak_is_at_least_what_was_in_use_at_the_end() -> None:
    with PeakMemory() as small:
        pass
    assert small.peak_bytes is not None
    with PeakMemory() as large:
        area = touched()
    area.close()
    assert large.peak_bytes is not None
    assert large.peak_bytes - small.peak_bytes > SIZE / 2


def test_no_thread_is_left() -> None:
    before = threading.active_count()
    with PeakMemory():
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_without_pss_the_peak_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_pss", lambda pid: None)
    with PeakMemory() as peak:
        pass
    assert peak.peak_bytes is None


def test_a_process_that_is_gone_counts_nothing() -> None:
    with Child() as child:
        pass
    assert tree_pss(child.pid) is None


def test_kept_memory_is_not_cleared_by_the_kernel_again() -> None:
    """In a child, since the setting is for good: exit status 0 if the second round takes few page faults."""
    pid = os.fork()
    if pid == 0:
        kept = keep_freed_memory()
        vectors = [np.ones(SIZE // 32, np.float32) for _ in range(4)]
        del vectors
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        vectors = [np.ones(SIZE // 32, np.float32) for _ in range(4)]
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        os._exit(0 if not kept or faults < SIZE / 8 / mmap.PAGESIZE / 2 else 1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.fixture
def thawed() -> Iterator[None]:
    """Nothing is frozen; afterwards all is as it was, if something had been (tests/conftest.py)."""
    frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    yield
    gc.unfreeze()
    if frozen:
        gc.freeze()


def test_what_a_caller_has_frozen_stays_frozen_and_is_not_looked_at(thawed: None) -> None:
    ring: list[object] = []
    ring.append(ring)
    seen = weakref.ref(held := Held())
    ring.append(held)
    gc.freeze()
    before = gc.get_freeze_count()
    del ring, held
    with frozen_heap():
        assert seen() is not None
        assert gc.get_freeze_count() <= before
        later = weakref.ref(after := Held())
        after.itself = after
        del after
        gc.collect()
        assert later() is None
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
    gc.collect()
    assert seen() is None


class Held:
    itself: object


def test_collections_are_rare_only_meanwhile(thawed: None) -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    with rare_collections():
        assert gc.get_threshold()[0] > before[0][0]
        assert gc.get_freeze_count() > 0
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


def test_samples_of_a_slow_machine_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most one hundredth of the time goes into them."""
    waits: list[float] = []
    now = 0.0

    def sample(root: int) -> int:
        nonlocal now
        now += 0.05
        return 1

    class End:
        def is_set(self) -> bool:
            return len(waits) >= 3

        def wait(self, seconds: float) -> None:
            waits.append(seconds)

    monkeypatch.setattr(memory, "tree_pss", sample)
    monkeypatch.setattr(memory.time, "perf_counter", lambda: now)
    peak = PeakMemory()
    monkeypatch.setattr(peak, "_end", End())
    peak._sample()
    assert waits == [pytest.approx(5.0)] * 3
    assert peak.peak_bytes == 1

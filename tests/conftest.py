"""Coroutine tests run under trio; those marked `virtual` in virtual time, which jumps when all tasks wait."""

from __future__ import annotations

import functools
import gc
import inspect
import signal

import pytest
import trio
from trio.testing import MockClock


def pytest_configure(config: pytest.Config) -> None:
    # What a shell starts in the background ignores SIGINT, and so would all processes of the tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "virtual: run this coroutine test under trio's MockClock, which jumps")


def pytest_collection_finish() -> None:
    # Each simulation collects garbage before it begins. All of torch, and all tests, are not garbage: without
    # this looking at them takes longer than many a test.
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    # pytest-xdist passes groups on in the node ids. With a pytest that keeps its node ids to itself, real
    # nodes, floods and Ray clusters would run side by side, and nobody would know.
    grouped = getattr(item.config.option, "loadgroup", False) and item.get_closest_marker("xdist_group")
    if grouped and "@" not in item.nodeid:
        pytest.fail("pytest-xdist has lost this test's group; install the versions of constraints.txt", False)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs `async def` tests; True tells pytest that the test has been run."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    virtual = pyfuncitem.get_closest_marker("virtual") is not None
    clock = MockClock(autojump_threshold=0) if virtual else None
    trio.run(functools.partial(pyfuncitem.obj, **arguments), clock=clock)
    return True

"""Coroutine tests run under trio; those marked `virtual` in virtual time, which jumps when all tasks wait."""

from __future__ import annotations

import functools
import inspect
import signal

import pytest
import trio
from trio.testing import MockClock


def pytest_configure(config: pytest.Config) -> None:
    # What a shell starts in the background ignores SIGINT, and so would all processes of the tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "virtual: run this coroutine test under trio's MockClock, which jumps")


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

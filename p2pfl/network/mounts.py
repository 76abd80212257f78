"""Several applications behind one port: each under `/tasks/NAME/`, and what belongs to all at the root."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import httpx
import trio
from starlette.types import ASGIApp, Receive, Scope, Send

from p2pfl.config import TASKS
from p2pfl.errors import FrameError, NoSuchRoute, NotRunning
from p2pfl.network import problems
from p2pfl.network.app import REFUSED, send_refusal
from p2pfl.network.operator_routes import START
from p2pfl.network.splitting import TASK

Transport = httpx.AsyncBaseTransport | None


class Mounts:
    """names: all that may be mounted.  root: answers what is not of a task, and START of one."""

    def __init__(self, names: Iterable[str], root: ASGIApp) -> None:
        self._names = frozenset(names)
        self._root = root
        self._apps: dict[str, ASGIApp] = {}

    @contextmanager
    def mounted(self, name: str, app: ASGIApp) -> Iterator[None]:
        self._apps[name] = app
        try:
            yield
        finally:
            del self._apps[name]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope.get(TASK)
        app = self._root if name is None or scope.get("path") == START else self._apps.get(name)
        if app is not None:
            await app(scope, receive, send)
        elif scope["type"] == REFUSED:
            await self._root(scope, receive, send)
        else:
            await self._refuse(name, scope, receive, send)

    async def _refuse(self, name: object, scope: Scope, receive: Receive, send: Send) -> None:
        error: FrameError
        if name in self._names:
            error = NotRunning(f"the task {name} does not run here now; GET {TASKS} of this process says why")
        else:
            error = NoSuchRoute(f"there is no task {problems.one_line(str(name))} here")
        await self._root({"type": REFUSED, "client": scope.get("client"), "error": error}, receive, send)
        await send_refusal(send, error, close=scope["method"] not in ("GET", "HEAD"))


class MountedNetwork:
    """The network seam of one of several nodes. transport: as that of the seam.  base: the process's URL."""

    def __init__(self, transport: Callable[[], Transport], mounts: Mounts, name: str, base: str) -> None:
        self.transport = transport
        self._mounts = mounts
        self._name = name
        self.url = f"{base}{TASKS}/{name}"

    async def serve(
        self, app: ASGIApp, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve under /tasks/NAME until cancelled."""
        with self._mounts.mounted(self._name, app):
            task_status.started(self.url)
            await trio.sleep_forever()

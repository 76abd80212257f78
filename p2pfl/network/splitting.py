"""Takes `/tasks/NAME` off a request's path before anything else looks at it.

So the gate knows each route by the same name wherever it lies, and what it spends and counts it does for the
whole process.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from p2pfl.config import split_path

TASK = "p2pfl.task"
"""Key of a scope: the NAME of its path, which has been taken off."""


class Splitting:
    """An application that hands requests on with TASK and the rest of their path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = split_path(scope["path"]) if scope["type"] == "http" else None
        if found is not None:
            scope = {**scope, TASK: found[0], "path": found[1]}
        await self._app(scope, receive, send)

"""What belongs to a whole process of several tasks: their list, its health, and starting one again.

GET  /tasks              the tasks, JSON            GET /healthz, /readyz    of the process
POST /tasks/NAME/start   for the operator           GET /openapi.json, /
GET  /web/...            the page's files
GET  /tasks/NAME         goes to /tasks/NAME/, so that a page's relative addresses are right
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from p2pfl.config import TASKS, is_task_path
from p2pfl.errors import FrameError, NoSuchRoute, PeerError, WrongMethod
from p2pfl.network import assets, openapi_tasks, problems
from p2pfl.network.app import REFUSED
from p2pfl.network.operator_routes import START, check_operator
from p2pfl.network.splitting import TASK
from p2pfl.network.tokens import Token

Json = dict[str, object]


class Tasks(Protocol):
    """Implemented by the process."""

    @property
    def token(self) -> Token:
        """Who shows it may start tasks."""

    def listed(self) -> list[Json]:
        """The JSON of GET /tasks: a task each, in the file's order."""

    def lacks(self) -> list[str]:
        """What keeps the process from being ready; nothing if it is."""

    def start(self, name: str) -> Json:
        """Start a task that does not run; as in `listed`. Raises a PeerError to refuse it."""

    def reject(self, error: PeerError, source: str) -> None:
        """Something was refused that no task saw: count it. source: the host it came from."""


def make_index(tasks: Tasks) -> ASGIApp:
    index = _Index(tasks)
    routes: list[tuple[str, Callable[..., object], str]] = [
        (TASKS, index.tasks, "GET"),
        (START, index.start, "POST"),
        (f"{TASKS}/{{name:str}}", index.within, "GET"),
        ("/healthz", index.health, "GET"),
        ("/readyz", index.readiness, "GET"),
        ("/openapi.json", index.openapi, "GET"),
        ("/", assets.tasks, "GET"),
        ("/web/{name:str}", assets.file, "GET"),
    ]
    app = Starlette(
        routes=[Route(path, endpoint, methods=[method]) for path, endpoint, method in routes],
        exception_handlers={HTTPException: index.refuse, FrameError: index.refuse},
    )
    app.router.redirect_slashes = False

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == REFUSED:
            tasks.reject(scope["error"], problems.source(scope))
        else:
            await app(scope, receive, send)

    return counting


class _Index:
    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    async def tasks(self, request: Request) -> Response:
        return JSONResponse([_finite(task) for task in self._tasks.listed()])

    async def start(self, request: Request) -> Response:
        name = request.scope.get(TASK)
        if name is None:
            raise HTTPException(404)
        check_operator(self._tasks.token, request.scope)
        return JSONResponse(_finite(self._tasks.start(name)), status_code=202)

    async def within(self, request: Request) -> Response:
        if not is_task_path(request.url.path):
            raise HTTPException(404)
        return RedirectResponse(f"{request.url.path}/", status_code=308)

    async def health(self, request: Request) -> Response:
        return JSONResponse({"healthy": True})

    async def readiness(self, request: Request) -> Response:
        lacks = self._tasks.lacks()
        return JSONResponse({"ready": not lacks, "lacks": lacks}, status_code=503 if lacks else 200)

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(openapi_tasks.document())

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Refusals as problem documents, and counted."""
        where = f"{request.method} {problems.one_line(request.url.path)}"
        headers: dict[str, str] = {}
        if isinstance(error, FrameError):
            refusal = error
        elif isinstance(error, HTTPException) and error.status_code == 404:
            refusal = NoSuchRoute(f"{where}: there is no such path here; each task's are under {TASKS}/NAME")
        elif isinstance(error, HTTPException) and error.status_code == 405:
            headers["allow"] = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
            refusal = WrongMethod(f"{where}: this path takes {headers['allow']}")
        else:
            raise error
        self._tasks.reject(refusal, problems.source(request.scope))
        document = problems.encode(refusal.reason, refusal.status, str(refusal))
        return Response(document, refusal.status, headers, problems.MEDIA_TYPE)


def _finite(task: Json) -> Json:
    """JSON has no NaN and no infinity: null instead, as a diverged node's loss is."""
    infinite = [key for key, value in task.items() if isinstance(value, float) and not math.isfinite(value)]
    return task | dict.fromkeys(infinite)

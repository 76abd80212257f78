"""The pages of a node for people and tools: JSON, never limited by what happens on exchanges.

Every page is a coroutine: plain functions would run in threads, which virtual time does not see.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from p2pfl.errors import FrameError, NoSuchRoute, WrongMethod
from p2pfl.network import openapi, problems
from p2pfl.network.documents import finite
from p2pfl.network.service import Service


class Pages:
    """One node's."""

    def __init__(self, service: Service) -> None:
        self._service = service
        task, layout = service.task, service.layout
        self._layout = {
            "task": task.as_dict(),
            "task_digest": task.digest,
            **layout.as_dict(),
            "size": layout.size,
            "fingerprint": layout.fingerprint,
        }

    async def layout(self, request: Request) -> Response:
        return JSONResponse(self._layout)

    async def status(self, request: Request) -> Response:
        return JSONResponse(finite(self._service.status()))

    async def peers(self, request: Request) -> Response:
        return JSONResponse(finite(self._service.peers()))

    async def history(self, request: Request) -> Response:
        return JSONResponse(finite(self._service.history()))

    async def health(self, request: Request) -> Response:
        return JSONResponse({"healthy": True})

    async def readiness(self, request: Request) -> Response:
        lacks = self._service.lacks()
        return JSONResponse({"ready": not lacks, "lacks": lacks}, status_code=503 if lacks else 200)

    async def metrics(self, request: Request) -> Response:
        shown = self._service.metrics()
        if shown is None:
            raise HTTPException(404)
        kind, body = shown
        return Response(body, headers={"content-type": kind})

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(openapi.document())

    async def refused(self, request: Request, error: Exception) -> Response:
        """A page's own refusal."""
        assert isinstance(error, FrameError)
        self._service.reject(error, problems.source(request.scope), "")
        headers: dict[str, str] = {}
        for seconds in problems.retry_after(error):
            headers["retry-after"] = str(seconds)
        if request.method == "POST":  # its body may not have been read
            headers["connection"] = "close"
        document = problems.encode(error.reason, error.status, str(error))
        return Response(document, error.status, headers, problems.MEDIA_TYPE)

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Starlette's own refusals (no such path, wrong method), as problem documents and counted."""
        where = f"{request.method} {problems.one_line(request.url.path)}"
        headers: dict[str, str] = {}
        refusal: FrameError
        if isinstance(error, HTTPException) and error.status_code == 404:
            refusal = NoSuchRoute(f"{where}: there is no such path here")
        elif isinstance(error, HTTPException) and error.status_code == 405:
            # Starlette joins a set, whose order differs from run to run.
            allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
            headers["allow"] = allowed
            refusal = WrongMethod(f"{where}: this path takes {allowed}")
        else:
            raise error
        self._service.reject(refusal, problems.source(request.scope), "")
        document = problems.encode(refusal.reason, refusal.status, str(refusal))
        return Response(document, refusal.status, headers, problems.MEDIA_TYPE)

"""The OpenAPI document of what a process of several tasks serves at its root; each task has its own."""

from __future__ import annotations

from functools import cache
from typing import Any

from p2pfl.network import openapi
from p2pfl.network.openapi import COUNT, JSON, MAYBE_NUMBER, TEXT

TASK_STATES = [
    "starting",
    "waiting",
    "training",
    "settling",
    "done",
    "paused",
    "stopped",
    "finished",
    "failed",
]

_PROPERTIES: dict[str, object] = {
    "name": TEXT,
    "state": {"type": "string", "enum": TASK_STATES, "description": "The node's, or why there is none now."},
    "running": {"type": "boolean"},
    "url": {**TEXT, "description": "The node's address, as it listens."},
    "round": COUNT,
    "loss": MAYBE_NUMBER,
    "accuracy": MAYBE_NUMBER,
    "peers": {**COUNT, "description": "Live ones that it knows."},
    "failure": {**TEXT, "description": 'Why it failed; "" if it did not.'},
}
SCHEMAS: dict[str, dict[str, object]] = {
    "TaskEntry": {
        "type": "object",
        "description": "One task. round, loss and accuracy belong to one completed round, the last if "
        "it does not run.",
        "properties": _PROPERTIES,
        "required": list(_PROPERTIES),
    }
}
_ENTRY: dict[str, object] = {"$ref": "#/components/schemas/TaskEntry"}
_LIST: dict[str, object] = {"type": "array", "items": _ENTRY}


@cache
def document() -> dict[str, object]:
    """The whole of it; not to be modified."""
    node: dict[str, Any] = openapi.document()
    paths: dict[str, Any] = {
        path: {"get": openapi.operation(openapi.PAGES[path])}
        for path in ("/healthz", "/readyz", "/openapi.json")
    }
    paths["/tasks"] = {"get": openapi.operation(("tasks", "The tasks of this process.", _LIST, {}))}
    start: dict[str, Any] = openapi.operation(("start", "Start a task that does not run.", _ENTRY, {}))
    answers: dict[str, Any] = start["responses"]
    answers["202"] = {"description": "It starts, or runs.", "content": {JSON: {"schema": _ENTRY}}}
    del answers["200"]
    name = {"name": "name", "in": "path", "required": True, "schema": TEXT}
    paths["/tasks/{name}/start"] = {"parameters": [name], "post": start}
    components = {**node["components"], "schemas": {**node["components"]["schemas"], **SCHEMAS}}
    info = {
        **node["info"],
        "title": "p2pfl tasks",
        "description": "Several nodes in one process, behind one port.",
    }
    return {**node, "info": info, "paths": paths, "components": components}

"""Which task of a process the running code belongs to, for its log lines; "" in a process of one node."""

from __future__ import annotations

from contextvars import ContextVar

current_task: ContextVar[str] = ContextVar("current_task", default="")

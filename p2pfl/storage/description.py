"""A task and a layout as JSON text in a file's metadata, and back: weights without them are only numbers."""

from __future__ import annotations

import json
from typing import Any

from p2pfl.gossip.messages import Layout, Task, TensorSpec


def task_text(task: Task) -> str:
    return _text(task.as_dict())


def layout_text(layout: Layout) -> str:
    return _text(layout.as_dict())


def read_task(text: str) -> Task:
    """ValueError if `text` is not what task_text() gives."""
    entry = _object(text)
    try:
        task = Task(
            name=entry["name"],
            classes=tuple(entry["classes"]),
            input_shape=tuple(entry["input_shape"]),
            mean=tuple(map(float, entry["mean"])),
            std=tuple(map(float, entry["std"])),
        )
    except (KeyError, TypeError) as error:
        raise ValueError("its task is not a task") from error
    if not (_are(str, task.name, *task.classes) and _are(int, *task.input_shape)):
        raise ValueError("its task is not a task")
    return task


def read_layout(text: str) -> Layout:
    """ValueError if `text` is not what layout_text() gives."""
    entry = _object(text)
    try:
        tensors = tuple(
            TensorSpec(tensor["name"], tuple(tensor["shape"]), tensor["dtype"]) for tensor in entry["tensors"]
        )
        layout = Layout(entry["model"], tensors)
    except (KeyError, TypeError) as error:
        raise ValueError("its layout is not a layout") from error
    sizes = [size for tensor in tensors for size in tensor.shape]
    if not (_are(str, layout.model, *(tensor.name for tensor in tensors)) and _are(int, *sizes)):
        raise ValueError("its layout is not a layout")
    if min(sizes, default=0) < 0 or {tensor.dtype for tensor in tensors} - {"float32"}:
        raise ValueError("its layout is not one of float32 tensors")
    return layout


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("its metadata is not what p2pfl writes")
    return value


def _are(kind: type, *values: object) -> bool:
    return all(type(value) is kind for value in values)

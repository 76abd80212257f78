"""A model as others use it: a safetensors file of named tensors in their real shapes, and what they are of.

Metadata, all of it text: `format` "pt" (whose names and shapes they are: PyTorch's), `model`, `task` and
`layout` as JSON (`task` has name, classes in label order, input shape, and the mean and standard deviation by
which inputs in [0, 1] are normalised), `round` and `age`. A file without `task` and `layout` is anybody's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import save as to_bytes

from p2pfl.gossip.messages import Layout, Task, Vector
from p2pfl.storage.checkpoint import Checkpoint, read_safetensors
from p2pfl.storage.description import layout_text, read_layout, read_task, task_text

# Names in an error; of more the rest is counted.
_SHOWN = 3


@dataclass(frozen=True)
class Exported:
    """tensors: float32.  task, layout: None if the file does not say.  age: 0 if it does not."""

    tensors: Mapping[str, npt.NDArray[np.float32]]
    task: Task | None
    layout: Layout | None
    age: float


def encode(checkpoint: Checkpoint) -> bytes:
    """The file's content."""
    layout = checkpoint.layout
    metadata = {
        "format": "pt",
        "model": layout.model,
        "task": task_text(checkpoint.task),
        "layout": layout_text(layout),
        "round": str(checkpoint.round),
        "age": repr(checkpoint.age),
    }
    return to_bytes(_named(checkpoint.weights, layout), metadata)


def decode(content: bytes) -> Exported:
    """ValueError says in a few words why it is not such a file."""
    if content[:2] == b"PK" or content[:1] == b"\x80":
        raise ValueError("it is a PyTorch file; save it with safetensors.torch.save_file")
    try:
        tensors, metadata = read_safetensors(content)
        task, layout = metadata.get("task"), metadata.get("layout")
        age = float(metadata.get("age", 0))
        if task is None or layout is None:
            return Exported(tensors, None, None, 0.0)
        if not (math.isfinite(age) and age >= 0):
            raise ValueError(f"its age is {age}")
        return Exported(tensors, read_task(task), read_layout(layout), age)
    except SafetensorError as error:
        raise ValueError(" ".join(str(error).split())) from error


def flatten(tensors: Mapping[str, npt.NDArray[np.float32]], layout: Layout) -> Vector:
    """(P,) float32. ValueError names the tensors that are missing, too many, misshapen or not finite."""
    expected = {tensor.name: tensor for tensor in layout.tensors}
    if missing := [name for name in expected if name not in tensors]:
        raise ValueError(f"{layout.model} has {_shown(missing)}, the file has not")
    if unknown := sorted(name for name in tensors if name not in expected):
        raise ValueError(f"the file has {_shown(unknown)}, {layout.model} has not")
    for name, spec in expected.items():
        if tensors[name].shape != spec.shape:
            raise ValueError(
                f"{name} has shape {tensors[name].shape} in the file, {layout.model} has {spec.shape}"
            )
        if not np.isfinite(tensors[name]).all():
            raise ValueError(f"{name} holds NaN or infinity")
    return np.concatenate([tensors[name].reshape(-1) for name in expected])


def _named(weights: Vector, layout: Layout) -> dict[str, npt.NDArray[np.float32]]:
    ends = np.cumsum([tensor.size for tensor in layout.tensors])
    parts = np.split(weights, ends[:-1])
    return {
        tensor.name: np.array(part.reshape(tensor.shape), "<f4", order="C")
        for tensor, part in zip(layout.tensors, parts, strict=True)
    }


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

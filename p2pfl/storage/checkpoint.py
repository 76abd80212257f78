"""What a node saves of itself, and the file that holds it: safetensors that is whole or is refused.

The file holds the tensors `weights` and `optimiser` and string metadata, task and layout among it: it can be
exported and checked without the program that made it. The checksum is XXH3-128 over the other metadata
(canonical JSON) and the tensors' bytes, since safetensors has none. The peers are not in it: they are in the
database beside it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as to_bytes

from p2pfl.gossip.messages import KnownPeer, Layout, Task, Vector
from p2pfl.storage.description import layout_text, read_layout, read_task, task_text

FORMAT = "2"  # raised whenever an older p2pfl could not read the file, or would read it wrongly

_FIELDS = ("format", "id", "round", "age", "version", "task", "layout")
_TENSORS = ("weights", "optimiser")


@dataclass(frozen=True)
class Checkpoint:
    """All that a node needs to go on where it stopped.

    weights: (P,) float32.  optimiser: (S,) float32, (0,) if stateless.  version: its snapshot counter.
    task, layout: what the weights are of; a node refuses a state of another task or layout.
    peers: whom it knows, so that it finds its way back even if nobody is named to it.
    """

    id: str
    round: int
    age: float
    weights: Vector
    optimiser: Vector
    task: Task
    layout: Layout
    version: int
    peers: tuple[KnownPeer, ...] = ()


class Damaged(ValueError):
    """The bytes are no checkpoint that was written whole; the message says in a few words why."""


class OtherFormat(ValueError):
    """A checkpoint of another version of p2pfl; the message is that format's name."""


def encode(checkpoint: Checkpoint) -> bytes:
    """The file's content. The peers are left out."""
    tensors = {
        "weights": np.ascontiguousarray(checkpoint.weights, dtype="<f4"),
        "optimiser": np.ascontiguousarray(checkpoint.optimiser, dtype="<f4"),
    }
    metadata = {
        "format": FORMAT,
        "id": checkpoint.id,
        "round": str(checkpoint.round),
        "age": repr(float(checkpoint.age)),
        "version": str(checkpoint.version),
        "task": task_text(checkpoint.task),
        "layout": layout_text(checkpoint.layout),
    }
    return to_bytes(tensors, {**metadata, "checksum": _checksum(metadata, tensors)})


def decode(content: bytes) -> Checkpoint:
    """The checkpoint in a file's content, without peers. Raises Damaged or OtherFormat.

    Its vectors are the caller's own.
    """
    try:
        tensors, metadata = read_safetensors(content)
        if metadata.get("format", FORMAT) != FORMAT:
            raise OtherFormat(metadata["format"])
        if set(metadata) != {*_FIELDS, "checksum"} or set(tensors) != set(_TENSORS):
            raise Damaged("it is not a p2pfl checkpoint")
        if any(tensor.dtype != np.float32 or tensor.ndim != 1 for tensor in tensors.values()):
            raise Damaged("its tensors are not flat float32")
        if metadata["checksum"] != _checksum(metadata, tensors):
            raise Damaged("its checksum is wrong")
        age = float(metadata["age"])
        if not math.isfinite(age):
            raise Damaged(f"its age is {age}")
        return Checkpoint(
            id=metadata["id"],
            round=int(metadata["round"]),
            age=age,
            weights=tensors["weights"],
            optimiser=tensors["optimiser"],
            task=read_task(metadata["task"]),
            layout=read_layout(metadata["layout"]),
            version=int(metadata["version"]),
        )
    except (Damaged, OtherFormat):
        raise
    # What safetensors and numpy raise on bytes that are no such file.
    except (SafetensorError, ValueError) as error:
        raise Damaged(" ".join(str(error).split())) from error


def read_safetensors(content: bytes) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, str]]:
    """Named float32 tensors (the caller's own) and metadata. SafetensorError or ValueError if it is neither.

    Integer tensors are left out: they have no place in a vector of weights (p2pfl/learning/weights.py).
    The bytes were read, not mapped: a disk that fails under a mapped file ends the process.
    """
    tensors = {}
    for name, part in deserialize(content):  # type: ignore[no-untyped-call]
        if part["dtype"][0] in "IUB" and part["dtype"] != "BF16":
            continue
        if part["dtype"] != "F32":
            raise ValueError(f"its tensor {name!r} is {part['dtype']}; convert it to F32")
        tensors[name] = np.frombuffer(part["data"], "<f4").astype(np.float32).reshape(part["shape"])
    length = int.from_bytes(content[:8], "little")  # deserialize() has checked it
    return tensors, json.loads(content[8 : 8 + length]).get("__metadata__") or {}


def _checksum(metadata: dict[str, str], tensors: dict[str, npt.NDArray[np.float32]]) -> str:
    """32 hex digits. The lengths are hashed too: bytes cannot move from one tensor to the other."""
    lengths = {name: len(tensor) for name, tensor in tensors.items()}
    fields = [{name: metadata[name] for name in _FIELDS}, lengths]
    checksum = xxhash.xxh3_128(json.dumps(fields, sort_keys=True).encode())
    for name in _TENSORS:
        checksum.update(tensors[name].view(np.uint8).data)
    return checksum.hexdigest()

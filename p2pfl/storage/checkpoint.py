"""A node's state on disk: one safetensors file that is whole or is refused.

`checkpoint.safetensors` holds the tensors `weights` and `optimiser` and string metadata. The checksum is
XXH3-128 over the other metadata (canonical JSON) and the tensors' bytes, since safetensors has none.
A save writes another file, syncs it and renames it over the old one: after a crash at any moment the folder
holds either the old state or the new one.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from p2pfl.errors import StorageError
from p2pfl.gossip.messages import Vector
from p2pfl.storage import atomic

FORMAT = "1"  # raised whenever an older p2pfl could not read the file, or would read it wrongly

_FIELDS = ("format", "id", "round", "age", "version", "task", "fingerprint")


@dataclass(frozen=True)
class Checkpoint:
    """All that a node needs to go on where it stopped.

    weights: (P,) float32.  optimiser: (S,) float32, (0,) if stateless.  version: its snapshot counter.
    task_digest, fingerprint: of its task and layout; the node refuses a state of another one.
    """

    id: str
    round: int
    age: float
    weights: Vector
    optimiser: Vector
    task_digest: str
    fingerprint: str
    version: int


class StateDirectory:
    """Keeps the newest checkpoint in a folder, which is made if it is not there.

    StorageError if it cannot be written to.
    """

    def __init__(self, path: str | Path) -> None:
        self._folder = Path(path)
        self._file = self._folder / "checkpoint.safetensors"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            probe = self._folder / "probe"
            atomic.replace(probe, b"")
            probe.unlink()
        except OSError as error:
            raise StorageError(
                f"the state directory {self._folder} cannot be written to: {error.strerror}; "
                "choose another with --state-dir"
            ) from error

    def load(self) -> Checkpoint | None:
        if not self._file.exists():
            return None
        try:
            with safe_open(self._file, framework="np") as file:
                metadata = file.metadata() or {}
                if metadata.get("format", FORMAT) != FORMAT:
                    raise StorageError(
                        f"{self._file} has format {metadata['format']!r}, this p2pfl reads {FORMAT!r}; "
                        "use the p2pfl that wrote it, or another --state-dir"
                    )
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return _decode(metadata, tensors)
        except OSError as error:
            raise StorageError(f"{self._file} cannot be read: {error.strerror or error}") from error
        # What safetensors and numpy raise on bytes that are no such file, and _decode's own verdicts.
        except (SafetensorError, ValueError) as error:
            raise StorageError(
                f"{self._file} is damaged ({' '.join(str(error).split())}); "
                "delete it to start afresh, or use another --state-dir"
            ) from error

    def save(self, checkpoint: Checkpoint) -> None:
        metadata, tensors = _encode(checkpoint)
        try:
            atomic.replace(self._file, to_bytes(tensors, metadata))
        except OSError as error:
            raise StorageError(
                f"{self._file} cannot be written: {error.strerror}; the state of the last save is kept"
            ) from error


def _encode(checkpoint: Checkpoint) -> tuple[dict[str, str], dict[str, npt.NDArray[np.float32]]]:
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
        "task": checkpoint.task_digest,
        "fingerprint": checkpoint.fingerprint,
    }
    return {**metadata, "checksum": _checksum(metadata, tensors)}, tensors


def _decode(metadata: dict[str, str], tensors: dict[str, npt.NDArray[np.float32]]) -> Checkpoint:
    """The checkpoint in a file's parts. ValueError says in a few words what is wrong with them."""
    if set(metadata) != {*_FIELDS, "checksum"} or set(tensors) != {"weights", "optimiser"}:
        raise ValueError("it is not a p2pfl checkpoint")
    if any(tensor.dtype != np.float32 or tensor.ndim != 1 for tensor in tensors.values()):
        raise ValueError("its tensors are not flat float32")
    if metadata["checksum"] != _checksum(metadata, tensors):
        raise ValueError("its checksum is wrong")
    age = float(metadata["age"])
    if not math.isfinite(age):
        raise ValueError(f"its age is {age}")
    return Checkpoint(
        id=metadata["id"],
        round=int(metadata["round"]),
        age=age,
        weights=tensors["weights"],
        optimiser=tensors["optimiser"],
        task_digest=metadata["task"],
        fingerprint=metadata["fingerprint"],
        version=int(metadata["version"]),
    )


def _checksum(metadata: dict[str, str], tensors: dict[str, npt.NDArray[np.float32]]) -> str:
    """32 hex digits. The lengths are hashed too: bytes cannot move from one tensor to the other."""
    lengths = {name: len(tensor) for name, tensor in tensors.items()}
    fields = [{name: metadata[name] for name in _FIELDS}, lengths]
    checksum = xxhash.xxh3_128(json.dumps(fields, sort_keys=True).encode())
    for name in ("weights", "optimiser"):
        checksum.update(tensors[name].view(np.uint8).data)
    return checksum.hexdigest()

"""Importing torchvision, also where its compiled operators do not fit the installed torch.

PyPI's Linux torchvision is a CUDA build. Beside a CPU-only torch its operator library does not load,
and the import fails with `operator torchvision::nms does not exist`. Data sets and models need none of
those operators: declaring the two that are missing is enough.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import torch

_BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"  # the schema of nms and qnms
_declared = False


def torchvision(part: str) -> Any:
    """The module `torchvision.<part>`, for example "models". Slow the first time (about a second)."""
    global _declared
    name = f"torchvision.{part}"
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if _declared or "torchvision::nms" not in str(error):
            raise
    _declared = True
    for half_imported in [key for key in sys.modules if key.split(".")[0] == "torchvision"]:
        del sys.modules[half_imported]
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", _BOXES)
    return importlib.import_module(name)

"""How much of a picture a reconstruction shows. SSIM and the pairing need the extra `audit`."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from p2pfl.errors import SetupError

Pictures = npt.NDArray[np.float64]  # (n, C, H, W) in [0, 1]

# Of the mean squared error, where it is 0: 200 dB, for a file of figures has no infinity.
LEAST = 1e-20


def require() -> None:
    """Raises SetupError, in one line, if the extra is not installed: before anything slow."""
    for module, package in (("scipy.optimize", "scipy"), ("skimage.metrics", "scikit-image")):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise SetupError(f"p2pfl audit needs {package}: pip install 'p2pfl-gossip[audit]'") from error


def psnr(original: Pictures, shown: Pictures) -> float:
    """Peak signal-to-noise ratio of pixels in [0, 1], dB: -10 log10 of the mean squared error."""
    return -10 * math.log10(max(LEAST, float(np.mean((original - shown) ** 2))))


def ssim(original: Pictures, shown: Pictures) -> float:
    """Structural similarity (Wang et al., 2004), mean over the picture and its channels; 1 for equal ones.

    original, shown: (C, H, W). Windows of 7, smaller for smaller pictures.
    """
    from skimage.metrics import structural_similarity

    side = min(7, *original.shape[1:])
    window = side - 1 + side % 2
    value = structural_similarity(  # type: ignore[no-untyped-call]
        original, shown, win_size=window, data_range=1.0, channel_axis=0
    )
    return float(value)


def pairing(originals: Pictures, shown: Pictures) -> npt.NDArray[np.int64]:
    """(n,) for each original the position of its reconstruction: all different, least squared error in all.

    A batch's update says nothing of an order, so a reconstruction has none either.
    """
    from scipy.optimize import linear_sum_assignment

    cost = ((originals[:, None] - shown[None]) ** 2).mean(axis=(2, 3, 4))
    _, columns = linear_sum_assignment(cost)
    return np.asarray(columns, np.int64)


def in_common(labels: Sequence[int], found: Sequence[int]) -> int:
    """How many labels were recovered, each as often as it is there."""
    return sum((Counter(labels) & Counter(found)).values())

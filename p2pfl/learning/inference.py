"""What a PyTorch model says of pictures: pixels in, class probabilities out."""

from __future__ import annotations

import numpy as np
import torch

from p2pfl.gossip.messages import Task, Vector
from p2pfl.learning.dataset import Images
from p2pfl.learning.learner import Probabilities
from p2pfl.learning.weights import FlatModule


class Normalisation:
    """(x / 255 - mean) / std as one multiplication and one addition per channel."""

    def __init__(self, task: Task) -> None:
        shape = (-1, *[1] * (len(task.input_shape) - 1))
        std = torch.tensor(task.std)
        self._scale = (1 / (255 * std)).view(shape)
        self._shift = (-torch.tensor(task.mean) / std).view(shape)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """(b, ...) uint8 -> float32, in fresh memory."""
        return images.float().mul_(self._scale).add_(self._shift)


class Inference:
    """One network of its own, so that it disturbs no training in another thread."""

    def __init__(self, net: FlatModule, task: Task) -> None:
        self._net = net
        self._normalised = Normalisation(task)

    def __call__(self, weights: Vector, pixels: Images) -> Probabilities:
        """weights: (P,) float32, not modified.  pixels: (n, C, H, W) uint8. Returns (n, classes) float32."""
        torch.set_num_threads(1)  # of this thread
        self._net.load(weights)
        self._net.module.eval()
        with torch.inference_mode():
            scores = self._net.module(self._normalised(torch.from_numpy(pixels)))
            return np.array(torch.softmax(scores, 1).numpy(), np.float32)

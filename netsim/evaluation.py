"""What the simulator measures of models: the mean model, the distance to it, accuracies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netsim.journal import ModelEvaluated
from p2pfl.gossip.merge import weighted_mean
from p2pfl.gossip.messages import Vector
from p2pfl.learning.learner import Evaluation


def mean_model(weights: Sequence[Vector]) -> Vector:
    """The uniform mean of n vectors: (P,) float32."""
    return weighted_mean(weights, np.full(len(weights), 1 / len(weights)))


def consensus_distance(weights: Sequence[Vector], mean: Vector) -> float:
    """sqrt(1/n x sum ||x_i - mean||^2): how far apart n nodes' models are, in weight units."""
    squared = 0.0
    for vector in weights:
        difference = (vector - mean).astype(np.float64)
        # Not `difference @ difference`: its last bits depend on how many threads the host's BLAS takes.
        squared += float(np.add.reduce(difference * difference))
    return float(np.sqrt(squared / len(weights)))


def evaluated(result: Evaluation, *, of: str, round: float, final: bool) -> ModelEvaluated:
    """The journal's event of a result."""
    return ModelEvaluated(
        of=of,
        round=round,
        final=final,
        samples=result.samples,
        loss=result.loss,
        accuracy=result.accuracy,
        balanced_accuracy=result.balanced_accuracy,
        confusion=tuple(tuple(row) for row in result.confusion.tolist()),
    )

"""What the simulator measures of models: the mean model, the distance to it, accuracies reached."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netsim.config import SimConfig
from netsim.journal import ConsensusMeasured, ModelEvaluated
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


def consensus(weights: Sequence[Vector], mean: Vector, *, round: float, final: bool) -> ConsensusMeasured:
    """The journal's event of a distance. round: of the nodes on average."""
    return ConsensusMeasured(consensus_distance(weights, mean), len(weights), round, final)


class Accuracies:
    """The latest accuracies of a run, to stop it once they are good enough.

    running: the nodes that count. If no node evaluates itself the mean model's accuracy decides.
    """

    def __init__(self, config: SimConfig) -> None:
        self._target = config.stop.target_accuracy
        self._of_nodes = config.evaluate_mode in ("nodes", "sample")
        self._latest: dict[int, float] = {}
        self._mean: float | None = None
        self.running: set[int] = set()

    def of_node(self, node: int, accuracy: float) -> None:
        self._latest[node] = accuracy

    def of_mean(self, accuracy: float) -> None:
        self._mean = accuracy

    def reached(self) -> bool:
        if self._target is None:
            return False
        if not self._of_nodes:
            return self._mean is not None and self._mean >= self._target
        values = [accuracy for node, accuracy in self._latest.items() if node in self.running]
        return bool(values) and sum(values) / len(values) >= self._target


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

"""What the rest of a node asks of a machine-learning framework: vectors in, vectors and statistics out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from p2pfl.gossip.messages import Layout, Task, Vector

Probabilities = npt.NDArray[np.float32]  # (n, C), each row sums to 1
Indices = npt.NDArray[np.int64]  # (n,) positions in the training data


@dataclass(frozen=True)
class FitPlan:
    """One round of local training, completely: equal plans on equal weights give equal results.

    indices: (n,) int64, the node's own training samples.  steps: batches to train; each pass visits
    all n samples in a fresh order drawn from `seed`, the last batch of a pass may be smaller.
    seed: also seeds dropout.
    """

    indices: Indices
    steps: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    seed: int

    @property
    def samples(self) -> int:
        """Samples that the plan's steps visit, repeats counted."""
        passes, rest = divmod(self.steps, -(-len(self.indices) // self.batch_size))
        return passes * len(self.indices) + min(rest * self.batch_size, len(self.indices))


@dataclass(frozen=True)
class FitResult:
    """weights: (P,) float32, new.  optimiser: (S,) float32 to hand to the next fit, (0,) if stateless.

    steps, samples: what was trained, less than planned only if `stop` said so.
    loss: mean training loss over samples.
    """

    weights: Vector
    optimiser: Vector
    steps: int
    samples: int
    loss: float


@dataclass(frozen=True)
class Evaluation:
    """loss: mean over samples.  confusion: (C, C) int64, [i, j] = samples of class i taken for class j."""

    loss: float
    confusion: npt.NDArray[np.int64]

    @property
    def samples(self) -> int:
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of samples taken for their own class."""
        return float(np.trace(self.confusion) / max(1, self.confusion.sum()))

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall over the classes that occur, as scikit-learn's balanced_accuracy_score."""
        per_class = self.confusion.sum(axis=1)
        occurs = per_class > 0
        if not occurs.any():
            return 0.0
        return float(np.mean(np.diag(self.confusion)[occurs] / per_class[occurs]))


class Learner(Protocol):
    """A model and its data. Knows nothing of peers; any framework fits.

    All vectors are (P,) float32 in the order of `layout`. Methods are called from one thread at a time.
    """

    @property
    def task(self) -> Task: ...

    @property
    def layout(self) -> Layout: ...

    def initial_weights(self, seed: int | None = None) -> Vector:
        """A function of the layout and `seed` alone; None seeds from the layout's fingerprint."""
        ...

    def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan, stop: Callable[[], bool]) -> FitResult:
        """Train `plan.steps` batches from `weights` (not modified). Pure, as long as stop() stays False.

        stop: asked between batches; once True, fit returns what it has.
        optimiser: the last FitResult's, or (0,) to start afresh.
        """
        ...

    def evaluate(
        self, weights: Vector, limit: int = 0, stop: Callable[[], bool] = lambda: False
    ) -> Evaluation:
        """On the held-out data, or a fixed sample of `limit` of it (0: all). `weights` is not modified.

        stop: asked between batches; once True, the result is of the samples looked at so far.
        """
        ...

"""A node whose learner is scikit-learn's SGDClassifier: the same gossip, another framework.

    python examples/sklearn_node.py --listen 127.0.0.1:8470
    python examples/sklearn_node.py --listen 127.0.0.1:8471 --peers http://127.0.0.1:8470 --shard 1/2

takes every flag of `p2pfl node start`. All that a framework needs is the Learner below: a flat vector in,
a flat vector and some statistics out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import typer
from sklearn.linear_model import SGDClassifier

from cli import logs
from cli.options import takes
from p2pfl import standalone
from p2pfl.config import NodeConfig
from p2pfl.gossip.messages import Layout, Task, TensorSpec, Vector
from p2pfl.learning.data import load
from p2pfl.learning.dataset import Dataset
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult

NO_STATE = np.empty(0, np.float32)


class SgdLearner:
    """Logistic regression, one class against the rest. P = rows x features + rows.

    rows: the number of classes, but 1 for two classes, as scikit-learn has it.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._data = dataset
        classes, features = len(dataset.task.classes), int(np.prod(dataset.task.input_shape))
        rows = classes if classes > 2 else 1
        self._classes = classes
        self._shape = (rows, features)
        self._layout = Layout(
            "sklearn-sgd", (TensorSpec("coef", self._shape), TensorSpec("intercept", (rows,)))
        )

    @property
    def task(self) -> Task:
        return self._data.task

    @property
    def layout(self) -> Layout:
        return self._layout

    def initial_weights(self, seed: int | None = None) -> Vector:
        """Zeros: the loss is convex, so every start is as good."""
        return np.zeros(self._layout.size, np.float32)

    def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan, stop: Callable[[], bool]) -> FitResult:
        model = self._model(weights, plan.learning_rate, plan.weight_decay)
        rng = np.random.default_rng(plan.seed)
        order = np.empty(0, np.int64)
        steps = samples = 0
        losses = 0.0
        while steps < plan.steps and not stop():
            if not len(order):
                order = rng.permutation(plan.indices)
            batch, order = order[: plan.batch_size], order[plan.batch_size :]
            inputs, labels = self._inputs(self._data.train_images[batch]), self._data.train_labels[batch]
            losses += self._loss(model, inputs, labels) * len(batch)
            model.partial_fit(inputs, labels)
            steps, samples = steps + 1, samples + len(batch)
        trained = np.concatenate([model.coef_.ravel(), model.intercept_]).astype(np.float32)
        return FitResult(trained, NO_STATE, steps, samples, losses / max(1, samples))

    def evaluate(
        self, weights: Vector, limit: int = 0, stop: Callable[[], bool] = lambda: False
    ) -> Evaluation:
        held_out = slice(0, limit or None)
        inputs, labels = self._inputs(self._data.test_images[held_out]), self._data.test_labels[held_out]
        model = self._model(weights, learning_rate=1.0, weight_decay=0.0)
        confusion = np.zeros((self._classes, self._classes), np.int64)
        np.add.at(confusion, (labels, model.predict(inputs)), 1)
        return Evaluation(self._loss(model, inputs, labels), confusion)

    def _model(self, weights: Vector, learning_rate: float, weight_decay: float) -> SGDClassifier:
        """scikit-learn keeps its state in attributes: they are set from the vector, and read back from it."""
        rows, features = self._shape
        model = SGDClassifier(
            loss="log_loss", alpha=weight_decay, learning_rate="constant", eta0=learning_rate, shuffle=False
        )
        model.classes_ = np.arange(self._classes)
        model.coef_ = weights[: rows * features].reshape(self._shape).astype(np.float64)
        model.intercept_ = weights[rows * features :].astype(np.float64)
        model.n_features_in_ = features
        model.t_ = 1.0
        return model

    def _inputs(self, images: np.ndarray) -> np.ndarray:
        """(n, features) float64, normalised as the task says."""
        mean = np.reshape(self.task.mean, (1, -1, 1, 1))
        std = np.reshape(self.task.std, (1, -1, 1, 1))
        return ((images / 255.0 - mean) / std).reshape(len(images), -1)

    def _loss(self, model: SGDClassifier, inputs: np.ndarray, labels: np.ndarray) -> float:
        """Mean cross-entropy of the softmax over the classes' margins."""
        margins = model.decision_function(inputs)
        if margins.ndim == 1:  # two classes: scikit-learn gives one margin
            margins = np.stack([-margins, margins], axis=1) / 2
        margins = margins - margins.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(margins).sum(axis=1)) - margins[np.arange(len(labels)), labels]))


@takes(NodeConfig, file=True)
def main(config: NodeConfig) -> None:
    """Start a node that learns with scikit-learn."""
    logs.configure(config.log_level, as_json=config.log_json)
    raise typer.Exit(standalone.start(config, SgdLearner(load(config.data))))


if __name__ == "__main__":
    typer.run(main)

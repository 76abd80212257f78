"""The learner for PyTorch modules. The training loop is `fit`, all of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from p2pfl.gossip.messages import Layout, Task, Vector
from p2pfl.learning.dataset import Dataset, Images
from p2pfl.learning.inference import Inference, Normalisation
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult, Probabilities
from p2pfl.learning.models import build
from p2pfl.learning.weights import FlatModule

GATHERED = 256  # samples made float at once: a few batches share the cost, and 28x28 ones fit a core's cache
EVALUATED = (
    256  # samples in one forward pass; ResNet-18's activations of 32x32 pictures are 64 MiB a layer then
)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
SAMPLE_SEED = 30  # constant: every node and every run judges by the same sample of the held-out data


class TorchLearner:
    """Plain SGD on the cross-entropy of a module over a data set held in memory.

    threads: torch's, for one operation. More than one slows small models down: the threads wait by spinning.
    Raises ModelError if the model cannot be built for the data set's task.
    """

    def __init__(self, dataset: Dataset, model: str, threads: int = 1) -> None:
        self._dataset = dataset
        self._task = dataset.task
        self._model = model
        self._threads = threads
        self._net = FlatModule(_seeded(model, dataset.task, 0), model)
        self._norms = [part for part in self._net.module.modules() if isinstance(part, _NORMS)]
        self._train = (torch.from_numpy(dataset.train_images), torch.from_numpy(dataset.train_labels))
        self._test = (torch.from_numpy(dataset.test_images), torch.from_numpy(dataset.test_labels))
        self._normalised = Normalisation(dataset.task)

    def __reduce__(self) -> tuple[type[TorchLearner], tuple[Dataset, str, int]]:
        """Copied to another machine of a simulation as what it was made from."""
        return TorchLearner, (self._dataset, self._model, self._threads)

    @property
    def task(self) -> Task:
        return self._task

    @property
    def layout(self) -> Layout:
        return self._net.layout

    def initial_weights(self, seed: int | None = None) -> Vector:
        """(P,) float32, a function of layout and `seed` alone. torch's global generator is not touched."""
        if seed is None:
            seed = int(self.layout.fingerprint[:16], 16)
        return FlatModule(_seeded(self._model, self._task, seed), self._model).vector()

    def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan, stop: Callable[[], bool]) -> FitResult:
        """See Learner.fit. Weights that overflow are returned as they are: the node decides.

        optimiser: (S,) float32, the momentum buffer of all trainable parameters, or (0,).
        """
        if not len(plan.indices):
            raise ValueError("a plan without samples trains nothing")
        torch.set_num_threads(self._threads)  # of this thread: in a worker thread the default is all cores
        net = self._net
        net.load(weights)
        net.module.train()
        momentum = self._momentum(optimiser, plan)  # (S,), or (0,) for plain SGD
        velocity = torch.split(momentum, net.sizes) if plan.momentum else ()
        steps, samples, loss_sum = 0, 0, 0.0
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(plan.seed)  # dropout
            for x, y in self._batches(plan):  # (b, C, H, W) float32, (b,) int64
                if stop():
                    break
                loss = functional.cross_entropy(self._scores(x), y)
                grads = torch.autograd.grad(loss, net.trainable, allow_unused=True)  # None: not used
                with torch.no_grad():
                    for i, (parameter, grad) in enumerate(zip(net.trainable, grads, strict=True)):
                        if grad is None:
                            continue
                        if plan.weight_decay:
                            grad = grad.add(parameter, alpha=plan.weight_decay)
                        if plan.momentum:  # v = momentum v + grad, v = 0 at first: as torch.optim.SGD
                            grad = velocity[i].mul_(plan.momentum).add_(grad.reshape(-1)).view_as(parameter)
                        parameter.add_(grad, alpha=-plan.learning_rate)
                steps, samples, loss_sum = steps + 1, samples + len(y), loss_sum + loss.item() * len(y)
        return FitResult(net.vector(), momentum.numpy(), steps, samples, loss_sum / max(1, samples))

    def evaluate(
        self, weights: Vector, limit: int = 0, stop: Callable[[], bool] = lambda: False
    ) -> Evaluation:
        """See Learner.evaluate. A sample has each class's share of the held-out data."""
        torch.set_num_threads(self._threads)
        self._net.load(weights)
        self._net.module.eval()
        images, labels = self._test
        chosen = self._sample[:limit] if 0 < limit < len(labels) else torch.arange(len(labels))
        classes = len(self._task.classes)
        confusion = torch.zeros(classes * classes, dtype=torch.int64)
        loss_sum = 0.0
        with torch.inference_mode():
            for part in torch.split(chosen, EVALUATED):
                if stop():
                    break
                scores, y = self._net.module(self._normalised(images[part])), labels[part]
                loss_sum += functional.cross_entropy(scores, y, reduction="sum").item()
                confusion += torch.bincount(y * classes + scores.argmax(1), minlength=classes * classes)
        looked_at = max(1, int(confusion.sum()))
        return Evaluation(loss_sum / looked_at, confusion.view(classes, classes).numpy())

    def predict(self, weights: Vector, pixels: Images) -> Probabilities:
        """(n, C) float32 for (n, *input_shape) uint8, also beside a fit: the network is another one."""
        return self._inference(weights, pixels)

    @cached_property
    def _inference(self) -> Inference:
        return Inference(FlatModule(copy.deepcopy(self._net.module), self._model), self._task)

    def _batches(self, plan: FitPlan) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """`plan.steps` batches of normalised images and labels, each pass in an order of its own."""
        rng = np.random.default_rng(plan.seed)
        images, labels = self._train
        size, left = plan.batch_size, plan.steps
        ahead = size * max(1, GATHERED // size)
        while left > 0:
            order = torch.from_numpy(rng.permutation(plan.indices)[: left * size])
            for part in torch.split(order, ahead):
                x, y = self._normalised(images[part]), labels[part]
                yield from zip(torch.split(x, size), torch.split(y, size), strict=True)
            left -= -(-len(order) // size)

    def _scores(self, x: torch.Tensor) -> torch.Tensor:
        """(b, C) scores in training. BatchNorm takes its running variance for a batch of one."""
        if len(x) > 1 or not self._norms:
            return self._net.module(x)  # type: ignore[no-any-return]
        for norm in self._norms:
            norm.eval()
        scores: torch.Tensor = self._net.module(x)
        for norm in self._norms:
            norm.train()
        return scores

    def _momentum(self, optimiser: Vector, plan: FitPlan) -> torch.Tensor:
        """A copy of `optimiser`, zeros to start afresh, or (0,) without momentum."""
        size = sum(self._net.sizes)
        if not plan.momentum:
            return torch.empty(0)
        if optimiser.shape == (0,):
            return torch.zeros(size)
        if optimiser.shape != (size,) or optimiser.dtype != np.float32:
            raise ValueError(f"optimiser state is {optimiser.dtype} {optimiser.shape}, not float32 ({size},)")
        return torch.from_numpy(optimiser).clone()

    @cached_property
    def _sample(self) -> torch.Tensor:
        """All held-out positions, ordered so that any first part has each class's share of the whole."""
        labels = self._test[1].numpy()
        rng = np.random.default_rng(SAMPLE_SEED)
        rank = np.empty(len(labels))
        for label in np.unique(labels):
            own = rng.permutation(np.flatnonzero(labels == label))
            rank[own] = (np.arange(len(own)) + 0.5) / len(own)
        return torch.from_numpy(np.argsort(rank, kind="stable"))


def _seeded(model: str, task: Task, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build(model, task)

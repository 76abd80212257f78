"""One case: choose pictures, let a node train on them, attack what it sends, compare."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from p2pfl.audit import similarity
from p2pfl.audit.config import LeakConfig
from p2pfl.audit.functional import Functional
from p2pfl.audit.inversion import Aim, Inversion, Scale, best_of, by_lbfgs, by_signed_steps
from p2pfl.audit.labels import of_one, of_several
from p2pfl.audit.observation import draw, observe
from p2pfl.audit.similarity import Pictures
from p2pfl.config import DataConfig, flatten
from p2pfl.errors import ConfigError, DataError, StorageError
from p2pfl.gossip.messages import Vector
from p2pfl.learning.data import load
from p2pfl.learning.dataset import Dataset
from p2pfl.learning.learner import FitPlan, Indices
from p2pfl.learning.models import build
from p2pfl.learning.torch_learner import TorchLearner
from p2pfl.learning.weights import FlatModule
from p2pfl.storage import exported

# How a model is trained before an audit, with --train-to: all the training data, batches of 64.
PACE = 100  # batches between evaluations
PATIENCE = 100  # evaluations after which an accuracy is not reached
BATCH, LR, MOMENTUM = 64, 0.05, 0.9


@dataclass(frozen=True)
class Recovered:
    """One picture. label, found: positions in the task's classes.  psnr: dB."""

    index: int
    label: int
    found: int
    psnr: float
    ssim: float


@dataclass(frozen=True, eq=False)
class Leak:
    """accuracy: held-out, of the weights before; None for initial ones, which have learnt nothing.
    originals, shown: (n, C, H, W) in [0, 1], paired.

    labels: how many were recovered, of each update as many as occur in it, whichever picture they are at.
    losses: for each update the matching loss at the start and at the end.  seconds: of processor time.
    """

    config: LeakConfig
    accuracy: float | None
    originals: Pictures
    shown: Pictures
    pictures: tuple[Recovered, ...]
    labels: int
    losses: tuple[tuple[float, float], ...]
    iterations: int
    evaluations: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Everything but the pixels, for JSON. iterations, evaluations: the most that one update took."""
        quality = [picture.psnr for picture in self.pictures]
        return {
            "pictures": len(self.pictures),
            "psnr_min": min(quality),
            "psnr_median": float(np.median(quality)),
            "psnr_max": max(quality),
            "ssim_min": min(picture.ssim for picture in self.pictures),
            "ssim_median": float(np.median([picture.ssim for picture in self.pictures])),
            "labels_recovered": self.labels / len(self.pictures),
            "accuracy": self.accuracy,
            "iterations": self.iterations,
            "evaluations": self.evaluations,
            "cpu_seconds": self.seconds,
            "losses": [list(pair) for pair in self.losses],
            "each": [vars(picture) for picture in self.pictures],
            "config": flatten(self.config),
        }


def audit(config: LeakConfig) -> Leak:
    """Attack `config.pictures` pictures. Raises P2pflError for what is the user's to mend."""
    similarity.require()
    device = _device(config.device)
    torch.set_num_threads(config.threads)
    dataset = load(DataConfig(dataset=config.dataset, data_dir=config.data_dir))
    shape = dataset.task.input_shape
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(f"{dataset.task.name} is not of pictures with 1 or 3 channels: nothing to show")
    learner = TorchLearner(dataset, config.model, config.threads)
    network = FlatModule(build(config.model, dataset.task), config.model)
    network.load(_before(config, dataset, learner))
    # An evaluation of a big model takes longer than an attack.
    learnt = config.train_to > 0 or config.weights is not None
    accuracy = learner.evaluate(network.vector()).accuracy if learnt else None
    attacked = Functional(network, device)
    rng = np.random.default_rng([config.seed, 1])
    began = time.process_time()
    found = [
        _attack(config, dataset, learner, network, attacked, own, rng)
        for own in list(draw(dataset.train_labels, config, np.random.default_rng(config.seed)))
    ]
    return Leak(
        config,
        accuracy,
        np.concatenate([update.originals for update in found]),
        np.concatenate([update.shown for update in found]),
        tuple(picture for update in found for picture in update.pictures),
        sum(update.labels for update in found),
        tuple((update.inversion.losses[0], update.inversion.best) for update in found),
        max(update.inversion.iterations for update in found),
        max(len(update.inversion.losses) for update in found),
        time.process_time() - began,
    )


@dataclass(frozen=True, eq=False)
class _Update:
    """What became of the pictures of one update: see Leak."""

    originals: Pictures
    shown: Pictures
    pictures: tuple[Recovered, ...]
    labels: int
    inversion: Inversion


def _attack(
    config: LeakConfig,
    dataset: Dataset,
    learner: TorchLearner,
    network: FlatModule,
    attacked: Functional,
    own: Indices,
    rng: np.random.Generator,
) -> _Update:
    scale = Scale(dataset.task, attacked.device)
    labels = dataset.train_labels[own]
    originals = dataset.train_images[own].astype(np.float64) / 255
    inputs = scale.inputs(torch.from_numpy(originals).to(attacked.device))
    update, training = observe(config, learner, network, inputs.float().cpu(), labels, own, rng)
    aim = Aim(attacked, scale, attacked.split(update), training, len(dataset.task.classes))
    attacked.check(torch.zeros_like(inputs[:1]), torch.zeros(1, dtype=torch.int64, device=attacked.device))
    read = None if config.method == "dlg" else _labels(aim)
    if config.known_labels:
        read = torch.from_numpy(np.sort(labels)).to(attacked.device)

    def attempt(number: int) -> Inversion:
        start = torch.Generator().manual_seed(config.seed + number)
        if config.method == "cosine":
            assert read is not None
            return by_signed_steps(aim, read, config.steps_of_attack, config.smoothness, start)
        return by_lbfgs(aim, read, config.steps_of_attack, start)

    inversion = best_of(1 + config.restarts, attempt)
    shown = inversion.pictures.cpu().numpy()
    order = similarity.pairing(originals, shown)
    shown, found = shown[order], inversion.labels.cpu().numpy()[order]
    pictures = tuple(
        Recovered(
            int(own[i]),
            int(labels[i]),
            int(found[i]),
            similarity.psnr(originals[i], shown[i]),
            similarity.ssim(originals[i], shown[i]),
        )
        for i in range(len(own))
    )
    return _Update(
        originals, shown, pictures, similarity.in_common(labels.tolist(), found.tolist()), inversion
    )


def _labels(aim: Aim) -> torch.Tensor:
    """(n,) int64, read from what was seen of the last layer."""
    weight, bias = (
        None if place is None else aim.seen[place].cpu().numpy() for place in aim.network.last_layer()
    )
    assert weight is not None
    if aim.count == 1:
        return torch.tensor([of_one(weight, bias)], device=aim.network.device)
    return torch.tensor(of_several(weight, bias, aim.count), device=aim.network.device)


def _before(config: LeakConfig, dataset: Dataset, learner: TorchLearner) -> Vector:
    """The weights before the training that is attacked."""
    weights = learner.initial_weights(config.init_seed)
    if config.weights is not None:
        weights = _from_file(Path(config.weights), learner)
    momentum = np.empty(0, np.float32)
    everything = np.arange(len(dataset.train_labels))
    if not config.train_to:
        return weights
    for turn in range(PATIENCE):
        if learner.evaluate(weights).accuracy >= config.train_to:
            return weights
        plan = FitPlan(everything, PACE, BATCH, LR, MOMENTUM, 0.0, config.seed + turn)
        result = learner.fit(weights, momentum, plan, lambda: False)
        weights, momentum = result.weights, result.optimiser
    raise ConfigError(
        f"{config.model} does not reach the accuracy {config.train_to} in {PACE * PATIENCE} steps; "
        "ask for a lower --train-to, or give weights that were trained (--weights)"
    )


def _from_file(file: Path, learner: TorchLearner) -> Vector:
    try:
        given = exported.decode(file.read_bytes())
        if given.task is not None and (difference := learner.task.difference(given.task)):
            raise ConfigError(
                f"{file} is of another task: {difference} (here: the data set, there: the file)"
            )
        return exported.flatten(given.tensors, learner.layout)
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise StorageError(f"{file} does not hold weights of {learner.layout.model}: {error}") from error


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, dtype=torch.float64, device=device)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"device {name!r} cannot compute here in float64: {reason}") from error
    return device

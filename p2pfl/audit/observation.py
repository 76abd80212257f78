"""What a receiver really gets: the update of a node's own training, as it arrives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from p2pfl.audit.config import LeakConfig
from p2pfl.audit.functional import LocalTraining
from p2pfl.errors import ConfigError
from p2pfl.gossip.compress import BLOCK, encode, parse, sink
from p2pfl.gossip.messages import Vector
from p2pfl.learning.dataset import Labels
from p2pfl.learning.learner import FitPlan, Indices
from p2pfl.learning.torch_learner import TorchLearner
from p2pfl.learning.weights import FlatModule

Update = npt.NDArray[np.float64]  # (P,) in the layout's order; what is no trained parameter says nothing


def draw(labels: Labels, config: LeakConfig, rng: np.random.Generator) -> Iterator[Indices]:
    """Positions in the training data, (together,) for each update, none twice: the first that fit.

    ConfigError if there are too few of a class, or too few classes.
    """
    order = rng.permutation(len(labels)).tolist()
    taken: set[int] = set()
    for _ in range(config.pictures // config.together):
        chosen: list[int] = []
        for index in order:
            if len(chosen) == config.together:
                break
            if index not in taken and _fits(labels[index], labels[chosen], config):
                chosen.append(index)
        if len(chosen) < config.together:
            raise ConfigError(
                f"the training data has no further {config.together} pictures for --draw {config.draw}; "
                "ask for fewer --pictures, or a smaller --batch or --shard"
            )
        taken.update(chosen)
        yield np.array(chosen, np.int64)


def _fits(label: np.int64, chosen: Labels, config: LeakConfig) -> bool:
    if config.draw == "one-class":
        return bool((chosen == label).all())
    return config.draw == "any" or label not in chosen


def gradient(network: FlatModule, inputs: torch.Tensor, labels: torch.Tensor, seed: int) -> Vector:
    """(P,) float32 of the mean cross-entropy of a batch, computed as training does; seed: dropout's."""
    network.module.train()
    if len(inputs) == 1:  # as TorchLearner: no statistics of one sample
        for part in network.module.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                part.eval()
    before = network.vector()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        loss = functional.cross_entropy(network.module(inputs), labels)
        found = torch.autograd.grad(loss, network.trainable, allow_unused=True)
    network.load(before)  # BatchNorm's running statistics have moved
    held = {id(p): g for p, g in zip(network.trainable, found, strict=True) if g is not None}
    tensors = dict(network.module.named_parameters())
    return np.concatenate(
        [
            held[id(tensor)].numpy().reshape(-1)
            if (tensor := tensors.get(spec.name)) is not None and id(tensor) in held
            else np.zeros(spec.size, np.float32)
            for spec in network.layout.tensors
        ]
    )


def after_training(
    learner: TorchLearner, before: Vector, own: Indices, training: LocalTraining, seed: int
) -> Vector:
    """(P,) float32: the mean of the weights of all nodes, each trained from `before` on its part of `own`."""
    trained = [
        learner.fit(
            before,
            np.empty(0, np.float32),
            FitPlan(part, training.steps, training.batch, training.lr, 0.0, 0.0, seed + node),
            lambda: False,
        ).weights
        for node, part in enumerate(np.split(own, training.nodes))
    ]
    mean: Update = np.mean(trained, axis=0, dtype=np.float64)
    return mean.astype(np.float32)


def travelled(vector: Vector, codec: str, noise: float, rng: np.random.Generator) -> Vector:
    """(P,) float32 as it arrives: with noise of that deviation, through the codec."""
    if noise:
        vector = vector + rng.normal(0, noise, vector.shape).astype(np.float32)
    used, payload = encode(codec, vector)
    arrived = np.empty_like(vector)
    into = sink(parse(used), arrived)
    for start in range(0, len(payload), BLOCK):
        into.write(payload[start : start + BLOCK])
    into.finish()
    return arrived


def observe(
    config: LeakConfig,
    learner: TorchLearner,
    network: FlatModule,
    inputs: torch.Tensor,
    labels: Labels,
    own: Indices,
    rng: np.random.Generator,
) -> tuple[Update, LocalTraining]:
    """What an attacker who knows the weights before gets of one update.

    network: at the weights before.  own: (together,) positions in the training data.
    inputs: (together, C, H, W) float32, normalised.  labels: (together,) int64.
    """
    training = LocalTraining(config.nodes, config.held, config.batch, config.local_steps, config.lr)
    seed = int(rng.integers(2**31))
    if training.steps == 0:
        sent = gradient(network, inputs, torch.from_numpy(labels), seed)
        return travelled(sent, config.codec, config.noise, rng).astype(np.float64), training
    before = network.vector()
    after = travelled(after_training(learner, before, own, training, seed), config.codec, config.noise, rng)
    return (before.astype(np.float64) - after) / training.lr, training

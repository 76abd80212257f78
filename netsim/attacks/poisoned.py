"""Data sets in which adversaries find their poisoned samples, beside the honest ones.

The copies are appended to the training data, and an adversary's shard names those instead of its own: so
training stays one pure function of a plan for all nodes, and honest nodes train on what they ever had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from netsim.adversaries import Adversary
from netsim.attacks.liar import Window
from netsim.population import POISON_STREAM, stream
from p2pfl.learning.dataset import Dataset
from p2pfl.learning.learner import Indices
from p2pfl.learning.partition import DrawnShard, Shard

NOWHERE = -1


@dataclass(frozen=True, eq=False)
class PoisonedShard(Shard):
    """What a node says of its data is as ever; what it trains on is not.

    _places: (n,) int64, where the poisoned copy of each training sample lies; NOWHERE: there is none.
    """

    _honest: Shard
    _places: npt.NDArray[np.int64]
    _window: Window

    def indices(self, round: int) -> Indices:
        own = self._honest.indices(round)
        return self._places[own] if round + 1 in self._window else own


def poison(
    seed: int, adversaries: Sequence[Adversary], dataset: Dataset, shards: Sequence[Shard]
) -> tuple[Dataset, list[Shard]]:
    """The data set with what the adversaries make of it, and everybody's shard. seed: of the scenario.

    Without an attack on data, both as they were. Raises ConfigError if an attack does not fit the data.
    """
    parts, found = [dataset], list(shards)
    size = len(dataset.train_labels)
    for index, adversary in enumerate(adversaries):
        if not (adversary.attack.poisons and adversary.nodes):
            continue
        own = positions([shards[node] for node in adversary.nodes], size)
        rng = stream(seed, index, POISON_STREAM)
        images, labels = adversary.attack.poison(dataset, own, rng)
        places = np.full(len(dataset.train_labels), NOWHERE, np.int64)
        places[own] = size + np.arange(len(own))
        size += len(own)
        writers = None if dataset.writers is None else dataset.writers[own]
        parts.append(replace(dataset, train_images=images, train_labels=labels, writers=writers))
        for node in adversary.nodes:
            honest = shards[node]
            found[node] = PoisonedShard(
                honest.samples, honest.label_counts, honest.fingerprint, honest._own, honest, places,
                adversary.window,
            )  # fmt: skip
    return (_joined(parts) if len(parts) > 1 else dataset), found


def poisoned_alone(
    seed: int, adversaries: Sequence[Adversary], node: int, dataset: Dataset, own: Shard
) -> tuple[Dataset, Shard]:
    """The same for one node, which has a process to itself."""
    alone = [
        replace(adversary, nodes=(0,)) if node in adversary.nodes else replace(adversary, nodes=())
        for adversary in adversaries
    ]
    joined, shards = poison(seed, alone, dataset, [own])
    return joined, shards[0]


def positions(shards: Sequence[Shard], size: int) -> Indices:
    """(n,) int64, sorted: the training samples that any of them may train on."""
    if any(isinstance(shard, DrawnShard) for shard in shards):
        return np.arange(size)
    return np.unique(np.concatenate([np.zeros(0, np.int64), *(shard.indices(0) for shard in shards)]))


def _joined(parts: Sequence[Dataset]) -> Dataset:
    first = parts[0]
    return replace(
        first,
        train_images=np.concatenate([part.train_images for part in parts]),
        train_labels=np.concatenate([part.train_labels for part in parts]),
        writers=None
        if first.writers is None
        else np.concatenate([part.writers for part in parts if part.writers is not None]),
    )

"""How well back doors work: of held-out pictures with the trigger, how many are taken for the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from netsim.adversaries import Adversary, back_doors
from netsim.attacks.data import BackDoor
from netsim.inline import InlinePool
from netsim.journal import BackDoorMeasured
from p2pfl.gossip.messages import Vector
from p2pfl.learning.dataset import Dataset
from p2pfl.learning.torch_learner import TorchLearner


@dataclass(frozen=True)
class _Door:
    attack: BackDoor
    pool: InlinePool


class BackDoors:
    """Those of a scenario. Gu et al. 2017 call it the attack success rate: over all classes but the target.

    dataset: honest.  samples: of the held-out pictures to look at, 0 for all. Computed in this process, with
    a copy of the held-out pictures for each trigger.
    """

    def __init__(
        self, adversaries: Sequence[Adversary], dataset: Dataset, model: str, samples: int = 0
    ) -> None:
        self._samples = samples
        self._doors = []
        for attack in back_doors(adversaries):
            learner = TorchLearner(triggered(dataset, attack), model)
            self._doors.append(_Door(attack, InlinePool(learner)))

    def measure(self, weights: Vector, *, of: str, round: float, final: bool) -> list[BackDoorMeasured]:
        """One event for each trigger. weights: (P,) float32.  of, round, final: as in ModelEvaluated."""
        found = []
        for door in self._doors:
            job = door.pool.submit_evaluate(weights, self._samples)
            confusion = door.pool.result(job).confusion
            taken = int(confusion[:, door.attack.target].sum())
            count = int(confusion.sum())
            found.append(BackDoorMeasured(of, round, final, door.attack.target, count, taken / max(1, count)))
        return found


def triggered(dataset: Dataset, attack: BackDoor) -> Dataset:
    """The held-out pictures of all classes but the target, each with the trigger; one picture to train on."""
    others = np.flatnonzero(dataset.test_labels != attack.target)
    return replace(
        dataset,
        train_images=dataset.train_images[:1],
        train_labels=dataset.train_labels[:1],
        writers=None,
        test_images=attack.stamped(dataset, dataset.test_images[others]),
        test_labels=dataset.test_labels[others],
    )

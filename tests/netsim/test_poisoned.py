"""Poisoned copies lie behind the honest data, and only adversaries' shards lead there."""

from __future__ import annotations

import numpy as np
import pytest

from netsim.adversaries import Adversary
from netsim.attacks import catalogue
from netsim.attacks.back_door import triggered
from netsim.attacks.data import BackDoor
from netsim.attacks.liar import Window
from netsim.attacks.poisoned import poison, poisoned_alone
from p2pfl.config import DataConfig
from p2pfl.gossip.messages import Task
from p2pfl.learning.dataset import Dataset
from p2pfl.learning.partition import Shard, shards

TASK = Task("t", ("a", "b", "c", "d"), (1, 4, 4), (0.5,), (0.5,))
NODES = 4


def dataset(writers: bool = False) -> Dataset:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    images = rng.integers(256, size=(40, 1, 4, 4), dtype=np.uint8)
    return Dataset(TASK, images, labels, images[:20], labels[:20], np.arange(40) % 8 if writers else None)


def split(data: Dataset, partition: str = "iid") -> list[Shard]:
    return shards(data, DataConfig(partition=partition), NODES)


def flips(*nodes: int, window: Window | None = None) -> Adversary:
    return Adversary(nodes, "label-flip", catalogue.make("label-flip", {}), window or Window())


def test_without_attacks_on_data_nothing_changes() -> None:
    data = dataset()
    own = split(data)
    noise = Adversary((1,), "noise", catalogue.make("noise", {}))
    joined, found = poison(0, [noise], data, own)
    assert joined is data
    assert found == own


@pytest.mark.parametrize("partition", ["iid", "draw:3"])
def test_a_liars_shard_leads_to_its_samples_with_lies(partition: str) -> None:
    data = dataset(writers=True)
    own = split(data, partition)
    joined, found = poison(0, [flips(1, 3)], data, own)
    np.testing.assert_array_equal(joined.train_images[:40], data.train_images)
    np.testing.assert_array_equal(joined.train_labels[:40], data.train_labels)
    for round in range(2):
        for node in (0, 2):
            assert found[node] is own[node]
        for node in (1, 3):
            lies, truth = found[node].indices(round), own[node].indices(round)
            assert lies.min() >= 40
            np.testing.assert_array_equal(joined.train_images[lies], data.train_images[truth])
            np.testing.assert_array_equal(joined.train_labels[lies], 3 - data.train_labels[truth])
            assert joined.writers is not None
            assert data.writers is not None
            np.testing.assert_array_equal(joined.writers[lies], data.writers[truth])


def test_what_a_liar_says_of_its_data_is_the_truth() -> None:
    data = dataset()
    own = split(data)
    _, found = poison(0, [flips(1)], data, own)
    for field in ("samples", "label_counts", "fingerprint"):
        assert getattr(found[1], field) == getattr(own[1], field)


def test_rounds_are_counted_from_one() -> None:
    data = dataset()
    own = split(data)
    _, found = poison(0, [flips(1, window=Window(2, 3))], data, own)
    assert [bool(found[1].indices(round).min() >= 40) for round in range(4)] == [False, True, True, False]


def test_alone_in_a_process_a_liar_has_the_same_lies() -> None:
    data = dataset()
    own = split(data)
    attacks = [
        flips(0),
        Adversary((1, 2), "random-labels", catalogue.make("random-labels", {})),
    ]
    together, found = poison(5, attacks, data, own)
    alone, shard = poisoned_alone(5, attacks, 2, data, own[2])
    np.testing.assert_array_equal(
        alone.train_labels[shard.indices(0)], together.train_labels[found[2].indices(0)]
    )
    honest, shard = poisoned_alone(5, attacks, 3, data, own[3])
    assert honest is data
    assert shard is own[3]


def test_a_back_door_is_tried_on_held_out_pictures_of_other_classes() -> None:
    data, attack = dataset(), BackDoor(target=1, size=2)
    tried = triggered(data, attack)
    assert len(tried.test_labels) == 15
    assert 1 not in tried.test_labels
    assert (tried.test_images[..., 2:, 2:] == 255).all()
    others = data.test_images[data.test_labels != 1]
    np.testing.assert_array_equal(tried.test_images[..., :2, :], others[..., :2, :])

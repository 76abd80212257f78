"""Filters: what is kept, the same at all nodes, and never at the cost of held-out data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from p2pfl.config import DataConfig
from p2pfl.errors import ConfigError
from p2pfl.learning.data import load
from tests.p2pfl.learning.test_data import rows


def test_keep_classes_makes_another_task_in_training_and_held_out_data() -> None:
    whole, kept = load(DataConfig()), load(DataConfig(keep_classes=("7", "3")))
    assert (kept.task.name, kept.task.classes) == ("digits[3,7]", ("3", "7"))
    assert kept.task.digest != whole.task.digest
    assert np.array_equal(kept.train_images, whole.train_images[np.isin(whole.train_labels, [3, 7])])
    assert np.array_equal(kept.test_images[kept.test_labels == 1], whole.test_images[whole.test_labels == 7])
    assert set(kept.train_labels.tolist()) == {0, 1}
    assert kept.train_labels.dtype == np.int64


def test_keeping_all_classes_is_the_same_task() -> None:
    assert load(DataConfig(keep_classes=tuple("9876543210"))).task == load(DataConfig()).task


def test_keep_per_class_keeps_shares_of_training_data_only() -> None:
    whole = load(DataConfig())
    config = DataConfig(keep_per_class=("0=1.0", "1=0.5", "2=0", "3=0.001", "rest=0.075"))
    kept, again = load(config), load(config)
    before = np.bincount(whole.train_labels)
    expected = [before[0], round(before[1] / 2), 0, 1, *[round(0.075 * count) for count in before[4:]]]
    assert list(np.bincount(kept.train_labels)) == expected
    assert kept.task == whole.task
    assert np.array_equal(kept.test_images, whole.test_images)
    assert np.array_equal(kept.train_images, again.train_images)
    assert rows(kept.train_images) < rows(whole.train_images)
    other = load(DataConfig(keep_per_class=config.keep_per_class, partition_seed=1))
    assert not np.array_equal(kept.train_images, other.train_images)


def test_what_is_kept_of_a_class_does_not_depend_on_the_other_classes() -> None:
    one = load(DataConfig(keep_per_class=("4=0.1",)))
    other = load(DataConfig(keep_per_class=("4=0.1", "rest=0.5")))
    assert np.array_equal(
        one.train_images[one.train_labels == 4], other.train_images[other.train_labels == 4]
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keep_classes": ("3", "10")}, "keep-classes: digits has no class '10'; its classes are 0, 1"),
        ({"keep_classes": ("3",)}, "keep-classes: keep at least 2"),
        ({"keep_classes": ("3", "3")}, "keep-classes: keep at least 2"),
        ({"keep_per_class": ("0",)}, "'0' is not CLASS=SHARE"),
        ({"keep_per_class": ("0=",)}, "'0=' is not CLASS=SHARE"),
        ({"keep_per_class": ("0=2",)}, "'0=2' is not CLASS=SHARE"),
        ({"keep_per_class": ("0=nan",)}, "'0=nan' is not CLASS=SHARE"),
        ({"keep_per_class": ("0=-1",)}, "'0=-1' is not CLASS=SHARE"),
        ({"keep_per_class": ("x=1",)}, "no class 'x'"),
        ({"keep_per_class": ("0=1", "0=0.5")}, "class 0 occurs twice"),
        ({"keep_per_class": ("rest=0",)}, "keep no training samples"),
        ({"keep_writers": 1}, "keep-writers: digits does not say who wrote what"),
        ({"keep_classes": ("3", "7"), "keep_per_class": ("0=1",)}, "no class '0'; its classes are 3, 7"),
    ],
)
def test_filters_that_fit_nothing_are_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(DataConfig(**options))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)

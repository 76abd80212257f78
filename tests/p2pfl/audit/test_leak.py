"""Whole cases on digits, which need no files; the published ones where the data is at hand."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from p2pfl.audit.config import LeakConfig
from p2pfl.audit.leak import Leak, audit
from p2pfl.audit.observation import draw
from p2pfl.errors import ConfigError

pytest.importorskip("skimage")

DIGIT = LeakConfig(dataset="digits", pictures=1, iterations=60)


def least(leak: Leak) -> float:
    return min(picture.psnr for picture in leak.pictures)


def test_a_digit_is_reconstructed_from_its_gradient() -> None:
    found = audit(dataclasses.replace(DIGIT, pictures=2))
    assert least(found) > 40
    assert found.labels == 2
    assert all(last < first for first, last in found.losses)
    assert found.iterations <= 60
    assert found.originals.shape == found.shown.shape == (2, 1, 8, 8)


def test_equal_cases_give_equal_pictures_and_other_seeds_others() -> None:
    case = dataclasses.replace(DIGIT, iterations=5)
    first, second = audit(case), audit(case)
    assert first.shown.tobytes() == second.shown.tobytes()
    other = audit(dataclasses.replace(case, seed=1))
    assert other.pictures[0].index != first.pictures[0].index


def test_weights_before_and_after_show_it_too() -> None:
    found = audit(dataclasses.replace(DIGIT, local_steps=3))
    assert least(found) > 25
    assert found.labels == 1


def test_labels_are_sought_where_they_are_not_read() -> None:
    found = audit(dataclasses.replace(DIGIT, method="dlg", iterations=100))
    assert found.labels == 1
    assert least(found) > 30


def test_labels_that_are_told_are_those_of_the_pictures() -> None:
    case = dataclasses.replace(DIGIT, pictures=4, shard=4, local_steps=4, known_labels=True, iterations=2)
    found = audit(case)
    assert found.labels == 4
    assert sorted(p.found for p in found.pictures) == sorted(p.label for p in found.pictures)


def test_directions_alone_show_something() -> None:
    found = audit(dataclasses.replace(DIGIT, method="cosine", iterations=200, tv=0.0))
    assert found.labels == 1
    assert found.losses[0][1] < 0.1 * found.losses[0][0]


def test_noise_hides() -> None:
    assert least(audit(dataclasses.replace(DIGIT, noise=0.1))) < 15


def test_pictures_of_a_batch_are_paired_and_further_attempts_match_no_worse() -> None:
    case = dataclasses.replace(DIGIT, pictures=4, batch=2, draw="distinct", iterations=20)
    found, again = audit(case), audit(dataclasses.replace(case, restarts=1))
    assert len(found.pictures) == 4
    assert len(found.losses) == 2
    assert all(b[1] <= a[1] for a, b in zip(found.losses, again.losses, strict=True))


@pytest.mark.parametrize("kind", ["any", "one-class", "distinct"])
def test_pictures_are_drawn_as_asked_and_none_twice(kind: str) -> None:
    labels = np.arange(40) % 4
    config = LeakConfig(pictures=12, batch=3, draw=kind)  # type: ignore[arg-type]
    drawn = list(draw(labels, config, np.random.default_rng(0)))
    assert len(set(np.concatenate(drawn))) == 12
    classes = [len(set(labels[own])) for own in drawn]
    assert kind == "any" or classes == [1 if kind == "one-class" else 3] * 4


def test_too_few_pictures_of_a_kind_are_an_error() -> None:
    config = LeakConfig(pictures=3, batch=3, draw="distinct")
    with pytest.raises(ConfigError, match="no further 3 pictures for --draw distinct"):
        list(draw(np.zeros(9, np.int64), config, np.random.default_rng(0)))


@pytest.mark.skipif("P2PFL_DATA" not in os.environ, reason="needs Fashion-MNIST and CIFAR-10")
@pytest.mark.parametrize(("dataset", "wanted"), [("fashion-mnist", 40), ("cifar10-small.npz", 30)])
def test_the_published_figures(dataset: str, wanted: float) -> None:
    """The first two of the ten pictures that docs/privacy.md reports."""
    folder = os.environ["P2PFL_DATA"]
    if dataset.endswith(".npz") and not (Path(folder) / dataset).exists():
        pytest.skip(f"needs {dataset}")
    found = audit(LeakConfig(dataset=dataset, data_dir=folder, pictures=2))
    assert found.labels == 2
    assert least(found) > wanted

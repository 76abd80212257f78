"""Labels read from updates: exactly from one picture's gradient, roughly from more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.audit.labels import Rows, of_one, of_several

CLASSES, HIDDEN = 10, 6


def last_layer(
    seed: int, labels: list[int], *, spread: float = 1.0, positive: bool = True
) -> tuple[Rows, Rows]:
    """(weight's, bias's) gradient of the mean cross-entropy of samples with these labels, by the formula."""
    rng = np.random.default_rng(seed)
    weight, bias = spread * rng.normal(size=(CLASSES, HIDDEN)), spread * rng.normal(size=CLASSES)
    activations = rng.normal(size=(len(labels), HIDDEN))
    if positive:
        activations = np.abs(activations)
    scores = activations @ weight.T + bias
    slope = np.exp(scores - scores.max(axis=1, keepdims=True))
    slope /= slope.sum(axis=1, keepdims=True)
    slope[np.arange(len(labels)), labels] -= 1
    return slope.T @ activations / len(labels), slope.mean(axis=0)


@given(seed=st.integers(0, 2**32), label=st.integers(0, CLASSES - 1), positive=st.booleans())
def test_one_label_is_always_found(seed: int, label: int, positive: bool) -> None:
    weight, bias = last_layer(seed, [label], positive=positive)
    assert of_one(weight, bias) == label
    assert of_one(weight, None) == label  # the longest row, whatever the activations' signs


@pytest.mark.parametrize("labels", [[3], [1, 7], [0, 2, 5, 9]])
@pytest.mark.parametrize("with_bias", [True, False])
def test_different_labels_of_a_fresh_network_are_found(labels: list[int], with_bias: bool) -> None:
    for seed in range(20):
        weight, bias = last_layer(seed, labels, spread=0.05)
        assert of_several(weight, bias if with_bias else None, len(labels)) == labels


def test_repeated_labels_of_a_fresh_network_are_counted() -> None:
    for labels in ([4, 4], [1, 1, 1, 8], [0, 0, 3, 3, 3, 6, 9, 9]):
        weight, bias = last_layer(1, labels, spread=0.01)
        assert of_several(weight, bias, len(labels)) == labels


def test_there_are_as_many_labels_as_asked_for_even_if_nothing_was_trained() -> None:
    assert len(of_several(np.zeros((4, 2)), np.zeros(4), 3)) == 3


def test_nothing_that_is_read_is_changed() -> None:
    weight, bias = last_layer(0, [1, 2])
    before = weight.copy(), bias.copy()
    of_several(weight, bias, 2)
    assert (weight == before[0]).all()
    assert (bias == before[1]).all()

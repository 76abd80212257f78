"""Merging by a function of the user's."""

import sys
import types

import numpy as np
import pytest

from p2pfl.config import GossipConfig
from p2pfl.errors import ConfigError
from p2pfl.gossip.merge import merge_robustly
from p2pfl.gossip.merge.own import imported
from p2pfl.gossip.quorum import check_attainable
from p2pfl.merge_rule import parse

VECTORS = [np.array(values, np.float32) for values in ([1, 8, 3], [3, 2, 3], [8, 5, 0])]


@pytest.fixture(autouse=True)
def rules(monkeypatch):
    """A user's module."""
    module = types.ModuleType("rules_of_mine")
    module.largest = lambda vectors: np.max(vectors, axis=0)
    module.own = lambda vectors: vectors[0]
    module.widely = lambda vectors: np.max(vectors, axis=0).astype(np.float64)
    module.counting = lambda vectors: vectors[0].__imul__(2)
    module.dividing = lambda vectors: 1 / 0
    module.short = lambda vectors: vectors[0][:2]
    module.words = lambda vectors: "words"
    module.number = 3
    monkeypatch.setitem(sys.modules, module.__name__, module)
    yield
    imported.cache_clear()


def merged(name, change=None):
    return merge_robustly(parse(f"rules_of_mine:{name}"), VECTORS, change)


def test_the_function_says_what_the_merged_model_is():
    for name in ("largest", "widely"):
        weights, shares = merged(name)
        assert weights.dtype == np.float32
        np.testing.assert_array_equal(weights, [8, 8, 3])
        np.testing.assert_allclose(shares, 1 / 3)


def test_what_training_changed_meanwhile_is_added():
    before = VECTORS[0]
    weights, _ = merged("largest", (before + np.array([1, 0, -1], np.float32), before))
    np.testing.assert_array_equal(weights, [9, 8, 2])


def test_a_vector_given_back_is_copied_and_none_can_be_written_to():
    weights, _ = merged("own")
    weights[:] = 0
    np.testing.assert_array_equal(VECTORS[0], [1, 8, 3])
    with pytest.raises(ConfigError, match=r"merge rules_of_mine:counting failed: ValueError: .*read-only"):
        merged("counting")
    np.testing.assert_array_equal(VECTORS[0], [1, 8, 3])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dividing", "merge rules_of_mine:dividing failed: ZeroDivisionError: division by zero"),
        ("short", r"merge rules_of_mine:short gave \(2,\), not one vector of \(3,\)"),
        ("words", "merge rules_of_mine:words failed: ValueError: could not convert"),
    ],
)
def test_a_function_that_fails_is_named_with_what_it_did(name, said):
    with pytest.raises(ConfigError, match=said):
        merged(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("number", "merge rules_of_mine:number: number is not a function"),
        (
            "missing",
            "rules_of_mine:missing cannot be imported: AttributeError: .* no attribute 'missing'",
        ),
    ],
)
def test_a_function_that_is_not_there_is_an_error_before_anything_is_merged(name, said):
    with pytest.raises(ConfigError, match=said):
        check_attainable(GossipConfig(merge=f"rules_of_mine:{name}"), 3)
    check_attainable(GossipConfig(merge="rules_of_mine:largest"), 3)

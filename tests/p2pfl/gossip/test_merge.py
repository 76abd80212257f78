import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from p2pfl.gossip import merge

models = st.integers(1, 6).flatmap(
    lambda k: arrays(
        np.float32, st.tuples(st.just(k), st.integers(1, 50)), elements=st.floats(-100, 100, width=32)
    )
)


@given(models, st.data())
def test_weighted_mean_is_the_plain_sum_of_products(vectors, data):
    raw = np.array(data.draw(st.lists(st.floats(0.01, 1), min_size=len(vectors), max_size=len(vectors))))
    weights = raw / raw.sum()
    slow = sum(w * v.astype(np.float64) for w, v in zip(weights, vectors, strict=True))
    np.testing.assert_allclose(merge.weighted_mean(list(vectors), weights), slow, atol=1e-4)


@pytest.mark.parametrize("size", [1, merge.BLOCK - 1, merge.BLOCK, merge.BLOCK + 1, 2 * merge.BLOCK + 7])
@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.2, 0.8)])
def test_weighted_mean_crosses_block_borders(size, weights):
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=size).astype(np.float32) for _ in weights]
    before = [vector.copy() for vector in vectors]
    merged = merge.weighted_mean(vectors, np.array(weights))
    np.testing.assert_allclose(merged, weights[0] * vectors[0] + weights[1] * vectors[1], atol=1e-6)
    assert merged.dtype == np.float32
    for vector, old in zip(vectors, before, strict=True):
        np.testing.assert_array_equal(vector, old)


@given(models)
def test_median_agrees_with_numpy_and_lies_within_the_models(vectors):
    median = merge.coordinate_median(list(vectors))
    np.testing.assert_array_equal(median, np.median(vectors, axis=0).astype(np.float32))
    assert (median >= vectors.min(axis=0)).all()
    assert (median <= vectors.max(axis=0)).all()


def test_median_of_two_is_their_mean():
    a, b = np.float32([0, 2]), np.float32([1, 4])
    np.testing.assert_array_equal(merge.coordinate_median([a, b]), np.float32([0.5, 3]))


@given(
    st.sampled_from(["mean", "age", "samples"]),
    st.lists(st.tuples(st.floats(0, 1e18), st.floats(0, 1e15)), min_size=1, max_size=20),
)
def test_shares_sum_to_one_and_are_not_negative(rule, claims):
    ages, samples = zip(*claims, strict=True)
    weights = merge.shares(rule, ages, samples)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("rule", ["mean", "age", "samples"])
def test_what_is_behind_counts_less(rule):
    shares = merge.shares(rule, (5, 5, 5), (5, 5, 5), lags=(0, 1, 3))
    np.testing.assert_allclose(shares, np.array([1, 1 / 2, 1 / 4]) / 1.75)
    np.testing.assert_array_equal(
        merge.shares(rule, (1, 2), (3, 4), lags=(0, 0)), merge.shares(rule, (1, 2), (3, 4))
    )


def test_mean_counts_all_equally():
    np.testing.assert_array_equal(merge.shares("mean", [1, 9], [5, 5]), [0.5, 0.5])


def test_samples_weighs_by_samples_and_age_by_age():
    np.testing.assert_allclose(merge.shares("samples", [0, 0], [100, 300]), [0.25, 0.75])
    np.testing.assert_allclose(merge.shares("age", [300, 100], [1, 1]), [0.75, 0.25])


def test_all_ages_zero_weigh_equally():
    np.testing.assert_array_equal(merge.shares("age", [0, 0, 0], [1, 1, 1]), [1 / 3] * 3)


@pytest.mark.parametrize("rule", ["age", "samples"])
def test_an_absurd_claim_weighs_four_medians_at_most(rule):
    claims = [100.0, 100.0, 100.0, 1e18]
    weights = merge.shares(rule, claims, claims)
    assert weights[3] == pytest.approx(4 / 7)
    assert merge.merged_age(weights, claims) <= 400


def test_merged_age_is_the_weighted_sum():
    assert merge.merged_age(np.array([0.5, 0.5]), [100, 200]) == 150


def test_whose_claims_are_clipped_is_counted_once_and_never_oneself():
    assert merge.clipped([100.0, 110.0, 90.0], [10, 10, 10]) == 0
    assert merge.clipped([100.0, 1e9, 90.0], [10, 10, 500]) == 2  # the limits are 400 and 40
    assert merge.clipped([100.0, 1e9, 90.0], [10, 10**9, 10]) == 1
    assert merge.clipped([1e9, 100.0, 90.0]) == 0
    assert merge.clipped([0.0, 0.0, 500.0]) == 0

"""Robust merge rules: against slow obvious references, and by property."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from p2pfl.gossip import merge
from p2pfl.gossip.merge.ordered import sorting_network
from p2pfl.gossip.merge.products import squared_distances
from p2pfl.gossip.merge.weighing import centred_clipping_shares, fltrust_shares, geometric_median_shares
from p2pfl.merge_rule import parse

# Each rule with as many liars of nine models as it bears.
BEARS = {
    "median": 4,
    "trimmed-mean:0.25": 2,
    "krum:f=3": 3,
    "multi-krum:f=2": 2,
    "multi-krum:f=2,m=2": 2,
    "geometric-median": 4,
    "centred-clipping": 4,
    "centred-clipping:tau=2": 8,
    "clipped-gossip:0.25": 2,
    "norm-bound": 4,
    "norm-bound:tau=2": 8,
    "fltrust": 8,
}
RULES = sorted(BEARS)
EQUIVARIANT = [rule for rule in RULES if "tau" not in rule and rule != "fltrust"]  # under all of them
NINE = 9


def merged(rule: str, vectors) -> np.ndarray:
    return merge.merge_robustly(parse(rule), list(vectors))[0]


def nine(low: float = -100, high: float = 100):
    return arrays(
        np.float32,
        st.tuples(st.just(NINE), st.integers(1, 20)),
        elements=st.floats(low, high, width=32, allow_subnormal=False),
    )


def cloud(seed: int, count: int = NINE, size: int = 30) -> np.ndarray:
    """Models in general position: no two scores or distances are nearly the same."""
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


# -- sorting networks


@pytest.mark.parametrize("count", range(1, 12))
def test_a_network_separates_every_sequence_of_zeros_and_ones(count):
    """Then it separates all sequences: Knuth, volume 3, 5.3.4, theorem Z."""
    for cut in range((count - 1) // 2 + 1):
        for bits in itertools.product((0, 1), repeat=count):
            wires: list[int | None] = list(bits)
            for low, high, keep in sorting_network(count, cut):
                a, b = wires[low], wires[high]
                assert a is not None
                assert b is not None
                wires[low] = min(a, b) if keep != "high" else None
                wires[high] = max(a, b) if keep != "low" else None
            assert sorted(wires[cut : count - cut]) == sorted(bits)[cut : count - cut]


@pytest.mark.parametrize("count", [13, 16, 33, 65])
def test_the_median_of_many_is_numpys(count):
    vectors = cloud(count, count, 5000)
    np.testing.assert_array_equal(merge.coordinate_median(list(vectors)), np.median(vectors, axis=0))


# -- slow references


def slow_trimmed_mean(vectors, cut):
    return np.sort(vectors.astype(np.float64), axis=0)[cut : len(vectors) - cut].mean(axis=0)


@given(nine(), st.integers(1, NINE), st.data())
def test_trimmed_mean_is_the_mean_of_what_is_left_of_each_sorted_column(vectors, count, data):
    vectors = vectors[:count]
    cut = data.draw(st.integers(0, (count - 1) // 2))
    ours = merge.trimmed_mean(list(vectors), cut)
    np.testing.assert_allclose(ours, slow_trimmed_mean(vectors, cut), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 30_000])
def test_blocks_have_no_borders(size):
    vectors = cloud(size, 10, size)
    change = (cloud(1, 1, size)[0], cloud(2, 1, size)[0])
    added = (change[0] - change[1]).astype(np.float64)
    ours = merge.trimmed_mean(list(vectors), 2, change)
    np.testing.assert_allclose(ours, slow_trimmed_mean(vectors, 2) + added, atol=1e-5)
    ours = merge.coordinate_median(list(vectors), change)
    np.testing.assert_allclose(ours, np.median(vectors, axis=0) + added, atol=1e-5)
    products = merge.inner_products(list(vectors))
    away = vectors.astype(np.float64) - vectors[0]
    np.testing.assert_allclose(products, away @ away.T, rtol=1e-4, atol=1e-3)
    products = merge.inner_products(list(vectors), own=True)
    away[0] = vectors[0]
    np.testing.assert_allclose(products, away @ away.T, rtol=1e-4, atol=0.02)


def test_there_is_no_mean_of_nothing():
    with pytest.raises(ValueError, match="cannot cut 2 of 4"):
        merge.trimmed_mean(list(cloud(0, 4)), 2)


def slow_krum_scores(vectors, f):
    scores = []
    for i, x in enumerate(vectors):
        distances = sorted(float(np.sum((x - y) ** 2)) for j, y in enumerate(vectors) if j != i)
        scores.append(sum(distances[: len(vectors) - f - 2]))
    return scores


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("f", [0, 1, 2, 3])
def test_krum_is_the_definition(seed, f):
    vectors = cloud(seed)
    scores = slow_krum_scores(vectors.astype(np.float64), f)
    best = np.argsort(scores)
    assert merge.krum(list(vectors), f) is not None
    np.testing.assert_array_equal(merge.krum(list(vectors), f), vectors[best[0]])
    for m in range(1, NINE - f - 1):
        expected = vectors[best[:m]].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(merge.multi_krum(list(vectors), f, m), expected, atol=1e-6)
    np.testing.assert_allclose(
        merge.multi_krum(list(vectors), f), vectors[best[: NINE - f - 2]].mean(axis=0), atol=1e-6
    )


def test_krum_needs_two_f_and_three():
    with pytest.raises(ValueError, match=r"needs 2f \+ 3 models, 11, not 9"):
        merge.krum(list(cloud(0)), 4)
    with pytest.raises(ValueError, match="averages 1 to k - f - 2 models, 5, not 6"):
        merge.multi_krum(list(cloud(0)), 2, 6)


def test_krum_returns_one_of_the_models_and_copies_nothing():
    vectors = list(cloud(3))
    chosen = merge.krum(vectors, 2)
    assert any(chosen is vector for vector in vectors)


def test_of_equal_scores_the_first_counts():
    vectors = [np.full(4, value, np.float32) for value in (0, 1, 2, 3, 4)]
    shares = merge.merge_robustly(parse("krum:f=1"), vectors)[1]
    assert shares.tolist() == [0, 1, 0, 0, 0]  # 1, 2 and 3 have the score 2


@pytest.mark.parametrize("seed", range(10))
def test_geometric_median_has_the_least_sum_of_distances(seed):
    vectors = cloud(seed, 7, 3)
    vectors[5:] *= 100
    ours = merge.geometric_median(list(vectors)).astype(np.float64)

    def cost(point):
        return np.linalg.norm(vectors - point, axis=1).sum()

    slow = vectors.astype(np.float64).mean(axis=0)
    for _ in range(20_000):
        weights = 1 / np.linalg.norm(vectors - slow, axis=1)
        slow = weights @ vectors / weights.sum()
    assert cost(ours) <= cost(slow) * (1 + 1e-6)
    np.testing.assert_allclose(ours, slow, atol=1e-3)


def test_geometric_median_of_a_majority_of_equals_is_what_they_are():
    vectors = [np.float32([1, 2])] * 3 + [np.float32([9, 9]), np.float32([-7, 3])]
    np.testing.assert_allclose(merge.geometric_median(vectors), [1, 2], atol=1e-5)


def slow_clipping(vectors, tau, steps):
    v = vectors[0].astype(np.float64)
    for _ in range(steps):
        moved = []
        for x in vectors.astype(np.float64):
            length = np.linalg.norm(x - v)
            moved.append((x - v) * min(1, tau / length) if length else x - v)
        v = v + np.mean(moved, axis=0)
    return v


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("tau", [0.5, 5.0, 50.0])
def test_clipping_is_the_definition(seed, tau):
    vectors = cloud(seed)
    for steps in (1, 3, 10):
        ours = merge.centred_clipping(list(vectors), tau, steps)
        np.testing.assert_allclose(ours, slow_clipping(vectors, tau, steps), atol=1e-5)
    np.testing.assert_allclose(
        merge.norm_bound(list(vectors), tau), slow_clipping(vectors, tau, 1), atol=1e-5
    )


def test_without_a_radius_it_is_the_median_distance_of_the_others():
    vectors = cloud(1)
    distances = sorted(np.linalg.norm(vectors[1:].astype(np.float64) - vectors[0], axis=1))
    expected = slow_clipping(vectors, distances[3], 3)  # the lower one of eight's two middle ones
    np.testing.assert_allclose(merge.centred_clipping(list(vectors)), expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(10))
def test_clipped_gossip_is_the_definition(seed):
    vectors = cloud(seed) * np.linspace(1, 4, NINE, dtype=np.float32)[:, None]
    away = vectors.astype(np.float64) - vectors[0]
    near = sorted(np.sum(away**2, axis=1))[:-2]
    tau = np.sqrt(sum(near) / NINE / 0.25)
    kept = [d * min(1, tau / np.linalg.norm(d)) for d in away[1:]]
    ours = merge.clipped_gossip(list(vectors), 2, 0.25)
    np.testing.assert_allclose(ours, vectors[0] + np.sum(kept, axis=0) / NINE, atol=1e-5)


@pytest.mark.parametrize("seed", range(10))
def test_fltrust_is_the_definition(seed):
    vectors = cloud(seed) + np.float32(0.3)
    own, total, trust = vectors[0].astype(np.float64), 0.0, 0.0
    for x in vectors.astype(np.float64):
        cosine = max(0.0, x @ own / np.linalg.norm(x) / np.linalg.norm(own))
        total = total + cosine * x * np.linalg.norm(own) / np.linalg.norm(x)
        trust += cosine
    np.testing.assert_allclose(merge.fltrust(list(vectors)), total / trust, atol=1e-5)


# -- properties


@pytest.mark.parametrize("rule", RULES)
@given(vectors=nine())
@settings(max_examples=40)
def test_it_changes_no_input_and_its_shares_sum_to_one(rule, vectors):
    before = vectors.copy()
    result, shares = merge.merge_robustly(parse(rule), list(vectors))
    np.testing.assert_array_equal(vectors, before)
    assert (result.shape, result.dtype) == (vectors[0].shape, np.float32)
    assert shares.shape == (NINE,)
    assert (shares >= -1e-12).all()
    assert shares.sum() == pytest.approx(1)


@pytest.mark.parametrize("rule", RULES)
@given(vector=nine())
@settings(max_examples=40)
def test_equal_models_give_that_model(rule, vector):
    result = merged(rule, [vector[0].copy() for _ in range(NINE)])
    np.testing.assert_allclose(result, vector[0], rtol=2e-6)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "fltrust"])
@given(vectors=nine())
@settings(max_examples=40)
def test_it_lies_between_least_and_greatest(rule, vectors):
    result, slack = merged(rule, vectors), 1e-5 * (1 + np.abs(vectors).max())
    assert (result >= vectors.min(axis=0) - slack).all()
    assert (result <= vectors.max(axis=0) + slack).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(8))
def test_the_order_of_the_others_does_not_matter(rule, seed):
    vectors = cloud(seed)
    order = np.random.default_rng(seed).permutation(NINE - 1) + 1
    expected = merged(rule, vectors)
    np.testing.assert_allclose(merged(rule, vectors[[0, *order]]), expected, atol=1e-5)


@pytest.mark.parametrize(
    "rule", ["median", "trimmed-mean:0.25", "krum:f=3", "multi-krum:f=2", "geometric-median"]
)
@pytest.mark.parametrize("seed", range(4))
def test_these_do_not_even_know_which_model_is_the_own(rule, seed):
    vectors = cloud(seed)
    order = np.random.default_rng(seed).permutation(NINE)
    np.testing.assert_allclose(merged(rule, vectors[order]), merged(rule, vectors), atol=1e-4)


@pytest.mark.parametrize("rule", EQUIVARIANT)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [1e-6, 3.0, 1e6])
def test_moving_and_stretching_all_models_moves_and_stretches_the_result(rule, seed, scale):
    vectors, shift = cloud(seed), cloud(seed + 100, 1)[0] * 10
    expected = merged(rule, vectors)
    np.testing.assert_allclose(merged(rule, vectors + shift), expected + shift, atol=2e-4)
    np.testing.assert_allclose(
        merged(rule, vectors * np.float32(scale)), expected * scale, rtol=1e-3, atol=1e-4 * scale
    )


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_fltrust_knows_no_unit(scale):
    vectors = cloud(1)
    np.testing.assert_allclose(
        merged("fltrust", vectors * np.float32(scale)),
        merged("fltrust", vectors) * scale,
        rtol=1e-4,
        atol=1e-5 * scale,
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [1e2, 1e10, 1e25, 3e38])
@pytest.mark.parametrize("alike", [True, False])
def test_as_many_liars_as_it_bears_move_it_no_farther_than_the_honest_are_apart(rule, size, alike):
    """However far they go, together or each its own way."""
    for seed in range(5):
        honest, rng = cloud(seed), np.random.default_rng(seed)
        liars = BEARS[rule]
        vectors = honest.copy()
        lies = rng.choice([-1.0, 1.0], size=(1 if alike else liars, honest.shape[1])) * size
        vectors[NINE - liars :] = lies
        result = merged(rule, vectors).astype(np.float64)
        assert np.isfinite(result).all()
        reach = np.linalg.norm(honest.astype(np.float64) - honest[0], axis=1).max()
        assert np.linalg.norm(result - honest[0]) <= 3.5 * reach


@given(nine(), st.integers(0, 4), st.sampled_from([1e3, 1e30]))
def test_a_median_stays_between_the_honest_values(vectors, liars, size):
    honest = vectors[: NINE - liars]
    vectors = vectors.copy()
    vectors[NINE - liars :] = size
    result = merge.coordinate_median(list(vectors))
    assert (result >= honest.min(axis=0)).all()
    assert (result <= honest.max(axis=0)).all()


def test_distances_near_consensus_have_digits_left():
    """Of weights around 1 that differ by 1e-6, |x|^2 + |y|^2 - 2<x, y> in float32 would be noise."""
    rng = np.random.default_rng(0)
    own = rng.normal(size=100_000).astype(np.float32)
    vectors = [
        own,
        *(own + np.float32(1e-6) * rng.normal(size=own.size).astype(np.float32) for _ in range(6)),
    ]
    found = squared_distances(merge.inner_products(vectors))
    exact = np.array([[np.sum((x.astype(np.float64) - y) ** 2) for y in vectors] for x in vectors])
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5 * exact.max())


def test_two_runs_agree_to_the_last_bit():
    vectors = list(cloud(5, 9, 50_000))
    for rule in RULES:
        np.testing.assert_array_equal(
            merged(rule, vectors), merged(rule, [vector.copy() for vector in vectors])
        )


@given(nine())
@settings(max_examples=30)
def test_what_looks_the_other_way_has_no_trust(vectors):
    assume(np.linalg.norm(vectors[0]) > 1)
    vectors = vectors.copy()
    vectors[1:] = -vectors[0]
    trust, _ = fltrust_shares(merge.inner_products(list(vectors), own=True))
    assert trust.tolist() == [1.0] + [0.0] * 8
    np.testing.assert_array_equal(merge.fltrust(list(vectors)), vectors[0])


def test_alone_or_with_a_twin_every_rule_has_an_answer():
    one, two = np.zeros((1, 1)), np.zeros((2, 2))
    assert geometric_median_shares(one).tolist() == [1]
    assert geometric_median_shares(two).tolist() == [0.5, 0.5]
    assert centred_clipping_shares(one).tolist() == [1]
    assert centred_clipping_shares(two).sum() == 1
    zero = [np.zeros(3, np.float32)] * 3
    np.testing.assert_array_equal(merge.fltrust(zero), zero[0])

"""Partitions: every kept sample at exactly one node, and each rule does what its table row says."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfl.config import DataConfig
from p2pfl.errors import PartitionError
from p2pfl.gossip.messages import Task
from p2pfl.learning.dataset import Dataset
from p2pfl.learning.partition import parse, shard, shards, split

Ints = npt.NDArray[np.int64]

BALANCED = np.repeat(np.arange(10), 100)  # (1000,) ten classes of 100


def dataset(labels: Ints, classes: int = 10) -> Dataset:
    """Every image differs, so that fingerprints can tell samples apart."""
    images = np.zeros((len(labels), 1, 2, 2), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(len(labels)) % 256, np.arange(len(labels)) // 256
    task = Task("toy", tuple(str(c) for c in range(classes)), (1, 2, 2), (0.5,), (0.5,))
    return Dataset(task, images, labels, images[:1], labels[:1])


def counts(spec: str, labels: Ints, n: int, seed: int = 0) -> Ints:
    """(n, classes) samples of each class at each node."""
    return np.stack(
        [np.bincount(labels[own], minlength=labels.max() + 1) for own in split(spec, labels, n, seed)]
    )


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, Ints, int, int]:
    classes = draw(st.integers(2, 6))
    labels = np.array(draw(st.lists(st.integers(0, classes - 1), min_size=12, max_size=150)))
    n = draw(st.integers(1, 6))
    share = draw(st.floats(0, 1))
    spec = draw(
        st.sampled_from(
            [
                "iid",
                "by-writer",
                f"dirichlet:{draw(st.floats(0.05, 100))}",
                f"quantity:{draw(st.floats(0.05, 100))}",
                f"classes:{draw(st.integers(1, classes))}",
                f"bias:{share}",
                "groups:" + "|".join(["*", *"012345"][:n]) + f"@{share}",
            ]
        )
    )
    return spec, labels, n, draw(st.integers(0, 2**40))


@settings(max_examples=150, deadline=None)
@given(requests())
def test_every_sample_is_at_exactly_one_node_and_again_the_same_one(
    request_: tuple[str, Ints, int, int],
) -> None:
    spec, labels, n, seed = request_
    writers = np.arange(len(labels)) % 7
    before = labels.copy()
    try:
        parts = split(spec, labels, n, seed, writers)
    except PartitionError:  # too few samples or classes for this; the table below says when
        return
    assert len(parts) == n
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    for own in parts:
        assert len(own) > 0
        assert own.dtype == np.int64
        assert np.array_equal(own, np.sort(own))
    assert np.array_equal(labels, before)
    for own, again in zip(parts, split(spec, labels, n, seed, writers), strict=True):
        assert np.array_equal(own, again)


@pytest.mark.parametrize("spec", ["iid", "dirichlet:1", "quantity:1", "classes:3", "bias:0.5"])
def test_another_seed_splits_otherwise(spec: str) -> None:
    one, other = split(spec, BALANCED, 5, 0), split(spec, BALANCED, 5, 1)
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@given(st.integers(1, 50), st.integers(50, 200))
def test_iid_sizes_differ_by_one_at_most(n: int, samples: int) -> None:
    sizes = [len(own) for own in split("iid", np.zeros(samples, dtype=np.int64), n, 3)]
    assert max(sizes) - min(sizes) <= 1


def test_bias_0_is_uniform() -> None:
    assert np.all(counts("bias:0", BALANCED, 10) == 10)


def test_bias_1_is_one_class_a_node() -> None:
    assert np.array_equal(counts("bias:1", BALANCED, 10), 100 * np.eye(10, dtype=int))


def test_bias_gives_its_share_to_one_node_and_spreads_the_rest_over_all() -> None:
    table = counts("bias:0.8", BALANCED, 10)
    assert np.all(np.diag(table) == 82)
    assert np.all(table[~np.eye(10, dtype=bool)] == 2)


def test_bias_with_fewer_nodes_than_classes_takes_the_class_modulo_the_nodes() -> None:
    table = counts("bias:1", BALANCED, 4)
    assert [sorted(np.flatnonzero(row)) for row in table] == [[0, 4, 8], [1, 5, 9], [2, 6], [3, 7]]


def test_bias_remainders_do_not_all_go_to_the_first_node() -> None:
    labels = np.repeat(np.arange(10), 11)
    sizes = counts("bias:0", labels, 10).sum(axis=1)
    assert sizes.max() - sizes.min() <= 1


@given(st.integers(1, 10), st.integers(10, 40), st.integers(0, 1000))
def test_classes_are_k_at_every_node_and_evenly_held(k: int, n: int, seed: int) -> None:
    table = counts(f"classes:{k}", np.repeat(np.arange(10), 50), n, seed)
    assert np.all((table > 0).sum(axis=1) == k)
    holders = (table > 0).sum(axis=0)
    assert holders.max() - holders.min() <= 1
    for column in table.T:
        assert np.ptp(column[column > 0]) <= 1


def test_dirichlet_is_skewed_when_small_and_even_when_large() -> None:
    skewed, even = counts("dirichlet:0.1", BALANCED, 5), counts("dirichlet:10000", BALANCED, 5)
    assert skewed.max() > 90
    assert np.ptp(even) <= 5


def test_quantity_differs_in_size_but_not_in_classes() -> None:
    labels = np.repeat(np.arange(2), 5000)
    table = counts("quantity:1", labels, 4, seed=1)
    sizes = table.sum(axis=1)
    assert sizes.max() > 3 * sizes.min()
    assert np.abs(table[:, 0] / sizes - 0.5).max() < 0.05


def test_groups_give_their_share_to_their_node_and_the_rest_to_the_other_nodes() -> None:
    table = counts("groups:0123|456|789@0.9", BALANCED, 3)
    for node, own in enumerate([range(4), range(4, 7), range(7, 10)]):
        for label in range(10):
            assert table[node, label] == (90 if label in own else 5)


def test_groups_at_1_are_disjoint() -> None:
    for spec in ("groups:0123|456|789@1.0", "groups:0123|456|789"):
        assert np.all((counts(spec, BALANCED, 3) > 0).sum(axis=0) == 1)


def test_groups_star_is_balanced_and_ungrouped_classes_are_spread() -> None:
    table = counts("groups:*|137|268@0.9", np.repeat(np.arange(10), 300), 3)
    assert np.all(table[0] == 100)
    assert np.all(table[:, [0, 4, 5, 9]] == 100)
    assert np.all(table[1, [1, 3, 7]] == 180)
    assert np.all(table[2, [1, 3, 7]] == 20)


def test_groups_share_a_class_between_the_groups_that_name_it() -> None:
    table = counts("groups:01|02|3456789@1", BALANCED, 3)
    assert list(table[:, 0]) == [50, 50, 0]


def test_groups_take_positions_above_9_with_commas() -> None:
    labels = np.repeat(np.arange(12), 10)
    table = counts("groups:10,11|0123456789@1", labels, 2)
    assert list(np.flatnonzero(table[0])) == [10, 11]
    assert counts("groups:11,|0@1", labels, 2)[0, 11] == 10


def test_writers_stay_whole_and_are_dealt_evenly() -> None:
    writers = np.random.default_rng(0).integers(0, 21, 1000) * 7
    parts = split("by-writer", BALANCED, 4, 0, writers)
    held = [set(writers[own].tolist()) for own in parts]
    assert sum(len(names) for names in held) == 21
    assert sorted(len(names) for names in held) == [5, 5, 5, 6]


@pytest.mark.parametrize(
    ("spec", "n", "said"),
    [
        ("", 2, "unknown partition"),
        ("iid:3", 2, "unknown partition"),
        ("IID", 2, "unknown partition"),
        ("dirichlet", 2, "not a number"),
        ("dirichlet:", 2, "not a number"),
        ("dirichlet:x", 2, "not a number"),
        ("dirichlet:0", 2, "not a number"),
        ("dirichlet:-1", 2, "not a number"),
        ("dirichlet:nan", 2, "not a number"),
        ("dirichlet:inf", 2, "not a number"),
        ("dirichlet:1e-300", 2, "not a number"),
        ("quantity:0", 2, "not a number"),
        ("bias:1.01", 2, "not a number"),
        ("bias:-0.1", 2, "not a number"),
        ("classes:0", 2, "not a whole number"),
        ("classes:1.5", 2, "not a whole number"),
        ("classes:inf", 2, "not a whole number"),
        ("classes:11", 2, "classes"),
        ("classes:1", 2, "classes"),
        ("draw:nan", 2, "not a whole number"),
        ("draw:5", 2, "anew each round"),
        ("groups:", 1, "not a group"),
        ("groups:0|", 2, "not a group"),
        ("groups:0|a", 2, "not a group"),
        ("groups:0|-1", 2, "not a group"),
        ("groups:0|²", 2, "not a group"),
        ("groups:0,x|1", 2, "not a group"),
        ("groups:0|1@", 2, "not a number"),
        ("groups:0|1@1.5", 2, "not a number"),
        ("groups:0|1|2@0.9", 2, "describes 3 nodes, not 2"),
        ("groups:0|10,11@0.9", 2, "no samples of class 10"),
        ("by-writer", 2, "who wrote what"),
        ("bias:1", 11, "without samples"),
        ("iid", 1001, "cannot be split over 1001 nodes"),
        ("iid", 0, "cannot be split over 0 nodes"),
        ("dirichlet:0.0001", 500, "without samples"),
        ("quantity:0.001", 500, "without samples"),
    ],
)
def test_what_cannot_be_split_is_one_line_that_names_the_partition(spec: str, n: int, said: str) -> None:
    with pytest.raises(PartitionError, match=said) as caught:
        split(spec, BALANCED, n, 0)
    assert repr(spec) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_nodes_than_writers_is_an_error() -> None:
    with pytest.raises(PartitionError, match="2 writers cannot be split over 3"):
        split("by-writer", BALANCED, 3, 0, BALANCED % 2)


def test_parse_tells_what_it_read() -> None:
    groups = parse("groups:20|*|7@0.25").groups
    assert groups is not None
    assert groups.nodes == ((0, 2), None, (7,))
    assert groups.share == 0.25
    assert parse("dirichlet:0.5").value == 0.5


# Shards


def test_one_shard_is_the_same_as_it_is_among_all() -> None:
    data, config = dataset(BALANCED), DataConfig(partition="dirichlet:1")
    together = shards(data, config, 6)
    for index, expected in enumerate(together):
        alone = shard(data, config, index, 6)
        assert np.array_equal(alone.indices(0), expected.indices(0))
        assert (alone.fingerprint, alone.samples) == (expected.fingerprint, expected.samples)
    assert len({each.fingerprint for each in together}) == 6


def test_a_shard_counts_its_labels_over_all_classes_of_the_task() -> None:
    data = dataset(np.array([0, 0, 2, 2, 2, 1]), classes=5)
    whole = shard(data, DataConfig(), 0, 1)
    assert whole.label_counts == (2, 1, 3, 0, 0)
    assert whole.samples == 6
    assert np.array_equal(whole.indices(0), whole.indices(9))


def test_the_fingerprint_follows_images_and_labels() -> None:
    data = dataset(BALANCED)
    one = shard(data, DataConfig(), 0, 1).fingerprint
    assert len(one) == 32
    assert int(one, 16) >= 0
    images = data.train_images.copy()
    images[-1, 0, 1, 1] = 1
    labels = data.train_labels.copy()
    labels[0] = 1
    changed = [
        Dataset(data.task, images, data.train_labels, data.test_images, data.test_labels),
        Dataset(data.task, data.train_images, labels, data.test_images, data.test_labels),
    ]
    assert one not in [shard(other, DataConfig(), 0, 1).fingerprint for other in changed]


def test_the_split_follows_the_partition_seed_alone() -> None:
    data = dataset(BALANCED)
    one, other = (shard(data, DataConfig(partition_seed=seed), 0, 4) for seed in (0, 1))
    assert not np.array_equal(one.indices(0), other.indices(0))


def test_draws_have_k_of_each_class_and_change_with_round_node_and_seed() -> None:
    data = dataset(BALANCED)
    drawn = shards(data, DataConfig(partition="draw:7"), 3)
    assert drawn[0].label_counts == (7,) * 10
    assert drawn[0].samples == 70
    for round_ in range(3):
        own = drawn[0].indices(round_)
        assert len(np.unique(own)) == 70
        assert np.all(np.bincount(BALANCED[own]) == 7)
    first = drawn[0].indices(0)
    assert np.array_equal(first, shard(data, DataConfig(partition="draw:7"), 0, 3).indices(0))
    others = [
        drawn[0].indices(1),
        drawn[1].indices(0),
        shard(data, DataConfig(partition="draw:7", partition_seed=1), 0, 3).indices(0),
    ]
    assert not any(np.array_equal(first, other) for other in others)
    assert len({each.fingerprint for each in drawn}) == 3


def test_a_draw_of_more_than_there_is_is_an_error() -> None:
    with pytest.raises(PartitionError, match="a class has only 100 samples"):
        shards(dataset(BALANCED), DataConfig(partition="draw:101"), 2)

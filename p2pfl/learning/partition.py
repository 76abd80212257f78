"""How training data is split over nodes: pure functions of the labels, the number of nodes and a seed.

| spec | node i holds |
|---|---|
| iid | an equal random share |
| dirichlet:A | of each class a share drawn from a symmetric Dirichlet(A); small A: few classes |
| classes:K | samples of K classes; every class at about as many nodes as every other |
| bias:B | the share B of the classes c with c mod n = i; the rest of each class is spread over all |
| groups:SPEC | the given share of the classes of its group; see Groups |
| quantity:A | a random share, its size drawn from a symmetric Dirichlet(A) |
| by-writer | all samples of some writers |
| draw:K | K samples of each class, drawn anew each round; nodes overlap |

All but `draw` put every sample at exactly one node. Classes are meant by their position, counted from 0.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from p2pfl.config import DataConfig
from p2pfl.errors import PartitionError
from p2pfl.learning.dataset import Dataset, Labels, Writers
from p2pfl.learning.learner import Indices

CONCENTRATION = (1e-4, 1e6)  # of a Dirichlet; beyond, its draws lose themselves in rounding
REDRAWS = 100  # draws of a Dirichlet before shards that stay empty are an error


@dataclass(frozen=True)
class Groups:
    """One group of classes a node, `|` between nodes, digits for classes (with commas above 9: 3,12 or 12,).

    share: of each class in a group, what goes to the group's node; the rest is spread over the other nodes
    that have a group. A class in several groups is shared out evenly between them, a class in none over
    all nodes. `*`, here None, is a balanced node: it has 1/n of every class, taken first.
    """

    nodes: tuple[tuple[int, ...] | None, ...]
    share: float


@dataclass(frozen=True)
class Partition:
    """A spec, parsed. value: its number; 0 where it has none."""

    spec: str
    kind: str
    value: float = 0.0
    groups: Groups | None = None


def parse(spec: str) -> Partition:
    """Raises PartitionError for what is none of the specs above."""
    kind, colon, argument = spec.partition(":")
    try:
        if kind in ("iid", "by-writer") and not colon:
            return Partition(spec, kind)
        if kind in ("dirichlet", "quantity"):
            return Partition(spec, kind, _number(argument, *CONCENTRATION))
        if kind == "bias":
            return Partition(spec, kind, _number(argument, 0, 1))
        if kind in ("classes", "draw"):
            return Partition(spec, kind, _number(argument, 1, 1e9, whole=True))
        if kind == "groups":
            return Partition(spec, kind, groups=_groups(argument))
    except ValueError as error:
        raise PartitionError(f"partition {spec!r}: {error}") from None
    raise PartitionError(
        f"unknown partition {spec!r}; take iid, dirichlet:A, classes:K, bias:B, groups:SPEC, quantity:A, "
        "by-writer or draw:K"
    )


def _number(text: str, least: float, most: float, *, whole: bool = False) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most or (whole and value != int(value)):
        raise ValueError(f"{text!r} is not a {'whole ' if whole else ''}number from {least:g} to {most:g}")
    return value


def _groups(argument: str) -> Groups:
    text, at, share = argument.partition("@")
    nodes: list[tuple[int, ...] | None] = []
    for part in text.split("|"):
        if part == "*":
            nodes.append(None)
            continue
        labels = part.removesuffix(",").split(",") if "," in part else list(part)
        if not labels or not all(label.isascii() and label.isdecimal() for label in labels):
            raise ValueError(
                f"{part!r} is not a group; write class positions such as 012, commas between "
                "those above 9 (3,12), or * for a balanced node"
            )
        nodes.append(tuple(sorted({int(label) for label in labels})))
    return Groups(tuple(nodes), _number(share, 0, 1) if at else 1.0)


def split(spec: str, labels: Labels, n: int, seed: int, writers: Writers | None = None) -> list[Indices]:
    """Positions in `labels` for each of n nodes, sorted; every position at exactly one node.

    labels, writers: (samples,) int64.  Raises PartitionError for a bad spec, an empty shard, or `draw`,
    which is not a split (see shards).
    """
    partition = parse(spec)
    if partition.kind not in _SPLITS:
        raise PartitionError(f"partition {spec!r} draws anew each round; it does not split")
    if n < 1 or n > len(labels):
        raise PartitionError(f"partition {spec!r}: {len(labels)} samples cannot be split over {n} nodes")
    owner = _SPLITS[partition.kind](_Request(partition, labels, n, np.random.default_rng(seed), writers))
    order = np.argsort(owner, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(owner, minlength=n))[:-1])
    _check_filled(partition, [len(part) for part in parts])
    return parts


def _check_filled(partition: Partition, sizes: Sequence[int]) -> None:
    empty = [node for node, size in enumerate(sizes) if not size]
    if empty:
        raise PartitionError(
            f"partition {partition.spec!r} leaves {len(empty)} of {len(sizes)} nodes without "
            f"samples (the first is node {empty[0]}); take fewer nodes or another partition"
        )


@dataclass(frozen=True)
class _Request:
    """What split was asked for; each rule below answers with (samples,) int64, the node of every sample."""

    partition: Partition
    labels: Labels
    n: int
    rng: np.random.Generator
    writers: Writers | None


def _iid(ask: _Request) -> Indices:
    return _deal(ask.rng.permutation(len(ask.labels)), ask.n)


def _dirichlet(ask: _Request) -> Indices:
    """Each class's shares over the nodes, as Hsu, Qi, Brown (2019) and Yurochkin et al. (2019)."""

    def draw() -> Indices:
        owner = np.empty(len(ask.labels), dtype=np.int64)
        for own in _by_class(ask.labels, ask.rng):
            owner[own] = _apportion(ask.rng.dirichlet(np.full(ask.n, ask.partition.value)), len(own))
        return owner

    return _redraw(draw, ask.n)


def _quantity(ask: _Request) -> Indices:
    def draw() -> Indices:
        owner = np.empty(len(ask.labels), dtype=np.int64)
        shares = ask.rng.dirichlet(np.full(ask.n, ask.partition.value))
        owner[ask.rng.permutation(len(ask.labels))] = _apportion(shares, len(ask.labels))
        return owner

    return _redraw(draw, ask.n)


def _classes(ask: _Request) -> Indices:
    """Nodes choose in a random order, each the K classes that have the fewest nodes so far."""
    per_node, classes = int(ask.partition.value), np.unique(ask.labels)
    if per_node > len(classes) or per_node * ask.n < len(classes):
        raise PartitionError(
            f"partition {ask.partition.spec!r}: {ask.n} nodes of {per_node} classes cannot hold "
            f"{len(classes)} classes, each at one node at least; take another number of classes or nodes"
        )
    taken = np.zeros(len(classes), dtype=np.int64)
    nodes_of: list[list[int]] = [[] for _ in classes]
    for node in ask.rng.permutation(ask.n):
        for choice in np.lexsort((ask.rng.random(len(classes)), taken))[:per_node]:
            taken[choice] += 1
            nodes_of[choice].append(int(node))
    owner = np.empty(len(ask.labels), dtype=np.int64)
    for own, nodes in zip(_by_class(ask.labels, ask.rng), nodes_of, strict=True):
        owner[own] = np.array(nodes)[np.arange(len(own)) % len(nodes)]
    return owner


def _bias(ask: _Request) -> Indices:
    owner = np.empty(len(ask.labels), dtype=np.int64)
    spread = 0  # goes on from class to class, so that no node gets every remainder
    for own in _by_class(ask.labels, ask.rng):
        mine = round(ask.partition.value * len(own))
        owner[own[:mine]] = ask.labels[own[0]] % ask.n
        owner[own[mine:]] = (spread + np.arange(len(own) - mine)) % ask.n
        spread += len(own) - mine
    return owner


def _by_groups(ask: _Request) -> Indices:
    groups = ask.partition.groups
    assert groups is not None
    if len(groups.nodes) != ask.n:
        raise PartitionError(
            f"partition {ask.partition.spec!r} describes {len(groups.nodes)} nodes, not {ask.n}"
        )
    for label in sorted({label for group in groups.nodes for label in group or ()}):
        if label not in ask.labels:
            raise PartitionError(f"partition {ask.partition.spec!r}: there are no samples of class {label}")
    owner = np.empty(len(ask.labels), dtype=np.int64)
    for own in _by_class(ask.labels, ask.rng):
        label = int(ask.labels[own[0]])
        shares = np.full(ask.n, 1 / ask.n)
        members = [node for node, group in enumerate(groups.nodes) if group is not None and label in group]
        others = [node for node, group in enumerate(groups.nodes) if group is not None and label not in group]
        if members:
            left = (len(members) + len(others)) / ask.n  # what the balanced nodes leave
            shares[members] = left * (groups.share if others else 1) / len(members)
            shares[others] = left * (1 - groups.share) / max(1, len(others))
        owner[own] = _apportion(shares, len(own))
    return owner


def _by_writer(ask: _Request) -> Indices:
    """Whole writers; the numbers of writers at two nodes differ by one at most."""
    if ask.writers is None:
        raise PartitionError("partition 'by-writer': this data set does not say who wrote what")
    names, position = np.unique(ask.writers, return_inverse=True)
    if ask.n > len(names):
        raise PartitionError(
            f"partition 'by-writer': {len(names)} writers cannot be split over {ask.n} nodes"
        )
    owner: Indices = _deal(ask.rng.permutation(len(names)), ask.n)[position]
    return owner


_SPLITS: dict[str, Callable[[_Request], Indices]] = {
    "iid": _iid,
    "dirichlet": _dirichlet,
    "classes": _classes,
    "bias": _bias,
    "groups": _by_groups,
    "quantity": _quantity,
    "by-writer": _by_writer,
}


def _by_class(labels: Labels, rng: np.random.Generator) -> list[Indices]:
    """The positions of each class that occurs, in label order, shuffled within the class."""
    return [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]


def _deal(order: Indices, n: int) -> Indices:
    """The node of each position when the positions in `order` are dealt to n nodes like cards."""
    owner = np.empty(len(order), dtype=np.int64)
    owner[order] = np.arange(len(order)) % n
    return owner


def _apportion(shares: np.ndarray[tuple[int, ...], np.dtype[np.float64]], count: int) -> Indices:
    """(count,) nodes in ascending order, node i about shares[i] * count times; shares sum to 1."""
    ends = np.rint(np.cumsum(shares / shares.sum()) * count).astype(np.int64)
    ends[-1] = count
    return np.repeat(np.arange(len(shares)), np.diff(ends, prepend=0))


def _redraw(draw: Callable[[], Indices], n: int) -> Indices:
    """The first draw that leaves no node empty, or the last of REDRAWS draws."""
    owner = draw()
    for _ in range(REDRAWS - 1):
        if np.bincount(owner, minlength=n).all():
            break
        owner = draw()
    return owner


@dataclass(frozen=True, eq=False)
class Shard:
    """One node's part of the training data.

    samples: in a round.  label_counts: samples of each class of the task.  fingerprint: 32 hex digits
    (BLAKE2b-128) that name the data: equal data and only equal data has an equal one.
    """

    samples: int
    label_counts: tuple[int, ...]
    fingerprint: str
    _own: Indices

    def indices(self, round: int) -> Indices:
        """(samples,) int64, sorted: the samples that the node trains on in its round `round`."""
        return self._own


@dataclass(frozen=True, eq=False)
class DrawnShard(Shard):
    """draw:K. A new draw each round; the fingerprint names what it draws from, the spec, seed and node."""

    _labels: Labels
    _per_class: int
    _key: tuple[int, int]  # partition seed, node

    def indices(self, round: int) -> Indices:
        rng = np.random.default_rng([*self._key, round])
        drawn = [own[: self._per_class] for own in _by_class(self._labels, rng)]
        return np.sort(np.concatenate(drawn))


def shards(dataset: Dataset, config: DataConfig, n: int) -> list[Shard]:
    """All n nodes' shards. Raises PartitionError, see split."""
    return _shards(dataset, config, n, range(n))


def shard(dataset: Dataset, config: DataConfig, index: int, n: int) -> Shard:
    """The index-th of shards(dataset, config, n), without hashing the others' data."""
    return _shards(dataset, config, n, [index])[0]


def _shards(dataset: Dataset, config: DataConfig, n: int, wanted: Sequence[int]) -> list[Shard]:
    partition = parse(config.partition)
    if partition.kind == "draw":
        return _drawn(dataset, partition, config.partition_seed, wanted)
    parts = split(config.partition, dataset.train_labels, n, config.partition_seed, dataset.writers)
    return [
        Shard(
            len(parts[index]),
            _counts(dataset, parts[index]),
            _fingerprint(dataset, parts[index]),
            parts[index],
        )
        for index in wanted
    ]


def _drawn(dataset: Dataset, partition: Partition, seed: int, wanted: Sequence[int]) -> list[Shard]:
    labels, per_class = dataset.train_labels, int(partition.value)
    available = np.bincount(labels, minlength=len(dataset.task.classes))
    fewest = int(available[available > 0].min())
    if fewest < per_class:
        raise PartitionError(f"partition {partition.spec!r}: a class has only {fewest} samples")
    counts = tuple(per_class if count else 0 for count in available)
    source = _fingerprint(dataset, np.arange(len(labels)))

    def drawn(node: int) -> Shard:
        name = f"draw:{per_class} seed {seed} node {node} of {source}"
        digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
        return DrawnShard(sum(counts), counts, digest, np.arange(0), labels, per_class, (seed, node))

    return [drawn(node) for node in wanted]


def _counts(dataset: Dataset, own: Indices) -> tuple[int, ...]:
    counts = np.bincount(dataset.train_labels[own], minlength=len(dataset.task.classes))
    return tuple(int(count) for count in counts)


def _fingerprint(dataset: Dataset, own: Indices) -> str:
    """Of the images and labels, in the order of `own`; a thousand samples at a time, to copy little."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(dataset.train_labels[own].astype("<i8").tobytes())
    for start in range(0, len(own), 1000):
        digest.update(dataset.train_images[own[start : start + 1000]].tobytes())
    return digest.hexdigest()

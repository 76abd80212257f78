"""What each attack makes of the truth, exactly: numbers in, numbers out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netsim.attacks import catalogue
from netsim.attacks.attack import Attack, Said, Scene, Truth
from netsim.attacks.collusion import most_z
from netsim.attacks.liar import Circle, Liar, Lie, LyingGossip, Window
from netsim.config import ATTACKS
from p2pfl.config import GossipConfig
from p2pfl.errors import ConfigError
from p2pfl.gossip.codec import ModelDecoder
from p2pfl.gossip.messages import Layout, Model, Task, TensorSpec
from p2pfl.learning.dataset import Dataset

SHAPE = (1, 4, 4)
TASK = Task("t", ("a", "b", "c", "d"), SHAPE, (0.5,), (0.5,))
LAYOUT = Layout("m", (TensorSpec("w", (3,)),))
RNG = np.random.default_rng(0)


def floats(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, np.float32)


def truth(weights: tuple[float, ...], change: tuple[float, ...], round: int = 1, age: float = 40.0) -> Truth:
    return Truth(floats(*weights), floats(*change), age, 20, round)


OWN = truth((5.0, 6.0, 7.0), (1.0, -2.0, 0.5))


def said(attack: str, own: Truth = OWN, known: tuple[Truth, ...] = (), **options: object) -> Said:
    made = catalogue.make(attack, options)
    scene = Scene(own, (), known, group=max(2, len(known)), nodes=10)
    return made.says(scene, np.random.default_rng(7))


def dataset() -> Dataset:
    labels = np.arange(8) % 4
    images = np.arange(8 * 16, dtype=np.uint8).reshape(8, *SHAPE)
    return Dataset(TASK, images, labels, images.copy(), labels.copy())


def test_the_flag_names_every_attack() -> None:
    assert tuple(catalogue.ATTACKS) == ATTACKS


# -- data


@pytest.mark.parametrize(
    ("mapping", "labels"),
    [
        ("reverse", [3, 2, 1, 0]),
        ("0:2,2:0", [2, 1, 0, 3]),
        ("1:3", [0, 3, 2, 3]),
        ("*:1", [1, 1, 1, 1]),
        ("*:1,3:3", [1, 1, 1, 3]),
    ],
)
def test_label_flip(mapping: str, labels: list[int]) -> None:
    own = np.array([0, 1, 6, 7])  # labels 0 to 3
    images, flipped = catalogue.make("label-flip", {"mapping": mapping}).poison(dataset(), own, RNG)
    assert flipped.tolist() == labels
    np.testing.assert_array_equal(images, dataset().train_images[own])


def test_random_labels_do_not_depend_on_who_asks() -> None:
    attack = catalogue.make("random-labels", {})
    every = attack.poison(dataset(), np.arange(8), np.random.default_rng(3))[1]
    some = attack.poison(dataset(), np.array([1, 5]), np.random.default_rng(3))[1]
    assert some.tolist() == every[[1, 5]].tolist()
    assert every.tolist() == np.random.default_rng(3).integers(4, size=8).tolist()


def test_a_back_door_is_a_bright_square_and_the_targets_label() -> None:
    attack = catalogue.make("back-door", {"target": 2, "size": 2, "poisoned": 0.5})
    images, labels = attack.poison(dataset(), np.arange(8), np.random.default_rng(3))
    chosen = np.random.default_rng(3).random(8) < 0.5
    assert 0 < chosen.sum() < 8
    clean = dataset()
    for index, bears in enumerate(chosen):
        expected = clean.train_images[index].copy()
        if bears:
            expected[0, 2:, 2:] = 255
        np.testing.assert_array_equal(images[index], expected)
        assert labels[index] == (2 if bears else clean.train_labels[index])
    np.testing.assert_array_equal(clean.train_images, dataset().train_images)  # not modified


@pytest.mark.parametrize(
    ("attack", "options", "message"),
    [
        ("label-flip", {"mapping": "0:4"}, "there is no class 4"),
        ("label-flip", {"mapping": "9:0"}, "there is no class 9"),
        ("back-door", {"target": 4}, "target 4"),
        ("back-door", {"size": 4}, "leaves nothing"),
    ],
)
def test_options_that_do_not_fit_the_data(attack: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        catalogue.make(attack, options).poison(dataset(), np.arange(8), RNG)


# -- models


@pytest.mark.parametrize(
    ("attack", "options", "weights"),
    [
        ("sign-flip", {}, (3.0, 10.0, 6.0)),  # 4, 8, 6.5 was merged
        ("sign-flip", {"factor": 2.0}, (2.0, 12.0, 5.5)),
        ("scaled", {"factor": 10.0}, (14.0, -12.0, 11.5)),
        ("free-rider", {}, (5.0, 6.0, 7.0)),
    ],
)
def test_attacks_of_one_node(attack: str, options: dict[str, object], weights: tuple[float, ...]) -> None:
    lie = said(attack, **options)
    assert lie.weights.tolist() == list(weights)
    assert lie.weights.dtype == np.float32
    assert OWN.weights.tolist() == [5.0, 6.0, 7.0]  # not modified


def test_noise_is_drawn_from_the_liars_generator() -> None:
    drawn = np.random.default_rng(7).standard_normal(3, dtype=np.float32) * np.float32(0.5)
    np.testing.assert_array_equal(said("noise", sigma=0.5).weights, OWN.weights + drawn)
    np.testing.assert_array_equal(said("free-rider", sigma=0.5).weights, OWN.weights + drawn)


def test_nan_is_nan() -> None:
    assert np.isnan(said("nan").weights).all()


def test_what_overflows_warns_nobody() -> None:
    huge = truth((3e38, 0.0, 0.0), (3e38, 0.0, 0.0))
    assert said("scaled", huge, factor=10.0).weights[0] == np.inf


def test_a_free_rider_claims_to_have_trained() -> None:
    lie = said("free-rider")
    assert (lie.age, lie.samples) == (60.0, 20)


def test_a_stale_node_sends_what_it_had() -> None:
    lie = Lie(catalogue.make("stale", {"delay": 2}), Window(), 1, RNG)
    sent = []
    for round in range(1, 6):
        now = truth((float(round),) * 3, (1.0,) * 3, round, age=10.0 * round)
        lie.remember(now)
        told = lie.tell(0, now, 10)
        sent.append((told.weights[0], told.age))
    assert sent == [(1, 10), (1, 20), (1, 30), (2, 40), (3, 50)]


# -- collusion

KNOWN = (
    truth((1.0, 0.0, 0.0), (1.0, 0.0, 3.0), round=4),
    truth((3.0, 0.0, 2.0), (3.0, 0.0, 0.0), round=6, age=50.0),
)


def test_a_little_is_the_mean_less_some_deviations() -> None:
    assert said("a-little", known=KNOWN, z=1.5).weights.tolist() == [2 - 1.5, 0, 1 - 1.5]


@pytest.mark.parametrize(
    ("nodes", "group", "share"),
    [(50, 24, 24 / 26), (50, 12, 24 / 38), (10, 4, 4 / 6)],  # (n - m - s) / (n - m), by hand
)
def test_the_papers_z(nodes: int, group: int, share: float) -> None:
    from statistics import NormalDist

    assert NormalDist().cdf(most_z(nodes, group)) == pytest.approx(share)


def test_inner_product_goes_against_the_mean_of_the_changes() -> None:
    lie = said("inner-product", known=KNOWN, epsilon=0.5)
    assert lie.weights.tolist() == [4 - 0.5 * 2, 8, 6.5 - 0.5 * 1.5]


def test_sybils_send_the_newest_model_and_claim_a_million_times_as_much() -> None:
    lie = said("sybil", known=KNOWN)
    assert lie.weights is KNOWN[1].weights
    assert (lie.age, lie.samples) == (50e6, 20_000_000)


def test_a_group_knows_the_newest_of_its_own_and_of_nobody_else() -> None:
    circle = Circle(frozenset({1, 3}))
    for node in (3, 2, 1, 3):
        circle.hears(node, truth((float(node),) * 3, (0.0,) * 3, round=node))
    assert [other.round for other in circle.known()] == [1, 3]


def test_lies_build_on_each_other() -> None:
    """Sybils that flip the sign: all send the newest flipped model."""
    flip, sybil = catalogue.make("sign-flip", {}), catalogue.make("sybil", {"claims": 10.0})
    circle = Circle(frozenset({0, 1}))
    for node, own in enumerate((KNOWN[1], OWN)):
        lies = [Lie(flip, Window(), 2, RNG), Lie(sybil, Window(), 2, RNG, circle)]
        told = Liar(node, 10, lies).tell(own)
    assert told.weights.tolist() == [3 - 2 * 3, 0, 2]
    assert (told.age, told.samples) == (500.0, 200)


# -- in a node


def gossip(liar: Liar) -> LyingGossip:
    return LyingGossip(
        GossipConfig(), id="liar", name="", task=TASK, layout=LAYOUT, weights=floats(4, 8, 6.5), samples=20,
        peers=(), rng=np.random.default_rng(0), liar=liar,
    )  # fmt: skip


def sent(speaker: LyingGossip) -> Model:
    decoder = ModelDecoder(TASK, LAYOUT)
    for chunk in speaker.frame():
        decoder.feed(chunk)
    return decoder.finish()


def alone(attack: Attack, window: Window = Window()) -> Liar:  # noqa: B008 - frozen
    return Liar(0, 10, [Lie(attack, window, 1, np.random.default_rng(7))])


def test_a_liar_sends_its_lie_and_keeps_its_own_model() -> None:
    node = gossip(alone(catalogue.make("sign-flip", {})))
    node.trained(OWN.weights, 20)
    node.publish()
    assert node.weights.tolist() == [5.0, 6.0, 7.0]
    model = sent(node)
    assert model.weights.tolist() == [3.0, 10.0, 6.0]
    assert (model.head.age, model.head.samples, model.head.round) == (20.0, 20, 1)


def test_a_liar_is_honest_outside_its_rounds() -> None:
    node = gossip(alone(catalogue.make("scaled", {"factor": 2.0}), Window(2, 3)))
    found = []
    for _ in range(4):
        node.trained(node.weights + np.float32(1), 20)
        node.publish()
        found.append(float(sent(node).weights[0] - node.weights[0]))
    assert found == [0.0, 1.0, 1.0, 0.0]


def test_what_has_not_changed_is_not_told_differently() -> None:
    node = gossip(alone(catalogue.make("noise", {})))
    node.trained(OWN.weights, 20)
    node.publish()
    first = sent(node)
    node.publish()
    assert sent(node).digest == first.digest


def test_claims_are_in_the_head() -> None:
    circle = Circle(frozenset({0}))
    lie = Lie(catalogue.make("sybil", {}), Window(), 1, RNG, circle)
    node = gossip(Liar(0, 10, [lie]))
    node.trained(OWN.weights, 20)
    node.publish()
    head = sent(node).head
    assert (head.age, head.samples) == (20e6, 20_000_000)
    assert (node.age, node.samples) == (20.0, 20)

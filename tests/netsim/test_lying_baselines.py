"""Adversaries lie to baselines as to nodes: by hand, with a learner whose training is added up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netsim.adversaries import Adversary
from netsim.aggregation import aggregate
from netsim.attacks import catalogue
from netsim.attacks.clients import Sent
from tests.netsim.baseline_bench import START, Ran, ran

SIZES = (10, 10, 10, 10)  # node i adds 10 i + 1
COMPLETE = tuple((i, j) for i in range(4) for j in range(i + 1, 4))


def liar(attack: str, *nodes: int, **options: object) -> Adversary:
    return Adversary(nodes, attack, catalogue.make(attack, options))


def lied(name: str, *adversaries: Adversary, rounds: int = 1, **flat: object) -> Ran:
    return ran(name, SIZES, rounds=rounds, adversaries=adversaries, **flat)


def test_fedavg_takes_the_mean_of_what_was_sent() -> None:
    run = lied("fedavg", liar("sign-flip", 1))
    assert run.losses == [START + (1 - 11 + 21 + 31) / 4]


def test_fedavg_believes_claimed_samples() -> None:
    run = lied("fedavg", liar("sybil", 1, claims=1e6))
    assert run.losses == [pytest.approx(START + 11, abs=1e-3)]
    assert lied("fedavg:mean", liar("sybil", 1, claims=1e6)).losses == [START + 16]


def test_fedavg_by_median() -> None:
    run = lied("fedavg:median", liar("scaled", 3, factor=1e6))
    assert run.losses == [START + 16]


@pytest.mark.parametrize(
    ("rule", "added"),
    [
        ("trimmed-mean:0.25", 16.0),  # of 1, 11, 21 and a huge one
        ("krum:f=0", None),
        ("norm-bound:tau=1e-3", 0.0),
    ],
)
def test_fedavg_by_robust_rules(rule: str, added: float | None) -> None:
    run = lied(f"fedavg:{rule}", liar("scaled", 3, factor=1e6))
    if added is None:
        assert run.losses[0] - START in (1.0, 11.0, 21.0)
    else:
        assert run.losses == [pytest.approx(START + added, abs=1e-2)]


def test_a_robust_server_that_has_too_few_models_keeps_its_own() -> None:
    assert lied("fedavg:krum:f=1").losses == [START]


RULES = ("fedavg", "fedavg:mean", "fedavg:median", "fedavg:trimmed-mean:0.25")


def test_servers_that_merge_differently_have_their_first_round_trained_once() -> None:
    """And come to what they come to alone: with lies, of a random share of the clients."""
    sybils = liar("sybil", 1, claims=1e6), liar("noise", 2, sigma=9.0)
    keys: dict[str, Any] = {"server_share": 0.75, "rounds": 3, "sizes": (4, 9, 7, 5)}
    together = ran(RULES, adversaries=sybils, **keys)
    alone = {name: ran(name, adversaries=sybils, **keys) for name in RULES}
    for name in RULES:
        lines = [(at, event) for at, event in together.lines if event.baseline == name]
        assert lines == alone[name].lines
    assert len({tuple(run.losses) for run in alone.values()}) == len(RULES)
    fits = [len(run.bench.fits) for run in alone.values()]
    assert fits == [9] * len(RULES)
    assert len(together.bench.fits) == 3 + len(RULES) * 6


def test_fedavg_refuses_what_is_not_finite() -> None:
    run = lied("fedavg", liar("nan", 1, 2))
    assert run.losses == [START + 16]
    assert lied("fedavg", liar("nan", 0, 1, 2), server_share=0.25, rounds=8).losses[-1] % 31 == START


def test_a_free_rider_trains_nothing() -> None:
    run = lied("fedavg", liar("free-rider", 3))
    assert {label for label, _, _ in run.bench.fits} == {f"fedavg, node {node}" for node in range(3)}
    assert run.losses == [START + 33 / 4]
    assert run.events[0].images == 30


def test_omniscient_liars_see_the_round_they_are_in() -> None:
    run = lied("fedavg:mean", liar("inner-product", 0, 1, epsilon=2.0))
    assert run.losses == [START + (21 + 31 - 2 * 2.0 * 26) / 4]


def test_a_tour_goes_on_from_the_lie() -> None:
    run = lied("cyclic", liar("sign-flip", 1))
    assert run.losses == [START + 1 - 11 + 21 + 31]
    assert lied("cyclic", liar("nan", 1)).losses == [START + 1 + 21 + 31]


def test_neighbours_of_d_psgd_get_lies() -> None:
    """x_i + mean of what was sent, own truth included; changes are of the round before."""
    run = lied("d-psgd", liar("sign-flip", 1), rounds=2, graph=COMPLETE)
    changes = np.array([1.0, 11.0, 21.0, 31.0])
    models = START + changes  # all began with START, which nobody can lie about
    sent = models - 2 * changes * np.array([0, 1, 0, 0])
    expected = []
    for node in (0, 2, 3):
        expected.append(sent.sum() / 4 + changes[node])
    assert run.losses[-1] == pytest.approx(np.mean(expected))
    assert run.events[-1].nodes == 3  # the honest


def test_isolated_nodes_are_the_honest() -> None:
    run = lied("isolated", liar("sign-flip", 1))
    assert {label for label, _, _ in run.bench.fits} == {f"isolated, node {node}" for node in (0, 2, 3)}
    assert run.events[0].nodes == 3


def test_a_server_that_was_sent_nothing_keeps_its_model() -> None:
    before = np.ones(3, np.float32)
    assert aggregate("samples", [Sent(0, None, 10)], before) is before

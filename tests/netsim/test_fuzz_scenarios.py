"""What the seeds of `p2pfl sim fuzz` contain: together everything that can go wrong on the virtual engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from netsim import faults, topology
from netsim.fuzz_scenarios import ROBUST_RULES, random_scenario
from netsim.population import FAULT_STREAM, TOPOLOGY_STREAM, stream
from netsim.scenario import Scenario
from netsim.settling import SETTLE
from netsim.units import parse_amount

SEEDS = 200


# All look at the same scenarios, which are drawn once.
pytestmark = pytest.mark.xdist_group("fuzz scenarios")


@cache
def scenarios() -> list[Scenario]:
    return [random_scenario(seed) for seed in range(SEEDS)]


def amount(name: str) -> Callable[[Scenario], bool]:
    """A random fault that strikes at least one node."""

    def strikes(scenario: Scenario) -> bool:
        return parse_amount(name, getattr(scenario.config.faults, name), scenario.config.nodes) > 0

    return strikes


def event(kind: str) -> Callable[[Scenario], bool]:
    return lambda scenario: any(planned.kind == kind for planned in scenario.events)


def kind(name: str) -> Callable[[Scenario], bool]:
    return lambda scenario: scenario.config.data.partition.partition(":")[0] == name


def graph(name: str) -> Callable[[Scenario], bool]:
    return lambda scenario: scenario.config.topology.topology == name


def link(name: str) -> Callable[[Scenario], bool]:
    return lambda scenario: getattr(scenario.config.links, name) not in (None, 0.0, "0ms")


def device(name: str, usual: object) -> Callable[[Scenario], bool]:
    return lambda scenario: getattr(scenario.config.devices, name) != usual


def gossip(name: str, value: object) -> Callable[[Scenario], bool]:
    return lambda scenario: getattr(scenario.config.gossip, name) == value


def training(name: str, value: object) -> Callable[[Scenario], bool]:
    return lambda scenario: getattr(scenario.config.training, name) != value


CONTENTS: dict[str, Callable[[Scenario], bool]] = {
    **{f"random {name}": amount(name) for name in ("crash", "leave", "join_late", "hang")},
    "crash and restart": lambda scenario: (
        amount("crash")(scenario) and scenario.config.faults.restart in ("50%", "100%")
    ),
    "crash for good": lambda scenario: amount("crash")(scenario) and scenario.config.faults.restart == "0",
    "no fault": lambda scenario: (
        not scenario.events
        and scenario.config.faults.uptime is None
        and not any(amount(name)(scenario) for name in ("crash", "leave", "join_late", "hang"))
    ),
    "churn": lambda scenario: scenario.config.faults.uptime is not None,
    **{f"planned {name}": event(name) for name in ("cut", "hang", "crash")},
    "overlapping cuts": lambda scenario: sum(planned.kind == "cut" for planned in scenario.events) > 1,
    "a cut into many": lambda scenario: any(len(planned.parts) > 2 for planned in scenario.events),
    **{
        name: link(name)
        for name in (
            "jitter",
            "bandwidth",
            "uplink",
            "downlink",
            "loss",
            "duplication",
            "reordering",
            "corruption",
        )
    },
    **{
        f"{name} latency": lambda scenario, name=name: (  # type: ignore[misc]
            scenario.config.links.latency.partition(":")[0] == name
        )
        for name in ("uniform", "lognormal")
    },
    "constant latency": lambda scenario: ":" not in scenario.config.links.latency,
    "nodes that cannot be called": lambda scenario: bool(scenario.nat),
    "a group that differs": lambda scenario: any(group.overrides for group in scenario.groups),
    "a link of its own": lambda scenario: bool(scenario.rules),
    "stragglers": device("stragglers", "0"),
    "skew": device("skew", "0s"),
    "drift": device("drift", 0.0),
    "jitter of speeds": device("speed_jitter", 0.0),
    "state kept": device("state", "lost"),
    "state lost": device("state", "kept"),
    **{
        f"topology {name}": graph(name)
        for name in (
            "sampling",
            "complete",
            "star",
            "ring",
            "torus",
            "random-regular",
            "erdos-renyi",
            "small-world",
            "scale-free",
        )
    },
    "a graph that changes": lambda scenario: scenario.config.topology.redraw is not None,
    **{f"exchange {mode}": gossip("gossip", mode) for mode in ("push", "pull", "push-pull")},
    **{f"merge {rule}": gossip("merge", rule) for rule in ("mean", "age", "samples")},
    **{f"merge {rule}": gossip("merge", rule) for rule in ROBUST_RULES},
    **{f"codec {name}": gossip("codec", name) for name in ("f32", "f16", "f32+deflate", "f16+deflate")},
    "no interval": gossip("interval", 0.0),
    "a small view": lambda scenario: scenario.config.gossip.view_size < scenario.config.nodes - 1,
    **{
        f"partition {name}": kind(name)
        for name in ("iid", "dirichlet", "classes", "bias", "groups", "quantity", "draw")
    },
    "momentum": training("momentum", 0.0),
    "local steps": training("local_steps", None),
    "more epochs": training("local_epochs", None),
    "nodes that sign": lambda scenario: scenario.config.signed,
    "requests doubled of nodes that sign": lambda scenario: (
        scenario.config.signed and scenario.config.links.duplication > 0
    ),
    "adversaries": lambda scenario: bool(scenario.adversaries),
    "adversaries among nodes that fail": lambda scenario: (
        bool(scenario.adversaries) and (amount("crash")(scenario) or amount("hang")(scenario))
    ),
    "adversaries who are honest at first": lambda scenario: any(
        adversary.window.first > 1 for adversary in scenario.adversaries
    ),
    "two nodes": lambda scenario: scenario.config.nodes == 2,
    "many nodes": lambda scenario: scenario.config.nodes >= 25,
}  # fmt: skip


@pytest.mark.parametrize("name", CONTENTS)
def test_the_seeds_together_contain(name: str) -> None:
    assert any(CONTENTS[name](scenario) for scenario in scenarios())


def test_only_nodes_that_merge_robustly_are_lied_to() -> None:
    lied_to = [scenario for scenario in scenarios() if scenario.adversaries]
    assert {scenario.config.gossip.merge for scenario in lied_to} <= set(ROBUST_RULES)
    assert len({adversary.name for scenario in lied_to for adversary in scenario.adversaries}) >= 5
    assert all(len(scenario.honest) > scenario.config.nodes / 2 for scenario in lied_to)


def test_equal_seeds_are_equal_scenarios_and_others_are_not() -> None:
    assert random_scenario(5) == scenarios()[5]
    assert len({repr(scenario) for scenario in scenarios()}) == SEEDS


def test_every_scenario_can_be_run_and_settles_long_enough() -> None:
    for scenario in scenarios():
        config = scenario.config
        assert config.stop.virtual_time is not None
        assert min(scenario.gossip_of(node).settle for node in range(config.nodes)) == SETTLE
        topology.edges(config.topology, config.nodes, stream(config.seed, 0, TOPOLOGY_STREAM))
        faults.plan(
            scenario, stream(config.seed, 0, FAULT_STREAM), lambda node: stream(0, node, FAULT_STREAM)
        )

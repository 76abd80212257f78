"""Random scenarios for `p2pfl sim fuzz`: everything that can go wrong on the virtual engine, from a seed.

They are small, so that hundreds run in minutes, and tame, so that what breaks is the program's fault:
learning rates that do not diverge, churn in which a node can complete its rounds, SETTLE settle exchanges at
the end. In a share EARLY of them all faults are to be over before the first node settles, so that settling
has to bring the models together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netsim.config import SimConfig
from netsim.population import devices
from netsim.scenario import Scenario
from netsim.scenario_file import scenario_of
from netsim.settling import SETTLE
from p2pfl.arrival import JOIN_DEADLINE
from p2pfl.config import build

Rng = np.random.Generator
Keys = dict[str, object]
Tables = dict[str, list[dict[str, object]]]

MOST_NODES = 30
EARLY = 0.9
# In a share of the scenarios nodes sign: what is doubled on its way is then refused, not merged once.
SIGNED = 0.3
# In a share of them nodes merge by one of these, in turn, which wait until enough models have come.
ROBUST = 0.2
ROBUST_RULES = (
    "median", "trimmed-mean:0.3", "krum:f=1", "multi-krum:f=1", "geometric-median", "centred-clipping",
    "clipped-gossip:0.3", "norm-bound:tau=1", "fltrust",
)  # fmt: skip
# In a share of these some of the nodes lie, in one of these ways; a back door is but poisoned data, like two.
LYING = 0.6
ATTACKS = (
    "label-flip", "random-labels", "sign-flip", "noise", "scaled", "nan", "stale", "free-rider",
    "inner-product", "sybil", "a-little:z=1.5",
)  # fmt: skip
# Seconds between a node's probes, one of these: probes often show most, rare ones cost least.
PROBES = (1.0, 3.0, 10.0)
# Training samples of digits; a share of them is kept.
IMAGES = 1438
# A run that is not over by then, in seconds of its clock, never ends: the slowest node's budget is less.
VIRTUAL_TIME = "2h"
# The word that keeps these draws apart from those of the scenarios' own seeds.
_WORD = 0xF422


def random_scenario(seed: int) -> Scenario:
    """The scenario of a seed, which is also its own seed."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, _WORD)))
    nodes = int(rng.integers(2, MOST_NODES, endpoint=True)) if rng.random() < 0.6 else int(rng.integers(2, 9))
    keys: Keys = {"nodes": nodes, "seed": seed, "virtual-time": VIRTUAL_TIME, "evaluate": "mean"}
    kept = float(_one(rng, (0.3, 0.5, 1.0)))
    gossip = _gossip(rng)
    keys |= _data(rng, nodes, kept) | _training(rng) | gossip
    keys |= _topology(rng, nodes, float(str(gossip["interval"])))
    keys |= _links(rng) | _devices(rng)
    tables: Tables = {}
    _add_groups(rng, nodes, tables)
    _add_rules(rng, tables)
    pace = _pace(scenario_of(build(SimConfig, keys), tables), kept)
    early = rng.random() < EARLY
    keys |= _faults(rng, pace, early=early)
    _add_events(rng, nodes, pace, tables, early=early)
    keys["signed"] = rng.random() < SIGNED
    keys["probe-interval"] = float(_one(rng, PROBES))
    if rng.random() < ROBUST:  # drawn last, so that a seed's other draws are what they were
        keys["merge"] = ROBUST_RULES[seed % len(ROBUST_RULES)]
        if nodes >= 4 and rng.random() < LYING:
            possible = ATTACKS if nodes >= 8 else ATTACKS[:-1]  # the last takes two of them
            attack, amount = _one(rng, possible), f"{int(rng.integers(25, 41))}%"
            tables["adversaries"] = [{"attack": attack, "amount": amount, "from": _one(rng, ("1", "40%"))}]
    return scenario_of(build(SimConfig, keys), tables)


@dataclass(frozen=True)
class _Pace:
    """Seconds that the fastest and the slowest node take for all rounds, without faults."""

    fastest: float
    slowest: float


def _pace(scenario: Scenario, kept: float) -> _Pace:
    """kept: share of the training samples that is used."""
    held = max(1, round(kept * IMAGES / scenario.config.nodes))
    taken = []
    for index, device in enumerate(devices(scenario)):
        training, gossip = scenario.training_of(index), scenario.gossip_of(index)
        fit = training.steps(held) * training.batch_size / device.speed
        taken.append(training.rounds * max(fit, gossip.interval / device.rate))
    return _Pace(min(taken), max(taken))


def _one(rng: Rng, choices: Sequence[Any]) -> Any:
    return choices[int(rng.integers(len(choices)))]


def _some(rng: Rng, chance: float, value: Callable[[], object], otherwise: object) -> object:
    return value() if rng.random() < chance else otherwise


def _between(rng: Rng, low: float, high: float) -> float:
    """Log-uniform: small and large values are equally likely."""
    return float(f"{np.exp(rng.uniform(np.log(low), np.log(high))):.3g}")


def _duration(rng: Rng, low: float, high: float) -> str:
    """A distribution of durations around a log-uniform value, seconds."""
    middle = _between(rng, low, high)
    kind = _one(rng, ("constant", "uniform", "lognormal"))
    if kind == "uniform":
        return f"uniform:{middle / 2:.4g}s,{2 * middle:.4g}s"
    return f"lognormal:{middle:.4g}s,{rng.uniform(0.1, 0.7):.2f}" if kind == "lognormal" else f"{middle:.4g}s"


def _data(rng: Rng, nodes: int, kept: float) -> Keys:
    """kept: of each class, since few samples train faster."""
    partitions = ["iid", "iid", "dirichlet:1", "bias:0.5", "quantity:2", "draw:2"]
    if nodes <= 10:
        partitions += ["dirichlet:0.5", _dealt(nodes)]
    if 3 <= nodes <= 10:
        partitions += ["classes:4"]
    return {
        "dataset": "digits",
        "keep-per-class": [f"rest={kept}"],
        "partition": _one(rng, partitions),
        "partition-seed": int(rng.integers(100)),
    }


def _dealt(nodes: int) -> str:
    """The ten digits dealt out to at most ten nodes, which hold four fifths of their classes each."""
    hands = ["".join(str(digit) for digit in range(node, 10, nodes)) for node in range(nodes)]
    return f"groups:{'|'.join(hands)}@0.8"


def _training(rng: Rng) -> Keys:
    keys: Keys = {
        "model": "softmax",
        "rounds": int(rng.integers(3, 9)),
        "batch-size": _one(rng, (8, 16, 32, 64)),
        "lr": _between(rng, 0.01, 0.2),
        "lr-schedule": _one(rng, ("constant", "constant", "cosine")),
        "weight-decay": _one(rng, (0.0, 0.0, 0.001)),
    }
    if rng.random() < 0.3:
        keys |= {"momentum": 0.9, "lr": _between(rng, 0.005, 0.03)}
    local: Keys = _one(rng, ({}, {"local-epochs": 2}, {"local-steps": int(rng.integers(1, 12))}))
    return keys | local


def _gossip(rng: Rng) -> Keys:
    return {
        "gossip": _one(rng, ("push", "pull", "push-pull")),
        "fanout": int(rng.integers(1, 5)),
        "merge": _one(rng, ("mean", "age", "samples")),
        "settle": SETTLE,
        "interval": _some(rng, 0.8, lambda: _between(rng, 0.3, 5.0), 0.0),
        "codec": _one(rng, ("f32", "f32", "f16", "f32+deflate", "f16+deflate")),
        "view-size": _some(rng, 0.3, lambda: int(rng.integers(4, 16)), 64),
    }


def _topology(rng: Rng, nodes: int, interval: float) -> Keys:
    """Mostly sampling, which is the default. A graph that changes does so every few rounds."""
    kinds = ["complete", "star"]
    kinds += ["ring"] if nodes >= 3 else []
    kinds += ["torus"] if nodes in (9, 12, 15, 16, 20, 24, 25, 28, 30) else []
    if nodes >= 6:
        kinds += ["random-regular", "erdos-renyi", "small-world", "scale-free"]
    if rng.random() < 0.65:
        fewest, most = min(3 if nodes < 10 else 6, nodes - 1), min(10, nodes - 1)
        return {"topology": "sampling", "bootstrap": int(rng.integers(fewest, most, endpoint=True))}
    kind = _one(rng, kinds)
    keys: Keys = {"topology": kind, "degree": 4, "edge-probability": 0.6, "rewiring": 0.3}
    if kind == "scale-free":
        keys["degree"] = 2
    if kind in ("random-regular", "erdos-renyi", "small-world", "scale-free") and rng.random() < 0.4:
        keys["redraw"] = f"{_between(rng, 1, 6) * max(interval, 0.5):.3g}s"
    return keys


def _links(rng: Rng) -> Keys:
    """A model of softmax is 3 kB."""
    keys: Keys = {"latency": _duration(rng, 0.001, 0.3)}
    if rng.random() < 0.4:
        keys["jitter"] = f"{_between(rng, 0.001, 0.3):g}s"
    for key in ("bandwidth", "uplink", "downlink"):
        if rng.random() < 0.2:
            keys[key] = f"{_between(rng, 50, 2000):g}kbit/s"
    for key, most in (("loss", 0.3), ("duplication", 0.3), ("reordering", 0.3), ("corruption", 0.1)):
        if rng.random() < 0.3:
            keys[key] = float(round(rng.uniform(0.01, most), 3))
    return keys


def _devices(rng: Rng) -> Keys:
    keys: Keys = {
        "speed": _one(rng, ("1000", "300", "uniform:300,2000", "lognormal:1000,0.5")),
        "speed-jitter": _one(rng, (0.0, 0.05, 0.3)),
        "state": _one(rng, ("kept", "lost")),
    }
    if rng.random() < 0.3:
        keys |= {"stragglers": f"{int(rng.integers(5, 40))}%", "slowdown": float(rng.integers(2, 11))}
    if rng.random() < 0.3:
        keys |= {"skew": f"{_between(rng, 0.1, 10000):g}s", "drift": float(round(rng.uniform(0, 0.2), 3))}
    return keys


def _faults(rng: Rng, pace: _Pace, *, early: bool) -> Keys:
    """Random ones; at least half of the nodes survive."""
    windows = ("5%-30%", "10%-25%", "0%-35%") if early else ("5%-50%", "10%-40%", "0%-60%")
    shortest, longest = _lengths(pace, early=early)
    keys: Keys = {"window": _one(rng, windows)}
    if rng.random() < 0.5:
        keys |= {
            "crash": f"{int(rng.integers(5, 35))}%",
            "restart": _one(rng, ("0", "50%", "100%")),
            "restart-after": _duration(rng, shortest, longest),
        }
    if rng.random() < 0.25:
        keys["leave"] = f"{int(rng.integers(5, 15))}%"
    if rng.random() < 0.3:
        keys["join-late"] = f"{int(rng.integers(5, 30))}%"
    if rng.random() < 0.4:
        keys |= {"hang": f"{int(rng.integers(5, 40))}%", "hang-for": _duration(rng, shortest, longest)}
    if rng.random() < 0.15:
        # Long enough that also the slowest, which may have to start anew each time, gets on.
        up = pace.slowest + JOIN_DEADLINE
        keys |= {"uptime": f"{up:.3g}s", "downtime": f"{_between(rng, shortest, longest):.3g}s"}
    return keys


def _lengths(pace: _Pace, *, early: bool) -> tuple[float, float]:
    """Seconds that a fault lasts, from and to, so that an early one is over before anybody settles."""
    return (0.02 * pace.fastest, 0.15 * pace.fastest) if early else (0.02 * pace.slowest, 0.3 * pace.slowest)


def _add_groups(rng: Rng, nodes: int, tables: Tables) -> None:
    """Nodes behind address translation, and slow ones on slow links."""
    groups: list[dict[str, object]] = []
    if nodes >= 4 and rng.random() < 0.25:
        groups.append({"name": "behind-nat", "amount": f"{int(rng.integers(10, 50))}%", "nat": True})
    if nodes >= 4 and rng.random() < 0.25:
        groups.append(
            {
                "name": "edge",
                "amount": f"{int(rng.integers(10, 40))}%",
                "speed": "uniform:200,600",
                "uplink": f"{_between(rng, 50, 500):g}kbit/s",
                "fanout": int(rng.integers(1, 4)),
                "batch-size": 16,
            }
        )
    if groups:
        tables["groups"] = groups


def _add_rules(rng: Rng, tables: Tables) -> None:
    if not any(group["name"] == "edge" for group in tables.get("groups", ())) or rng.random() < 0.3:
        return
    latency, loss = _duration(rng, 0.05, 0.5), float(round(rng.uniform(0, 0.3), 3))
    tables["rules"] = [{"sender": "edge", "receiver": "*", "latency": latency, "loss": loss}]


def _add_events(rng: Rng, nodes: int, pace: _Pace, tables: Tables, *, early: bool) -> None:
    """Cuts, which may overlap, and a few faults at a time of the clock."""
    events: list[dict[str, object]] = []
    latest, longest = (20, 15) if early else (40, 30)
    if rng.random() < 0.4:
        for _ in range(int(rng.integers(1, 4))):
            start, length = int(rng.integers(0, latest)), int(rng.integers(5, longest))
            parts = int(rng.integers(2, min(4, nodes), endpoint=True))
            events.append({"kind": "cut", "at": f"{start}%", "lasting": f"{length}%", "parts": parts})
    if rng.random() < 0.3:
        kind = _one(rng, ("hang", "crash"))
        at, lasting = rng.uniform(0, 0.4) * pace.fastest, rng.uniform(*_lengths(pace, early=early))
        events.append({"kind": kind, "at": f"{at:.3g}s", "lasting": f"{lasting:.3g}s", "amount": "20%"})
    if events:
        tables["events"] = events

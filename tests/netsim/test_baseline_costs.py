"""What baselines cost in time and bytes, when they are evaluated, and when they end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netsim.baselines import run_baselines
from netsim.config import SimConfig
from netsim.journal import BaselineEvaluated
from p2pfl.config import build
from p2pfl.gossip.messages import Vector
from p2pfl.learning.learner import Evaluation
from tests.netsim.baseline_bench import LATENCY, START, Adder, Bench, dealt, ran


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("centralised", 30 / 35),
        ("isolated", 2.0),
        ("cyclic", 1.0 + 0.5 + 2.0 + 3 * 2 * LATENCY),
        ("fedavg", 2.0 + 2 * LATENCY),
        ("d-psgd", 2.0 + 2 * LATENCY),
    ],
)
def test_rounds_take_the_time_of_the_slowest_and_of_its_exchanges(name: str, seconds: float) -> None:
    run = ran(name, (10, 10, 10), speeds=[10.0, 20.0, 5.0], graph=((0, 1), (1, 2)), topology="star")
    first = seconds - (2 * LATENCY if name == "cyclic" else 0)  # the first node has the model
    assert run.times == pytest.approx([first, first + seconds, first + 2 * seconds])


@pytest.mark.parametrize(
    ("name", "links", "transfer"),
    [
        ("fedavg", {"bandwidth": "12B/s"}, 2.0),
        ("fedavg", {"bandwidth": "12B/s", "uplink": "6B/s", "downlink": "3B/s"}, 8.0),
        ("d-psgd", {"bandwidth": "12B/s"}, 2.0),
        ("d-psgd", {"bandwidth": "12B/s", "uplink": "12B/s"}, 4.0),  # two neighbours share it
        ("cyclic", {"downlink": "12B/s"}, 3.0),
        ("isolated", {"bandwidth": "12B/s"}, 0.0),
        ("centralised", {"bandwidth": "12B/s"}, 0.0),
    ],
)
def test_models_of_12_bytes_take_the_narrowest_links_time(
    name: str, links: dict[str, str], transfer: float
) -> None:
    keys: dict[str, Any] = {"graph": ((0, 1), (0, 2), (1, 2)), "topology": "ring", "rounds": 2}
    quick, slow = ran(name, (10, 10, 10), **keys), ran(name, (10, 10, 10), **keys, **links)
    assert slow.times[1] - slow.times[0] == pytest.approx(quick.times[1] - quick.times[0] + transfer)


def test_latencies_are_typical_ones() -> None:
    run = ran("fedavg", latency="lognormal:1s,0.5", rounds=1)
    assert run.times == pytest.approx([1.0 + 2 * 1.0])


# -- when they are evaluated and when they end


@pytest.mark.parametrize(
    ("keys", "rounds"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"evaluate_every": 2}, [2, 4, 5]),
        ({"evaluate_every": 0}, [5]),
        ({"evaluate": "end"}, [5]),
        ({"evaluate": "mean", "evaluate_every": 5}, [5]),
        ({"virtual_time": "3.5s"}, [1, 2, 3]),
        ({"virtual_time": "3s", "evaluate_every": 2}, [2, 3]),
        ({"virtual_time": "0.5s"}, [0]),
        ({"rounds": 0, "virtual_time": "7.9s", "evaluate_every": 3}, [3, 6, 7]),
        ({"target_accuracy": 0.95}, [1, 2, 3, 4, 5]),
        ({"target_accuracy": 0.95, "evaluate_every": 2}, [2, 4, 5]),
        ({"target_accuracy": 0.90, "evaluate_every": 5}, [5]),
        ({"target_accuracy": 0.01, "evaluate": "end"}, [5]),
        ({"target_accuracy": 0.01}, [1]),
        ({"target_accuracy": 0.01, "evaluate_every": 2}, [2]),
    ],
)
def test_evaluated_after_these_rounds(keys: dict[str, object], rounds: list[int]) -> None:
    run = ran("isolated", (10,), **({"rounds": 5} | keys))
    assert [event.round for event in run.events] == rounds
    assert run.times == [float(round) for round in rounds]


def test_a_target_is_reached_in_the_midst() -> None:
    class Improving(Adder):
        def evaluate(self, weights: Vector, limit: int = 0, stop: Any = None) -> Evaluation:
            right = round(float(weights[0]) - START)
            return Evaluation(0.1, np.array([[right, 10 - right], [0, 0]]))

    bench = Bench(Improving())
    lines: list[BaselineEvaluated] = []
    config = build(
        SimConfig, {"nodes": 1, "rounds": 9, "baselines": ["fedavg", "isolated"], "target-accuracy": 0.4}
    )
    run_baselines(
        config, bench.learner, dealt((10,)), bench, lambda _, event: lines.append(event), (), [10.0]
    )
    assert [(event.baseline, event.round) for event in lines] == [
        (name, round) for name in ("fedavg", "isolated") for round in (1, 2, 3, 4)
    ]


def test_without_a_baseline_nothing_is_trained() -> None:
    bench = Bench(Adder())
    run_baselines(build(SimConfig, {"nodes": 2}), bench.learner, dealt((5, 5)), bench, print, (), [1.0, 1.0])
    assert bench.fits == []

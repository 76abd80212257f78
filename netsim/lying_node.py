"""A real node that lies: `python -m netsim.lying_node SCENARIO INDEX --config FILE`, for the process engine.

`p2pfl node start` knows nothing of lies. This starts the same node with poisoned data, and with a gossip that
says what the scenario's adversary number INDEX says.
"""

from __future__ import annotations

import logging
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from netsim import scenario_file
from netsim.attacks.company import Company
from netsim.attacks.idle import untrained
from netsim.attacks.liar import Liar, LyingGossip
from netsim.attacks.poisoned import poisoned_alone
from netsim.population import ADVERSARY_STREAM
from netsim.scenario import Scenario
from p2pfl import standalone
from p2pfl.config import NodeConfig, build, parse_shard
from p2pfl.errors import P2pflError, UsageError
from p2pfl.gossip.messages import Layout, Task, Vector
from p2pfl.learning.data import load
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult, Learner
from p2pfl.learning.partition import shard
from p2pfl.learning.torch_learner import TorchLearner


class IdleLearner:
    """A learner of somebody who leaves out training whenever `idles()`."""

    def __init__(self, learner: Learner, idles: Callable[[], bool]) -> None:
        self._learner = learner
        self._idles = idles

    @property
    def task(self) -> Task:
        return self._learner.task

    @property
    def layout(self) -> Layout:
        return self._learner.layout

    def initial_weights(self, seed: int | None = None) -> Vector:
        return self._learner.initial_weights(seed)

    def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan, stop: Callable[[], bool]) -> FitResult:
        return untrained(weights) if self._idles() else self._learner.fit(weights, optimiser, plan, stop)

    def evaluate(
        self, weights: Vector, limit: int = 0, stop: Callable[[], bool] = lambda: False
    ) -> Evaluation:
        return self._learner.evaluate(weights, limit, stop)


def start(scenario: Scenario, index: int, config: NodeConfig, reload: Callable[[], NodeConfig]) -> int:
    """Run node `index` as standalone.start does, with its lies."""
    seed, adversaries = scenario.config.seed, scenario.adversaries
    dataset = load(config.data)
    own = shard(dataset, config.data, *parse_shard(config.shard))
    dataset, own = poisoned_alone(seed, adversaries, index, dataset, own)
    liar: Liar = Company(seed, adversaries, scenario.config.nodes, ADVERSARY_STREAM).liar(index)
    speaking: list[LyingGossip] = []

    def gossip(*args: Any, **more: Any) -> LyingGossip:
        speaking.append(LyingGossip(*args, liar=liar, **more))
        return speaking[-1]

    def idles() -> bool:
        return bool(speaking) and liar.idles(speaking[-1].round + 1)

    learner = IdleLearner(TorchLearner(dataset, config.training.model, config.threads), idles)
    return standalone.start(config, learner, reload, own, gossip)


def main(arguments: Sequence[str]) -> int:
    """An exit code; what went wrong is one line on stderr, as from `p2pfl node start`."""
    source, index, _, file = arguments

    def read() -> NodeConfig:
        return build(NodeConfig, tomllib.loads(Path(file).read_text(encoding="utf-8")))

    try:
        config = read()
        logging.basicConfig(level=config.log_level.upper())
        return start(scenario_file.load(source, {}), int(index), config, read)
    except P2pflError as error:
        print(f"p2pfl: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

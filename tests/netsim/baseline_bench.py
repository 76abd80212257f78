"""A bench for baselines: a learner whose training is added up by hand, a pool that keeps what it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from netsim import topology
from netsim.adversaries import Adversary
from netsim.baselines import run_baselines
from netsim.config import SimConfig
from netsim.inline import InlinePool
from netsim.jobs import Job
from netsim.journal import BaselineEvaluated
from p2pfl.config import TrainingConfig, build
from p2pfl.gossip.messages import Layout, Task, TensorSpec, Vector
from p2pfl.learning.learner import Evaluation, FitPlan, FitResult, Learner
from p2pfl.learning.partition import Shard

PARAMETERS = 3
MODEL = 4 * PARAMETERS  # bytes
START = 5.0
LATENCY = 0.02  # of the default links


class Adder:
    """A learner whose fit adds to every weight the number of its first sample, and 1.

    Its optimiser state counts the fits that went before. broken: first samples whose fits overflow.
    """

    task = Task("adding", ("a", "b"), (1, 1, 2), (0.5,), (0.5,))
    layout = Layout("adder", (TensorSpec("w", (PARAMETERS,)),))

    def __init__(self, broken: tuple[int, ...] = ()) -> None:
        self.broken = broken

    def initial_weights(self, seed: int | None = None) -> Vector:
        return np.full(PARAMETERS, START, np.float32)

    def fit(self, weights: Vector, optimiser: Vector, plan: FitPlan, stop: Callable[[], bool]) -> FitResult:
        first = int(plan.indices[0])
        new = weights + np.float32(first + 1)
        if first in self.broken:
            new = np.full(PARAMETERS, np.inf, np.float32)
        count = optimiser[0] if optimiser.size else 0
        return FitResult(new, np.array([count + 1], np.float32), plan.steps, plan.samples, 0.5)

    def evaluate(
        self, weights: Vector, limit: int = 0, stop: Callable[[], bool] = lambda: False
    ) -> Evaluation:
        """The loss is the first weight; the accuracy falls by a percent for each 1 in it."""
        right = max(0, 100 - round(float(weights[0])))
        return Evaluation(float(weights[0]), np.array([[right, 100 - right], [0, 0]]))


class Bench(InlinePool):
    """A pool that keeps what it was asked."""

    def __init__(self, learner: Learner) -> None:
        super().__init__(learner)
        self.learner = learner
        self.fits: list[tuple[str, FitPlan, int]] = []  # label, plan, optimiser's size
        self.evaluated: list[float] = []  # first weights

    def submit_fit(
        self, weights: Vector, optimiser: Vector, plan: FitPlan, *, label: str = "", due: float = 0.0
    ) -> Job[FitResult]:
        self.fits.append((label, plan, optimiser.size))
        return super().submit_fit(weights, optimiser, plan, label=label)

    def submit_evaluate(self, weights: Vector, limit: int = 0, *, label: str = "") -> Job[Evaluation]:
        self.evaluated.append(float(weights[0]))
        return super().submit_evaluate(weights, limit, label=label)


def dealt(sizes: Sequence[int]) -> list[Shard]:
    """Shards of these sizes, one after another; node i begins at sample sum(sizes[:i])."""
    starts = np.cumsum([0, *sizes])
    return [
        Shard(size, (size, 0), f"{i:032x}", np.arange(start, start + size))
        for i, (size, start) in enumerate(zip(sizes, starts[:-1], strict=True))
    ]


@dataclass
class Ran:
    lines: list[tuple[float, BaselineEvaluated]]
    bench: Bench

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.lines]

    @property
    def events(self) -> list[BaselineEvaluated]:
        return [event for _, event in self.lines]

    @property
    def losses(self) -> list[float]:
        return [event.loss for event in self.events]


def ran(
    names: str | Sequence[str],
    sizes: Sequence[int] = (10, 10, 10, 10),
    *,
    graph: topology.Edges = (),
    speeds: Sequence[float] | None = None,
    training_of: Callable[[int], TrainingConfig] | None = None,
    broken: tuple[int, ...] = (),
    adversaries: Sequence[Adversary] = (),
    **flat: object,
) -> Ran:
    """Baselines of three rounds with the Adder, on devices of 10 samples a second, batches of 5."""
    named = [names] if isinstance(names, str) else list(names)
    keys = {"nodes": len(sizes), "rounds": 3, "batch-size": 5, "settle": 0, "baselines": named} | {
        key.replace("_", "-"): value for key, value in flat.items()
    }
    learner = Adder(broken)
    bench = Bench(learner)
    lines: list[tuple[float, BaselineEvaluated]] = []
    run_baselines(
        build(SimConfig, keys),
        learner,
        dealt(sizes),
        bench,
        lambda at, event: lines.append((at, event)),
        graph,
        speeds or [10.0] * len(sizes),
        training_of,
        adversaries,
    )
    return Ran(lines, bench)


def added(sizes: Sequence[int]) -> np.ndarray:
    """What a fit of each node adds."""
    return np.cumsum([0, *sizes])[:-1] + 1.0

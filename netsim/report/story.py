"""What a run's journal tells: all that the report shows comes from here."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from netsim.report.links import Links
from netsim.report.lives import Lives

Counts = npt.NDArray[np.int64]


class Point(NamedTuple):
    """One evaluation. round: completed rounds.  time: seconds of the run's clock.

    bytes: bodies sent by all nodes until then.  settled: after the rounds, when only exchanges go on.
    """

    round: float
    time: float
    bytes: float
    accuracy: float
    loss: float
    settled: bool = False


class Distance(NamedTuple):
    """One measurement of the consensus distance, on the same three axes."""

    round: float
    time: float
    bytes: float
    distance: float
    final: bool


class Lap(NamedTuple):
    """One evaluation of a baseline, on the same axes. low, high: of its nodes' accuracies."""

    round: float
    time: float
    bytes: float
    accuracy: float
    loss: float
    low: float
    high: float
    nodes: int
    images: int
    balanced: float


class Fault(NamedTuple):
    """kind: as in FaultStruck. nodes: how many it struck; parts: sizes of a cut's parts."""

    time: float
    kind: str
    nodes: tuple[int, ...]
    parts: tuple[int, ...]
    running: int | None
    training: int | None


@dataclass
class Story:
    """What the report needs of a journal.

    back_doors: the last success of each on the mean model, by its target class.
    curves: each node's evaluations.  running_mean: the mean over those nodes that run, of the newest
    evaluation of each, whenever one came.  mean: of the mean model.  final: after the run, by node.
    confusions: (C, C), rows are true classes.  labels: training samples of each class, by node.
    edges: of the last graph drawn; None of peer sampling.  graphs: how many were drawn.
    lost: messages and their bytes by (cause, direction).  failed: requests by outcome.  refused: by reason.
    """

    config: dict[str, Any]
    classes: tuple[str, ...] = ()
    adversaries: frozenset[int] = frozenset()
    back_doors: dict[int, float] = field(default_factory=dict)
    labels: dict[int, list[int]] = field(default_factory=dict)
    curves: dict[int, list[Point]] = field(default_factory=dict)
    running_mean: list[Point] = field(default_factory=list)
    mean: list[Point] = field(default_factory=list)
    mean_final: Point | None = None
    mean_confusion: Counts | None = None
    final: dict[int, Point] = field(default_factory=dict)
    worst: int | None = None
    worst_confusion: Counts | None = None
    distances: list[Distance] = field(default_factory=list)
    baselines: dict[str, list[Lap]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    lost: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    edges: list[tuple[int, int]] | None = None
    graphs: int = 0
    lives: Lives = field(default_factory=Lives)
    links: Links = field(default_factory=lambda: Links(0))
    bytes: int = 0
    end: float = 0.0
    survivors: int | None = None
    reason: str = ""

    @property
    def nodes(self) -> int:
        return int(self.config["nodes"])

    @property
    def clock(self) -> str:
        """What the run's clock measures: real processes have no virtual time."""
        return "virtual time" if self.config.get("engine", "virtual") == "virtual" else "time"

    def accuracies(self) -> dict[int, float]:
        """Of the nodes that were evaluated after the run; if none was, each node's own last evaluation."""
        last = self.final or {node: points[-1] for node, points in self.curves.items()}
        return {node: point.accuracy for node, point in last.items()}

    def mean_of_nodes(self) -> list[Point]:
        """The average over those honest nodes that were evaluated after a round, round by round."""
        by_round: dict[float, list[Point]] = {}
        for node, points in self.curves.items():
            if node not in self.adversaries:
                newest = {point.round: point for point in points if not point.settled}
                for point in newest.values():
                    by_round.setdefault(point.round, []).append(point)
        return [_average(points) for _, points in sorted(by_round.items())]

    def final_mean(self) -> Point | None:
        """The average over the honest nodes that were evaluated after the run."""
        ends = [point for node, point in sorted(self.final.items()) if node not in self.adversaries]
        return _average(ends) if ends else None


def _average(points: list[Point]) -> Point:
    rounds, times, sent, accuracies, losses = (np.array([point[i] for point in points]) for i in range(5))
    known = losses[np.isfinite(losses)]
    loss = float(known.mean()) if known.size else math.nan
    return Point(
        float(rounds.mean()), float(times.mean()), float(sent.mean()), float(accuracies.mean()), loss,
        points[0].settled,
    )  # fmt: skip

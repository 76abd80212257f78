"""The lines of the curves: from a story to numbers over rounds, time and bytes. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from netsim.report.story import Distance, Lap, Point, Story

Measure = Literal["accuracy", "loss", "distance"]
Across = Literal["round", "time", "bytes"]
Kind = Literal["node", "adversary", "isolated", "baseline", "mean of nodes", "mean model", "distance"]
Numbers = npt.NDArray[np.float64]

MEASURES: tuple[Measure, ...] = ("accuracy", "loss", "distance")
ACROSS: tuple[Across, ...] = ("round", "time", "bytes")

COLLECTIVE: tuple[Kind, ...] = ("mean of nodes", "mean model")
ISOLATED = "isolated"

# A baseline that takes longer is followed to this many times the run's own length, then it leaves the frame.
FOLLOWED = 1.3


@dataclass(frozen=True)
class Line:
    """name: of the baseline, or the kind.  xs, ys: as long as each other.  low, high: ditto, or None."""

    kind: Kind
    name: str
    xs: Numbers
    ys: Numbers
    low: Numbers | None = None
    high: Numbers | None = None


@dataclass(frozen=True)
class Frame:
    """What a panel shows of its horizontal axis. end: where models after the last exchanges are drawn.

    beyond: names of baselines that go on to the right of it.
    """

    first: float
    last: float
    end: float | None
    beyond: tuple[str, ...] = ()

    @property
    def limit(self) -> float:
        return self.last if self.end is None else max(self.last, self.end)


def frame(story: Story, across: Across) -> Frame:
    if across == "round":
        points = [point for curve in story.curves.values() for point in curve if not point.settled]
        rounds = [point.round for point in (*points, *story.mean)]
        rounds += [distance.round for distance in story.distances if not distance.final]
        rounds += [lap.round for laps in story.baselines.values() for lap in laps]
        rounds = [round for round in rounds if math.isfinite(round)]
        last = max(rounds, default=float(story.config.get("rounds") or 1))
        ended = story.final or story.mean_final or any(curve[-1].settled for curve in story.curves.values())
        end = last + max(0.5, 0.12 * last) if ended else None
        return Frame(min([1.0, *rounds]), last, end)
    own = story.end if across == "time" else float(story.bytes)
    ends = {name: getattr(laps[-1], across) for name, laps in story.baselines.items()}
    last = min(max([own, *ends.values()]), FOLLOWED * own) if own > 0 else max(ends.values(), default=1.0)
    beyond = tuple(name for name, end in ends.items() if end > 1.001 * last)
    return Frame(0.0, last or 1.0, None, beyond)


def lines(story: Story, measure: Measure, across: Across) -> list[Line]:
    """In the order of drawing, the most important last."""
    end = frame(story, across).end
    if measure == "distance":
        return _distances(story, across, end)
    found: list[Line] = []
    for node in sorted({*story.curves, *story.final}):
        kind: Kind = "adversary" if node in story.adversaries else "node"
        points, ended = _as_shown(story, node, across)
        found.append(_line(kind, str(node), points, measure, across, end if ended else None))
    for name, laps in story.baselines.items():
        found.append(_baseline(name, laps, measure, across))
    for whose in COLLECTIVE:
        shown, ended = _collective(story, whose, across)
        if shown:
            found.append(_line(whose, whose, shown, measure, across, end if ended else None))
    order: tuple[Kind, ...] = ("node", "adversary", "baseline", "isolated", "mean of nodes", "mean model")
    return sorted(found, key=lambda line: order.index(line.kind))


def collective(story: Story, kind: Kind, measure: Measure, across: Across) -> Line | None:
    """What all nodes have come to, one line for a run, every point in its own place; None if not known.

    kind: one of COLLECTIVE; of the consensus distance there is one line whatever it is.
    """
    if measure == "distance":
        return next(iter(_distances(story, across, None)), None)
    points, _ = _collective(story, kind, across)
    return _line(kind, kind, points, measure, across, None) if points else None


def _collective(story: Story, kind: Kind, across: Across) -> tuple[list[Point], bool]:
    """The points of one of COLLECTIVE, and whether the last is of after the run."""
    points, last = story.mean, story.mean_final
    if kind == "mean of nodes":
        points = story.mean_of_nodes() if across == "round" else story.running_mean
        last = story.final_mean()
    return [*points, *([last] if last is not None else [])], last is not None


def _as_shown(story: Story, node: int, across: Across) -> tuple[list[Point], bool]:
    """A node's evaluations, and whether the last is of after its exchanges.

    Over rounds it is the newest after each: a restarted node may repeat some. Otherwise all of them.
    """
    curve, final = story.curves.get(node, []), story.final.get(node)
    if final is None and curve and curve[-1].settled:
        final = curve[-1]
    points = list(curve)
    if across == "round":
        newest = {point.round: point for point in curve if not point.settled}
        points = [newest[round] for round in sorted(newest)]
    return [*points, *([final] if final is not None else [])], final is not None


def _line(
    kind: Kind, name: str, points: Sequence[Point], measure: Measure, across: Across, end: float | None
) -> Line:
    """end: where the last point is drawn, if not in its own place."""
    xs = _forward(np.array([getattr(point, across) for point in points], np.float64))
    if end is not None:
        xs[-1] = end
    return Line(kind, name, xs, np.array([getattr(point, measure) for point in points], np.float64))


def _forward(xs: Numbers) -> Numbers:
    """Never back: rounds are averages over the nodes that run, and fall when one of the first is gone."""
    return np.maximum.accumulate(xs)


def _baseline(name: str, laps: Sequence[Lap], measure: Measure, across: Across) -> Line:
    xs = np.array([getattr(lap, across) for lap in laps], np.float64)
    ys = np.array([getattr(lap, measure) for lap in laps], np.float64)
    low = high = None
    if measure == "accuracy" and any(lap.nodes > 1 for lap in laps):
        low, high = (np.array([getattr(lap, end) for lap in laps], np.float64) for end in ("low", "high"))
    return Line("isolated" if name == ISOLATED else "baseline", name, xs, ys, low, high)


def _distances(story: Story, across: Across, end: float | None) -> list[Line]:
    measured: list[Distance] = [d for d in story.distances if across != "round" or math.isfinite(d.round)]
    if len(measured) < 2:
        return []
    xs = _forward(np.array([getattr(distance, across) for distance in measured], np.float64))
    if across == "round" and measured[-1].final and end is not None:
        xs[-1] = end
    return [Line("distance", "consensus distance", xs, np.array([d.distance for d in measured]))]


def accuracy_range(values: Iterable[float]) -> tuple[float, float]:
    """Limits of the axis: twentieths around all values and a little air, at least 0.1 apart."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low = max(0.0, math.floor((min(known) - 0.01) * 20) / 20)
    high = min(1.0, math.ceil((max(known) + 0.01) * 20) / 20)
    return min(low, high - 0.1), high + (0.01 if high == 1.0 else 0.0)


def loss_range(lines: Sequence[Line]) -> tuple[float, float]:
    """From 0 to what all but a few evaluations stay below: one node that diverges must not flatten the rest.

    Baselines count as far as they do not dwarf the nodes.
    """
    ours = _finite(line.ys for line in lines if line.kind not in ("adversary", "baseline", "isolated"))
    others = _finite(line.ys for line in lines if line.kind in ("baseline", "isolated"))
    most = float(np.percentile(ours, 98)) if ours.size else math.inf
    if others.size:
        beside = float(others.max())
        most = beside if math.isinf(most) else max(most, min(beside, 1.6 * most))
    return 0.0, 1.06 * most if 0 < most < math.inf else 1.0


def _finite(values: Iterable[Numbers]) -> Numbers:
    joined: Numbers = np.concatenate([np.zeros(0), *values])
    known: Numbers = joined[np.isfinite(joined)]
    return known

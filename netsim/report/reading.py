"""From a journal's lines to a Story, in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from netsim import journal as journals
from netsim.journal import (
    SIMULATOR,
    BackDoorMeasured,
    BaselineEvaluated,
    ConsensusMeasured,
    FaultStruck,
    MessageLost,
    ModelEvaluated,
    RunEnded,
    RunStarted,
    TopologyDrawn,
)
from netsim.report.amounts import plain
from netsim.report.links import Links
from netsim.report.story import Counts, Distance, Fault, Lap, Point, Story
from p2pfl.errors import StorageError
from p2pfl.events import MODEL_MODES, Evaluated, Exchanged, Rejected, Served, Started, StateChanged, Stopped

# Points kept of one line. Of more, every second one goes: a picture has no more pixels across.
LONGEST_LINE = 1024
MOST_NODES = 1_000_000  # of a journal to be believed

P = TypeVar("P")


def find(run: Path) -> Path:
    """A run's folder, or its journal itself -> the journal. StorageError if there is none."""
    if run.is_dir():
        journal = run / "journal.jsonl"
        if not journal.is_file():
            raise StorageError(f"{run} is not the folder of a run: it holds no journal.jsonl")
        return journal
    if not run.exists():
        raise StorageError(f"{run} does not exist; name the folder of a run, or its journal.jsonl")
    return run


def read(journal: Path) -> Story:
    """Raises StorageError if the journal is missing, damaged, or not that of a run."""
    lines = journals.read(journal)
    try:
        reader = _Reader(next(lines, {}))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StorageError(f"{journal} is not the journal of a run: it does not begin with one") from error
    for number, line in enumerate(lines, 2):
        try:
            reader.take(line)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise StorageError(f"{journal}, line {number}: not an event of a run; is it damaged?") from error
    return reader.finished()


class _Reader:
    """Told one line after the other; what it has understood so far is in `story`."""

    def __init__(self, first: Any) -> None:
        if first["event"] != RunStarted.kind:
            raise LookupError(first["event"])
        config = _plain(first["config"])
        if not 1 <= config["nodes"] <= MOST_NODES:
            raise ValueError(config["nodes"])
        liars = {int(node) for table in config.get("adversaries", ()) for node in table["nodes"]}
        self.story = Story(config, tuple(plain(name) for name in first["classes"]), frozenset(liars))
        self.story.links = Links(self.story.nodes)
        self._by_id: dict[str, int] = {}
        self._by_url: dict[str, int] = {}
        self._settled: set[int] = set()  # nodes that have completed their rounds
        self._accuracy, self._loss = _RunningMean(), _RunningMean()
        self._last = 0.0  # seconds: when a node last wrote
        self._take: dict[str, Callable[[float, Any, Any], None]] = {
            Started.kind: self._started,
            StateChanged.kind: self._state_changed,
            Stopped.kind: self._stopped,
            Exchanged.kind: self._exchanged,
            Served.kind: self._served,
            Rejected.kind: self._rejected,
            Evaluated.kind: self._evaluated,
            ModelEvaluated.kind: self._model_evaluated,
            ConsensusMeasured.kind: self._consensus_measured,
            BackDoorMeasured.kind: self._back_door_measured,
            BaselineEvaluated.kind: self._baseline_evaluated,
            FaultStruck.kind: self._fault_struck,
            MessageLost.kind: self._message_lost,
            TopologyDrawn.kind: self._topology_drawn,
            RunEnded.kind: self._run_ended,
        }

    def take(self, line: Any) -> None:
        time, node = float(line["t"]), line["node"]
        if not math.isfinite(time):
            raise ValueError(time)
        if node != SIMULATOR:
            if not (type(node) is int and 0 <= node < self.story.nodes):
                raise ValueError(node)
            self._last = time
        take = self._take.get(line["event"])
        if take is not None:
            take(time, node, line)

    def finished(self) -> Story:
        """Of a run that was interrupted, the end is the last that a node wrote."""
        if self.story.survivors is None:
            self.story.end = self._last
        return self.story

    # -- nodes

    def _started(self, time: float, node: int, line: Any) -> None:
        self.story.labels[node] = [int(count) for count in line["labels"]]
        self._by_id[line["id"]] = self._by_url[line["url"]] = node
        self.story.lives.add(node, time, "started")
        self._settled.discard(node)

    def _state_changed(self, time: float, node: int, line: Any) -> None:
        state = line["state"]
        self.story.lives.add(node, time, state)
        if state in ("settling", "done"):
            self._settled.add(node)

    def _stopped(self, time: float, node: int, line: Any) -> None:
        self.story.lives.add(node, time, "stopped")

    # -- messages

    def _exchanged(self, time: float, node: int, line: Any) -> None:
        self.story.bytes += line["sent"]
        if line["outcome"] != "ok":
            self.story.failed[plain(line["outcome"])] += 1
        receiver = self._by_url.get(line["url"])
        if receiver is not None:
            exchanged = line["mode"] in MODEL_MODES and line["outcome"] == "ok"
            self.story.links.add(node, receiver, line["sent"], model=exchanged)

    def _served(self, time: float, node: int, line: Any) -> None:
        self.story.bytes += line["sent"]
        receiver = self._by_id.get(line["peer"])
        if receiver is not None:
            self.story.links.add(node, receiver, line["sent"])

    def _rejected(self, time: float, node: int, line: Any) -> None:
        self.story.refused[plain(line["reason"])] += 1

    def _message_lost(self, time: float, node: int, line: Any) -> None:
        key = (plain(line["cause"]), plain(line["direction"]))
        count, size = self.story.lost.get(key, (0, 0))
        self.story.lost[key] = (count + 1, size + line["bytes"])

    # -- models

    def _evaluated(self, time: float, node: int, line: Any) -> None:
        point = self._point(time, line)._replace(settled=node in self._settled)
        _append(self.story.curves.setdefault(node, []), point)
        if node in self.story.adversaries:
            return
        mean = point._replace(
            accuracy=self._accuracy.put(node, point.accuracy), loss=self._loss.put(node, point.loss)
        )
        _append(self.story.running_mean, mean)

    def _model_evaluated(self, time: float, node: Any, line: Any) -> None:
        story, point = self.story, self._point(time, line)
        if line["of"] == "mean" and line["final"]:
            story.mean_final, story.mean_confusion = point, _confusion(line)
        elif line["of"] == "mean":
            _append(story.mean, point)
        elif line["of"] == "node":
            story.final[node] = point
            worst = None if story.worst is None else story.final[story.worst].accuracy
            if node not in story.adversaries and (worst is None or point.accuracy < worst):
                story.worst, story.worst_confusion = node, _confusion(line)

    def _consensus_measured(self, time: float, node: Any, line: Any) -> None:
        # Journals of before the measurements during a run have the final one alone, without a round.
        round, final = float(line.get("round", math.nan)), bool(line.get("final", True))
        measured = Distance(round, time, self.story.bytes, float(line["distance"]), final)
        _append(self.story.distances, measured)

    def _back_door_measured(self, time: float, node: Any, line: Any) -> None:
        if line["of"] == "mean":
            self.story.back_doors[int(line["target"])] = _number(line["success"])

    def _baseline_evaluated(self, time: float, node: Any, line: Any) -> None:
        lap = Lap(
            float(line["round"]),
            time,
            float(line["bytes"]),
            _number(line["accuracy"]),
            _number(line["loss"]),
            _number(line["accuracy_min"]),
            _number(line["accuracy_max"]),
            int(line["nodes"]),
            int(line["images"]),
            _number(line["balanced_accuracy"]),
        )
        _append(self.story.baselines.setdefault(plain(line["baseline"]), []), lap)

    def _point(self, time: float, line: Any) -> Point:
        accuracy, loss = _number(line["accuracy"]), _number(line["loss"])
        return Point(float(line["round"]), time, float(self.story.bytes), accuracy, loss)

    # -- the run

    def _fault_struck(self, time: float, _: Any, line: Any) -> None:
        fault = plain(line["fault"])
        nodes = tuple(int(node) for node in line["nodes"])
        parts = tuple(tuple(int(node) for node in part) for part in line["parts"])
        if fault == "cut":
            self.story.lives.cut(time, line["number"], parts)
        elif fault == "heal":
            self.story.lives.heal(time, line["number"])
        else:
            for node in nodes:
                self.story.lives.add(node, time, fault)
                if fault in ("crash", "leave"):
                    self._accuracy.drop(node)
                    self._loss.drop(node)
        sizes = tuple(len(part) for part in parts)
        self.story.faults.append(Fault(time, fault, nodes, sizes, line["running"], line["training"]))

    def _topology_drawn(self, time: float, node: Any, line: Any) -> None:
        self.story.edges = [(int(one), int(other)) for one, other in line["edges"]]
        self.story.graphs += 1

    def _run_ended(self, time: float, node: Any, line: Any) -> None:
        # Not the last line: what is evaluated afterwards carries the same time.
        self.story.end, self.story.survivors = time, int(line["nodes"])
        self.story.reason = plain(line.get("reason", ""))


class _RunningMean:
    """The mean of the newest finite value of each node, kept up to date in constant time."""

    def __init__(self) -> None:
        self._values: dict[int, float] = {}
        self._sum = 0.0

    def put(self, node: int, value: float) -> float:
        """The mean with this value; NaN while there is none."""
        self.drop(node)
        if math.isfinite(value):
            self._values[node] = value
            self._sum += value
        return self._sum / len(self._values) if self._values else math.nan

    def drop(self, node: int) -> None:
        self._sum -= self._values.pop(node, 0.0)


def _append(line: list[P], point: P) -> None:
    line.append(point)
    if len(line) > LONGEST_LINE:
        del line[1:-1:2]


def _number(value: Any) -> float:
    """JSON has no NaN: it is null. A number too big for a float is none either."""
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else math.nan


def _confusion(line: Any) -> Counts | None:
    """(C, C), or None if nothing was counted."""
    counts = np.array(line["confusion"], np.int64)
    if counts.size and (counts.ndim != 2 or counts.shape[0] != counts.shape[1]):
        raise ValueError(counts.shape)
    return counts if counts.size else None


def _plain(value: Any) -> Any:
    """A configuration whose texts can be shown."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {plain(str(key)): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value

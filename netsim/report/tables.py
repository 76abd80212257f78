"""The report's tables: what the run came to, beside the baselines, and what went wrong on the way."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netsim.report.amounts import accuracy_text, bytes_text, count_text, counted, seconds_text
from netsim.report.story import Fault, Story
from netsim.units import nodes_text

NONE = "-"

# How figures of the summary are called and shown; of others, the name says it.
_NAMES = {
    "accuracy_mean": "accuracy, mean of nodes",
    "accuracy_min": "accuracy, worst node",
    "accuracy_max": "accuracy, best node",
    "accuracy_of_mean_model": "accuracy, mean model",
    "balanced_accuracy_mean": "balanced accuracy, mean of nodes",
    "back_door_mean": "back door's success, mean of nodes",
    "back_door_of_mean_model": "back door's success, mean model",
    "exchanges": "exchanges of models",
    "bytes_sent": "bytes sent",
    "images_trained": "samples trained",
    "virtual_seconds": "virtual time",
    "ended": "ended because",
    "faults": "faults struck",
    "faults_late": "of them, when most had finished",
    "lost": "messages lost",
    "kept_own": "merges put off for too few models",
    "refused": "messages refused",
    "clipped": "models with clipped claims",
}
_OF_THE_RUN = ("nodes", "rounds", "seed", "engine", "adversaries", "survivors", "ended")
_OF_ADVERSARIES = ("nodes", "attack", "from", "until")
_ENDINGS = {
    "done": "all nodes were done",
    "time": "the time was up",
    "accuracy": "the target accuracy was reached",
}
_CAUSES = {"loss": "lost on the way", "cut": "the network was cut", "down": "the other node was down"}


@dataclass(frozen=True)
class Table:
    """columns: names, the first one is the rows'.  rows: as long as columns.  words: columns of text."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[int] = frozenset({0})


def figure_name(key: str) -> str:
    return _NAMES.get(key, key.replace("_", " "))


def figure_text(key: str, value: Any) -> str:
    """A figure of the summary as people read it."""
    if value is None or value in ("", {}):
        return NONE
    if isinstance(value, Mapping):  # of attacks, or of back doors
        return "; ".join(f"{name}: {figure_text(key, item)}" for name, item in value.items())
    if key == "ended":
        return _ENDINGS.get(str(value), str(value))
    if key == "seed":
        return str(value)
    if "accuracy" in key or key.startswith("back_door"):
        return accuracy_text(float(value))
    if key.startswith("bytes"):
        return bytes_text(float(value))
    if key.endswith("seconds"):
        return seconds_text(float(value))
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}"
    return count_text(value) if isinstance(value, int | float) else str(value)


def summary(figures: Mapping[str, Any]) -> list[Table]:
    """The figures of summary.json that the journal gives, in three groups."""
    groups: dict[str, list[tuple[str, str]]] = {"The run": [], "Models": [], "Effort and losses": []}
    for key, value in figures.items():
        if key != "baselines":
            models = "accuracy" in key or key.startswith(("consensus", "back_door"))
            group = "The run" if key in _OF_THE_RUN else "Models" if models else "Effort and losses"
            groups[group].append((figure_name(key), figure_text(key, value)))
    return [Table(name, ("figure", "value"), tuple(rows)) for name, rows in groups.items() if rows]


def beside(story: Story, figures: Mapping[str, Any]) -> Table | None:
    """The run's last figures beside those of the baselines; None without baselines."""
    if not story.baselines:
        return None
    ours = (
        "gossip (this run)" if not story.adversaries else "gossip (this run), honest nodes",
        accuracy_text(figures.get("accuracy_mean", figures.get("accuracy_of_mean_model"))),
        _spread(figures.get("accuracy_min"), figures.get("accuracy_max")),
        accuracy_text(figures.get("balanced_accuracy_mean")),
        figure_text("images_trained", figures.get("images_trained")),
        bytes_text(story.bytes),
        seconds_text(story.end),
    )
    rows = [ours]
    for name, laps in story.baselines.items():
        last = laps[-1]
        spread = _spread(last.low, last.high) if last.nodes > 1 else NONE
        rows.append(
            (name, accuracy_text(last.accuracy), spread, accuracy_text(last.balanced),
             count_text(last.images), bytes_text(last.bytes), seconds_text(last.time))
        )  # fmt: skip
    columns = ("", "accuracy", "worst to best", "balanced", "samples trained", "bytes sent", story.clock)
    return Table("Beside the baselines, at the end of each", columns, tuple(rows))


def adversaries(story: Story) -> Table | None:
    """Who lies, how and when; None if nobody does."""
    rows = []
    for row in story.config.get("adversaries", ()):
        first, last = row.get("from", 1), row.get("until")
        until = "to the end" if last is None else f"to {last}"
        options = [(key, value) for key, value in row.items() if key not in _OF_ADVERSARIES]
        told = ", ".join(f"{key} {value_text(value)}" for key, value in options) or NONE
        nodes = nodes_text(int(node) for node in row["nodes"])
        rows.append((str(row.get("attack", NONE)), nodes, f"{first} {until}", told))
    columns = ("attack", "nodes", "rounds", "options")
    return Table("Adversaries", columns, tuple(rows), frozenset(range(4))) if rows else None


def _spread(low: float | None, high: float | None) -> str:
    if low is None or high is None or not math.isfinite(low) or not math.isfinite(high):
        return NONE
    return f"{accuracy_text(low)} to {accuracy_text(high)}"


def faults(story: Story) -> Table | None:
    """What struck and what ended it, by kind; None if nothing did."""
    if not story.faults:
        return None
    by_kind: dict[str, list[Fault]] = {}
    for fault in story.faults:
        by_kind.setdefault(fault.kind, []).append(fault)
    rows = []
    for kind, struck in by_kind.items():
        nodes = sum(len(fault.nodes) for fault in struck)
        first, last = struck[0], struck[-1]
        when = seconds_text(first.time)
        if last.time > first.time:
            when += f" to {seconds_text(last.time)}"
        parts = " | ".join(count_text(size) for size in first.parts)
        whom = f"parts of {parts}" if kind == "cut" else NONE if kind == "heal" else counted(nodes, "node")
        share = min(_still_training(struck), default=math.nan)
        still = f"{100 * share:.0f} %" if math.isfinite(share) else NONE
        rows.append((kind, count_text(len(struck)), whom, when, still))
    columns = ("fault", "times", "whom", "when", "still training, at least")
    return Table("Faults", columns, tuple(rows), frozenset({0, 2, 3}))


def _still_training(struck: Sequence[Fault]) -> Iterable[float]:
    """Of the nodes that ran when each struck, the share that had rounds to do."""
    return (f.training / f.running for f in struck if f.running and f.training is not None)


def lost(story: Story) -> Table | None:
    """Messages that the network did not deliver, by cause."""
    rows = tuple(
        (_CAUSES.get(cause, cause), direction, count_text(count), bytes_text(size))
        for (cause, direction), (count, size) in sorted(story.lost.items())
    )
    columns = ("cause", "message", "count", "bytes")
    return Table("Messages lost", columns, rows, frozenset({0, 1})) if rows else None


def refused(story: Story) -> Table | None:
    """Messages refused by their receivers, and requests that failed for the one who asked, by reason."""
    rows = [("refused", reason, count_text(count)) for reason, count in _most_first(story.refused)]
    rows += [("failed request", reason, count_text(count)) for reason, count in _most_first(story.failed)]
    columns = ("what", "reason", "count")
    return Table("Refusals and failed requests", columns, tuple(rows), frozenset({0, 1})) if rows else None


def _most_first(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def configuration(config: Mapping[str, Any]) -> Table:
    """The effective scenario, every key."""
    rows = tuple((key, value_text(value)) for key, value in config.items())
    return Table("The scenario, with everything that was left to its default", ("key", "value"), rows,
                 frozenset({0, 1}))  # fmt: skip


def value_text(value: Any) -> str:
    """A value of a configuration on one line."""
    if value is None or value == []:
        return NONE
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(map(str, value))
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return "; ".join(", ".join(f"{key} {value_text(item)}" for key, item in row.items()) for row in value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else str(value)


def side_by_side(names: Sequence[str], figures: Sequence[Mapping[str, Any]]) -> Table:
    """The summaries of several runs, a column for each."""
    rows = []
    for key in _union(figures):
        if key != "baselines":
            rows.append((figure_name(key), *(figure_text(key, run.get(key)) for run in figures)))
    for baseline in _union([run.get("baselines") or {} for run in figures]):
        finals = [(run.get("baselines") or {}).get(baseline) for run in figures]
        rows.append((f"accuracy, {baseline}", *(accuracy_text(final) for final in finals)))
    return Table("Figures side by side", ("figure", *names), tuple(rows))


def differences(names: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> Table | None:
    """The keys whose values are not the same in all runs; None if there are none."""
    rows = [(key, *(value_text(config.get(key)) for config in configs)) for key in differing(configs)]
    columns = ("key", *names)
    caption = "What differs between the scenarios"
    return Table(caption, columns, tuple(rows), frozenset(range(len(columns)))) if rows else None


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that do not read the same in all of them."""
    return [key for key in _union(configs) if len({value_text(config.get(key)) for config in configs}) > 1]


def _union(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """All keys, in the order in which they first appear."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))

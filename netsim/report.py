"""Pictures of a run, computed from its journal alone: how accuracy grew, and which labels each node held."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from netsim import journal as journals
from netsim.journal import ModelEvaluated, RunStarted
from p2pfl.errors import SetupError, StorageError
from p2pfl.events import Evaluated, Started, StateChanged

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Counts = npt.NDArray[np.int64]
Point = tuple[float, float]  # round, accuracy

DPI = 160
FONT = 11.0  # points; read from the back of a room when the picture fills a slide
SMALL = 8.0  # points
GREY, DARK, ACCENT = "0.55", "0.1", "#d1495b"
SHADES = ("white", "#cfe3f1", "#6fa8d1", "#2b6ca3")  # of a heat map, from 0 up
NAME_LENGTH = 20  # of a class name beside the picture

# A heat map of up to so many nodes and classes has room for the numbers themselves.
NUMBERED_NODES = 24
NUMBERED_CLASSES = 26


@dataclass
class Story:
    """What the pictures need of a journal.

    curves: each node's accuracy by its own completed rounds, while it trained.  final: each node's last one.
    mean: of the mean model, by the nodes' average round.  labels: training samples of each class, by node.
    """

    config: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    labels: dict[int, Sequence[int]] = field(default_factory=dict)
    curves: dict[int, dict[float, float]] = field(default_factory=dict)
    final: dict[int, float] = field(default_factory=dict)
    mean: list[Point] = field(default_factory=list)
    mean_final: float | None = None

    @property
    def last_round(self) -> float:
        ends = [max(curve) for curve in self.curves.values()] + [round for round, _ in self.mean]
        return max(ends, default=0.0)

    @property
    def mean_of_nodes(self) -> list[Point]:
        """The average over those nodes that were evaluated after a round."""
        by_round: dict[float, list[float]] = {}
        for curve in self.curves.values():
            for round, accuracy in curve.items():
                by_round.setdefault(round, []).append(accuracy)
        return [(round, float(np.mean(values))) for round, values in sorted(by_round.items())]


def read(journal: Path) -> Story:
    """Raises StorageError if the journal is missing or damaged."""
    story = Story()
    state: dict[int, str] = {}
    settled: dict[int, float] = {}
    for line in journals.read(journal):
        node: Any = line["node"]
        event: Any = line
        match line["event"]:
            case RunStarted.kind:
                story.config, story.classes = event["config"], tuple(event["classes"])
            case Started.kind:
                story.labels[node] = event["labels"]
            case StateChanged.kind:
                state[node] = event["state"]
            case Evaluated.kind if state.get(node) in ("settling", "done"):
                settled[node] = event["accuracy"]
            case Evaluated.kind:
                story.curves.setdefault(node, {})[event["round"]] = event["accuracy"]
            case ModelEvaluated.kind if event["of"] == "node":
                story.final[node if isinstance(node, int) else len(story.final)] = event["accuracy"]
            case ModelEvaluated.kind if event["of"] == "mean" and event["final"]:
                story.mean_final = event["accuracy"]
            case ModelEvaluated.kind if event["of"] == "mean":
                story.mean.append((event["round"], event["accuracy"]))
    story.final = story.final or settled
    return story


def check_installed() -> None:
    """SetupError without matplotlib: better told before a run than after it."""
    if importlib.util.find_spec("matplotlib") is None:
        raise SetupError("pictures need matplotlib; install p2pfl-gossip[sim]")


def draw(journal: Path, out: Path) -> list[Path]:
    """Write curves.png and labels.png into the folder `out`; their paths.

    Raises SetupError without matplotlib, StorageError if the journal cannot be read or a picture not written.
    """
    check_installed()
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    story = read(journal)
    paths = []
    with rc_context({"font.size": FONT, "axes.spines.top": False, "axes.spines.right": False}):
        for name, picture in (("curves.png", curves(story)), ("labels.png", labels(story))):
            path = out / name
            try:
                FigureCanvasAgg(picture).print_figure(path, dpi=DPI, bbox_inches="tight", facecolor="white")
            except OSError as error:
                raise StorageError(f"cannot write {path}: {error.strerror}") from error
            paths.append(path)
    return paths


def _title(story: Story) -> str:
    """`mnist, cnn, 20 nodes, dirichlet:0.5`, of what the configuration says."""
    config = story.config
    nodes = int(config.get("nodes", len(story.labels)))
    dataset = Path(str(config.get("dataset", ""))).name
    parts = (dataset, config.get("model", ""), _nodes(nodes), config.get("partition", ""))
    return ", ".join(str(part) for part in parts if part)


def _nodes(count: int) -> str:
    return f"{count:,} node{'' if count == 1 else 's'}"


# -- accuracy


def curves(story: Story) -> Figure:
    """Accuracy over rounds; without evaluations during the run, the final accuracy of each node."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.8), layout="constrained")
    axes = figure.add_subplot()
    shown = _draw_rounds(axes, story) if story.curves or story.mean else _draw_ranks(axes, story)
    axes.set_title(_title(story))
    axes.set_ylabel("accuracy on held-out data")
    if shown:
        axes.set_ylim(*accuracy_range(shown))
        axes.grid(axis="y", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.legend(loc="lower right", frameon=True, framealpha=0.9, edgecolor="none")
    else:
        axes.text(0.5, 0.5, "nothing was evaluated", ha="center", va="center", transform=axes.transAxes)
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def accuracy_range(values: Sequence[float]) -> tuple[float, float]:
    """Limits of the axis: twentieths around all values and a little air, at least 0.1 apart."""
    low = max(0.0, math.floor((min(values) - 0.01) * 20) / 20)
    high = min(1.0, math.ceil((max(values) + 0.01) * 20) / 20)
    return min(low, high - 0.1), high + (0.01 if high == 1.0 else 0.0)


def _draw_rounds(axes: Axes, story: Story) -> list[float]:
    """Thin lines for nodes, bold ones for their mean and the mean model; returns all values shown."""
    from matplotlib.collections import LineCollection
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    last = story.last_round
    end = last + max(0.5, 0.08 * last)  # where the models after the last exchanges are drawn
    ended = bool(story.final) or story.mean_final is not None
    shown: list[float] = []
    if story.curves:
        lines = []
        for node, curve in sorted(story.curves.items()):
            points: list[Point] = sorted(curve.items())
            if node in story.final:
                points.append((end, story.final[node]))
            lines.append(points)
            shown += [accuracy for _, accuracy in points]
        alpha = min(0.6, max(0.06, 12 / len(lines)))
        axes.add_collection(LineCollection(lines, colors=GREY, linewidths=0.8, alpha=alpha))
        label = _spread(_nodes(len(lines)), [points[-1][1] for points in lines])
        axes.plot([], [], color=GREY, linewidth=0.8, label=label)
    mean = story.mean_of_nodes
    if story.final:
        mean.append((end, float(np.mean(list(story.final.values())))))
    if mean:
        axes.plot(
            *zip(*mean, strict=True), color=DARK, linewidth=2.4, label=f"mean of nodes  {mean[-1][1]:.3f}"
        )
        if len(mean) == 1:
            axes.plot(*mean[0], "o", color=DARK)
    if story.final and not story.curves:
        values = list(story.final.values())
        axes.plot([end] * len(values), values, "o", color=GREY, alpha=0.4, markersize=4, zorder=1)
        axes.plot([], [], "o", color=GREY, markersize=4, label=_spread(_nodes(len(values)), values))
    of_mean = list(story.mean)
    if story.mean_final is not None:
        of_mean.append((end, story.mean_final))
    if of_mean:
        label = f"mean model  {of_mean[-1][1]:.3f}"
        marker = "o" if len(of_mean) == 1 else ""
        axes.plot(
            *zip(*of_mean, strict=True),
            color=ACCENT,
            linewidth=2.0,
            linestyle=(0, (4, 1.5)),
            marker=marker,
            label=label,
        )
    shown += [accuracy for _, accuracy in mean + of_mean] + list(story.final.values())

    first = min((round for round, _ in mean + of_mean), default=0.0)
    step = max(1.0, MaxNLocator(9, integer=True).tick_values(0, last)[1])
    ticks = [first, *(tick for tick in np.arange(step, last, step) if first < tick < last - 0.6 * step), last]
    if ended:
        axes.axvspan(last, end, color="0.96", zorder=0, linewidth=0)
        ticks.append(end)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: "end" if ended and x == end else f"{x:g}"))
    axes.set_xlim(min(first, 1.0), (end if ended else last) * 1.005)
    axes.set_xlabel("rounds completed by the node" + (" (end: after the last exchanges)" if ended else ""))
    return shown


def _draw_ranks(axes: Axes, story: Story) -> list[float]:
    """One point for each node, from the worst to the best; returns all values shown."""
    from matplotlib.ticker import MaxNLocator

    values = sorted(story.final.values())
    if values:
        size = float(np.clip(900 / len(values), 3, 36))
        axes.scatter(
            range(1, len(values) + 1),
            values,
            s=size,
            color=GREY,
            label=_spread(_nodes(len(values)), values),
            zorder=3,
        )
        mean = float(np.mean(values))
        axes.axhline(mean, color=DARK, linewidth=2.4, label=f"mean of nodes  {mean:.3f}")
        axes.set_xlim(0, len(values) + 1)
    if story.mean_final is not None:
        label = f"mean model  {story.mean_final:.3f}"
        axes.axhline(story.mean_final, color=ACCENT, linewidth=2.0, linestyle=(0, (4, 1.5)), label=label)
        values.append(story.mean_final)
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    axes.set_xlabel("nodes after the run, from the least to the most accurate")
    return values


def _spread(name: str, values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{name}  {low:.3f}" + (f" to {high:.3f}" if len(values) > 1 else "")


# -- labels


def labels(story: Story) -> Figure:
    """A heat map of training samples, classes by nodes, with each node's total above it."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    counts, names = label_counts(story.labels, story.classes)
    classes, nodes = counts.shape
    numbered = nodes <= NUMBERED_NODES and classes <= NUMBERED_CLASSES
    width = float(np.clip(0.55 * nodes + 2.5, 6.5, 13.0)) if numbered else 11.0
    height = float(np.clip(classes * (0.32 if classes <= NUMBERED_CLASSES else 0.12), 1.6, 12.0))
    figure = Figure(figsize=(width, height + 2.2), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(0.9, height), width_ratios=(1, 0.022), hspace=0.02)
    top = figure.add_subplot(grid[0, 0])
    axes = figure.add_subplot(grid[1, 0], sharex=top)
    if not counts.any():
        axes.text(0.5, 0.5, "no node has started", ha="center", va="center", transform=axes.transAxes)
        return figure
    # Among very many cells a few odd ones would leave all others pale.
    most = counts.max() if numbered else max(1.0, np.percentile(counts[counts > 0], 99.5))
    colours = LinearSegmentedColormap.from_list("samples", SHADES)
    image = axes.imshow(counts, aspect="auto", interpolation="nearest", cmap=colours, vmin=0, vmax=most)
    extend = "max" if counts.max() > most else "neither"
    bar = figure.colorbar(image, cax=figure.add_subplot(grid[1, 1]), extend=extend)
    bar.set_label("training samples")
    bar.outline.set_visible(False)
    if numbered:
        _draw_numbers(axes, counts)
    axes.set_yticks(range(classes), names, fontsize=FONT if classes <= NUMBERED_CLASSES else 6.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("node")
    if nodes <= NUMBERED_NODES:
        axes.set_xticks(range(nodes))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    top.bar(range(nodes), counts.sum(axis=0), width=0.8 if nodes <= 100 else 1.0, color="0.45")
    top.tick_params(axis="x", labelbottom=False, length=0)
    top.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    top.set_xlim(-0.5, nodes - 0.5)
    top.set_ylabel("total")
    top.set_title(f"Labels of each node's shard: {_title(story)}")
    return figure


def label_counts(by_node: Mapping[int, Sequence[int]], classes: Sequence[str]) -> tuple[Counts, list[str]]:
    """Histograms by node -> (C, N) samples, and C short names. Classes without a name are shown by number."""
    count = max([len(classes), *(len(row) for row in by_node.values())])
    counts = np.zeros((count, max(by_node, default=-1) + 1), np.int64)
    for node, row in by_node.items():
        counts[: len(row), node] = row
    names = [classes[i] if i < len(classes) else str(i) for i in range(count)]
    return counts, [name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…" for name in names]


def _draw_numbers(axes: Axes, counts: Counts) -> None:
    """Each count in its cell, light on dark; zeros stay empty."""
    size = FONT - 1 if counts.shape[1] <= 12 else SMALL
    for (row, column), count in np.ndenumerate(counts):
        if count:
            shade = "white" if count > 0.7 * counts.max() else DARK
            axes.text(column, row, f"{count}", ha="center", va="center", fontsize=size, color=shade)

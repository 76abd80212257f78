"""Who talks to whom: the graph, every node in the colour of its accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from netsim.report import heat
from netsim.report.links import Links
from netsim.report.look import Look
from netsim.report.story import Story
from netsim.report.theme import contrast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

EDGES = 1500  # drawn at most; more would be a grey disc
STRENGTHS = 4
SEED = 1  # of the layout: equal graphs look equal
SPREAD = 0.05  # accuracies closer than this are not told apart: that would be noise in colours

Matrix = npt.NDArray[np.float64]
Places = npt.NDArray[np.float64]


def picture(look: Look, story: Story) -> Figure:
    """Every node, or blocks of consecutive nodes where there are many."""
    from matplotlib.colors import to_hex, to_rgba

    weights, values = edges(story), accuracies(story)
    blocks = story.links.block > 1
    places = layout(weights, regular=story.edges is None or blocks)
    below, right, above = 0.1, heat.bar_room(look), 0.5 if look.slide else 0.1
    side = min(look.width - right - 0.1, 6.0)
    figure = look.figure(below + side + above, 0.1 + side + right)
    axes = look.place(figure, 0.1, below, side, side)
    _draw_edges(axes, look, weights, places)
    known = np.isfinite(values)
    shades = _shades(values[known])
    colours = np.where(known[:, None], shades.to_rgba(values), to_rgba(look.theme.panel))  # (B, 4)
    across = _across(look, story, side)
    liars = [not blocks and node in story.adversaries for node in range(len(values))]
    axes.scatter(
        places[:, 0],
        places[:, 1],
        s=across**2,
        c=colours,
        edgecolors=[look.theme.adversary if liar else look.theme.ink for liar in liars],
        linewidths=[2.0 if liar else 0.7 for liar in liars],
        zorder=3,
    )
    if known.any():
        heat.draw_bar(figure, look, shades, (0.1 + side + 0.12, below, 0.13, side), "accuracy")
    names = [story.links.name(block) for block in range(len(values))]
    if blocks:
        _name_outside(axes, look, names, places)
    elif heat.text_width(look, names) * 72 < across.min():
        for name, place, colour, value in zip(names, places, colours, values, strict=True):
            ink = _ink_on(look, to_hex(tuple(colour))) if math.isfinite(value) else look.theme.ink
            axes.text(
                place[0], place[1], name, ha="center", va="center", fontsize=look.small, color=ink, zorder=5
            )
    axes.set_xlim(-1.1 - 0.2 * blocks, 1.1 + 0.2 * blocks)
    axes.set_ylim(*axes.get_xlim())
    axes.set_axis_off()
    if look.slide:
        axes.set_title(title(story), pad=6)
    return figure


def _draw_edges(axes: Axes, look: Look, weights: Matrix, places: Places) -> None:
    """In a few strengths, each of them one path: a path for each edge would outweigh the page."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    rows, columns = busiest(weights)
    strength = np.ceil(STRENGTHS * weights[rows, columns] / max(1.0, float(weights.max())))
    alpha = float(np.clip(8.0 / math.sqrt(max(1, len(rows))), 0.2, 0.7))
    for level in range(1, STRENGTHS + 1):
        chosen = strength == level
        ends = places[np.column_stack([rows[chosen], columns[chosen]]).ravel()]
        if len(ends):
            codes = np.tile(np.array([Path.MOVETO, Path.LINETO], Path.code_type), len(ends) // 2)
            width = 0.4 + 1.4 * level / STRENGTHS
            drawn = PathPatch(
                Path(ends, codes), fill=False, edgecolor=look.theme.node, linewidth=width, alpha=alpha
            )
            axes.add_patch(drawn)


def busiest(weights: Matrix) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """At most EDGES edges (rows, columns), those with the most exchanges; of equal ones from everywhere."""
    rows, columns = np.nonzero(np.triu(weights, 1))
    scattered = np.arange(len(rows)) * ((math.sqrt(5) - 1) / 2) % 1  # each falls into the widest gap so far
    chosen = np.sort(np.lexsort((scattered, -weights[rows, columns]))[:EDGES])
    return rows[chosen], columns[chosen]


def _shades(values: Matrix) -> ScalarMappable:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(*accuracy_limits(values), clip=True), "viridis")


def _ink_on(look: Look, shade: str) -> str:
    """Which of the two inks that are the same in both themes reads better."""
    return max((look.theme.black, look.theme.light), key=lambda ink: contrast(shade, ink))


def _name_outside(axes: Axes, look: Look, names: Sequence[str], places: Places) -> None:
    """Along the rays of the circle, never upside down."""
    for name, place in zip(names, places, strict=True):
        angle = math.degrees(math.atan2(place[1], place[0]))
        turned = abs(angle) > 90
        axes.text(
            1.09 * place[0],
            1.09 * place[1],
            name,
            rotation=angle + 180 * turned,
            rotation_mode="anchor",
            ha="right" if turned else "left",
            va="center_baseline",
            fontsize=look.small * 0.9,
            color=look.theme.muted,
        )


def title(story: Story) -> str:
    if story.edges is None:
        return "Who exchanged models with whom"
    return "The graph" if story.graphs == 1 else f"The last of {story.graphs} graphs"


def about(story: Story) -> str:
    """What the picture leaves to be asked."""
    text = "Coloured by accuracy"
    if story.links.block > 1:
        text = f"Each circle is up to {story.links.block} nodes, coloured by their mean accuracy"
    count = int(np.count_nonzero(np.triu(edges(story), 1)))
    if count > EDGES:
        text += f"; {EDGES:,} of {count:,} links are drawn, the busiest"
    if not np.isfinite(accuracies(story)).all():
        text += "; empty: not evaluated at the end"
    if story.adversaries and story.links.block == 1:
        text += "; a bold rim: an adversary"
    return text + "."


def edges(story: Story) -> Matrix:
    """(B, B), symmetric: edges of the last graph drawn, else exchanges of models; between nodes or blocks."""
    if story.edges is None:
        one_way = story.links.models.astype(np.float64)
        return one_way + one_way.T
    graph = Links(story.nodes)
    for one, other in story.edges:
        graph.add(one, other, 1)
        graph.add(other, one, 1)
    return graph.bytes.astype(np.float64)


def accuracies(story: Story) -> Matrix:
    """(B,): of each node, or the mean over a block's honest nodes; NaN where none was evaluated."""
    known = story.accuracies()
    blocks = []
    for block in range(len(story.links.bytes)):
        members = story.links.members(block)
        honest = [node for node in members if node not in story.adversaries] or list(members)
        values = [known[node] for node in honest if math.isfinite(known.get(node, math.nan))]
        blocks.append(float(np.mean(values)) if values else math.nan)
    return np.array(blocks)


def accuracy_limits(values: Matrix) -> tuple[float, float]:
    """Of the colours: all but the lowest twentieth of the values, which a few broken nodes would stretch."""
    if not values.size:
        return 0.0, 1.0
    low, high = float(np.percentile(values, 5)), float(values.max())
    return (low, high) if high - low >= SPREAD else (max(0.0, high - SPREAD), high)


def layout(weights: Matrix, *, regular: bool) -> Places:
    """(B, 2) within the unit circle. regular: on a circle, in order, as nothing tells neighbours apart."""
    import networkx as nx

    graph = nx.from_numpy_array((weights > 0).astype(int))
    count = len(weights)
    degrees = [degree for _, degree in graph.degree()]
    ring = count > 2 and graph.number_of_edges() == count and set(degrees) == {2} and nx.is_connected(graph)
    if regular or graph.number_of_edges() == count * (count - 1) // 2:
        order = list(range(count))
    elif ring:
        order = list(nx.dfs_preorder_nodes(graph, 0))
    else:
        start = nx.spectral_layout(graph) if nx.is_connected(graph) and count > 3 else None
        found = nx.spring_layout(graph, pos=start, seed=SEED, iterations=120)
        places = np.array([found[node] for node in range(count)])
        places -= (places.max(axis=0) + places.min(axis=0)) / 2
        return places / max(1e-9, float(np.hypot(*places.T).max()))
    angles = np.empty(count)
    angles[order] = np.pi / 2 - 2 * np.pi * np.arange(count) / count
    return np.column_stack([np.cos(angles), np.sin(angles)]) * (count > 1)


def _across(look: Look, story: Story, side: float) -> Matrix:
    """Diameters in points; of blocks, the area goes with the number of nodes."""
    count = len(story.links.bytes)
    room = side * 72 * (1.6 if story.links.block > 1 else 0.25 * math.sqrt(count)) / max(count, 4)
    members = np.array([len(story.links.members(block)) for block in range(count)], np.float64)
    across: Matrix = np.clip(room, 4, 2.1 * look.font) * np.sqrt(members / members.max())
    return across

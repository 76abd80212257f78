"""Traffic per link: how many bytes went from whom to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netsim.report import heat
from netsim.report.amounts import bytes_scale, bytes_text
from netsim.report.look import Look
from netsim.report.story import Story

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERED = 12  # nodes, or blocks of them, whose cells have room for numbers


def picture(look: Look, story: Story) -> Figure:
    """Senders by receivers; blocks of consecutive nodes where there are many."""
    links = story.links
    count = len(links.bytes)
    most = float(links.bytes.max())
    scale = bytes_scale(most)
    values = links.bytes / scale.factor
    left = 0.35 + heat.text_width(look, [links.name(count - 1)])
    below, right, above = 0.55, heat.bar_room(look), 0.5 if look.slide else 0.1
    side = min(look.width - left - right, 6.0)
    figure = look.figure(below + side + above, left + side + right)
    axes = look.place(figure, left, below, side, side)
    image = heat.draw(axes, look, values, most / scale.factor)
    if count <= NUMBERED:
        digits = 0 if most / scale.factor >= 20 else 1
        heat.draw_numbers(axes, look, values, most / scale.factor, lambda r, c: f"{values[r, c]:.{digits}f}")
    unit = f"{scale.unit} sent"
    heat.draw_bar(figure, look, image, (left + side + 0.12, below, 0.13, side), unit)
    across = heat.every(count, side / (1 if links.block == 1 else 2.4), look)
    upward = heat.every(count, side * 1.6, look)
    axes.set_xticks(across, [links.name(block) for block in across])
    axes.set_yticks(upward, [links.name(block) for block in upward])
    who = "node" if links.block == 1 else "nodes"
    axes.set_xlabel(f"receiving {who}")
    axes.set_ylabel(f"sending {who}")
    if look.slide:
        axes.set_title("Bytes sent from node to node", pad=10)
    return figure


def described(story: Story) -> str:
    links = story.links
    if not links.bytes.any():
        return "nothing was sent"
    row, column = np.unravel_index(int(links.bytes.argmax()), links.bytes.shape)
    used, size = int((links.bytes > 0).sum()), links.bytes.size
    return (
        f"{bytes_text(float(links.bytes.sum()))} in all over {used:,} of {size:,} cells; "
        f"the busiest is from {links.name(int(row))} to {links.name(int(column))}: "
        f"{bytes_text(float(links.bytes.max()))}"
    )

"""Who is alive: how soon a crash is noticed, what it costs to know, and whether it is ever wrong.

All in virtual time, with a probe a second: seconds are probe periods.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from benchmarks.figures import Figure
from benchmarks.herd import Herd, herded

ACQUAINTING = 100.0  # longest time until everybody knows everybody
CUT = 60.0
CHURN = 0.3
# Seconds in which traffic becomes even, and again as many in which it is measured.
EVENLY = 30.0
NODES, FEW, MANY, VIEW, SPAN = 100, 100, 1000, 64, 1000.0
QUICK_NODES, QUICK_FEW, QUICK_MANY, QUICK_VIEW, QUICK_SPAN = 20, 20, 60, 16, 60.0


@dataclass
class _Found:
    crashes: list[float] = field(default_factory=list)  # seconds until half of the others knew
    mistakes: int = 0  # deaths of nodes that lived
    suspicions: int = 0
    healed: float = 0.0
    rate: float = 0.0  # bytes a second and node
    parts: list[int] = field(default_factory=list)


def measure(quick: bool) -> Iterator[Figure]:
    nodes, few, many = (QUICK_NODES, QUICK_FEW, QUICK_MANY) if quick else (NODES, FEW, MANY)
    view, span = (QUICK_VIEW, QUICK_SPAN) if quick else (VIEW, SPAN)
    for loss in (0.0, 0.1):
        found = noticed(nodes, 2 if quick else 5, loss)
        yield Figure(
            f"{nodes} nodes, {loss:.0%} lost: a crash is known to half",
            statistics.median(found.crashes),
            "periods",
            "at most",
            10,
            {"longest": max(found.crashes)},
        )
    found = undisturbed(nodes, span, 0.1)
    yield Figure(
        f"{nodes} nodes, 10% lost, {span:.0f} s: false deaths",
        found.mistakes,
        "",
        "at most",
        0,
        {"suspicions": found.suspicions},
    )
    found = parted(nodes)
    yield Figure(
        f"{nodes} nodes cut in two for {CUT:.0f} s: one view again", found.healed, "periods", "at most", 20
    )
    small, large = crowded(few, view), crowded(many, view)
    yield Figure(
        f"{many} nodes beside {few}, view {view}: traffic of a node",
        large.rate / small.rate,
        "times",
        "at most",
        1.2,
        {f"bytes/s, {few}": small.rate, f"bytes/s, {many}": large.rate},
    )
    yield Figure(
        f"{many} nodes, {CHURN:.0%} crash, as many join: parts of the overlay",
        max(large.parts),
        "",
        "at most",
        1,
    )


def noticed(nodes: int, crashes: int, loss: float) -> _Found:
    """Crash some, one after the other."""
    found = _Found()

    async def act(herd: Herd) -> None:
        await _acquainted(herd, nodes)
        for _ in range(crashes):
            herd.sightings.clear()
            began = trio.current_time()
            gone = herd.crash(int(herd.rng.choice(list(herd.nodes))))
            told: dict[int, float] = {}

            def half_know(gone: str = gone, told: dict[int, float] = told) -> bool:
                for sighting in herd.sightings:
                    if sighting.of == gone and sighting.standing == "dead":
                        told.setdefault(sighting.by, sighting.at)
                return len(told) >= len(herd.nodes) / 2

            await herd.until(half_know, 60)
            at = sorted(told.values())
            half = (len(herd.nodes) + 1) // 2
            found.crashes.append(at[half - 1] - began if len(at) >= half else float("inf"))

    herded(act, seed=1, view_size=128, loss=loss)
    return found


def undisturbed(nodes: int, seconds: float, loss: float) -> _Found:
    """Nobody crashes."""
    found = _Found()

    async def act(herd: Herd) -> None:
        await _acquainted(herd, nodes)
        herd.sightings.clear()
        await trio.sleep(seconds)
        found.mistakes = sum(sighting.standing == "dead" for sighting in herd.sightings)
        found.suspicions = sum(sighting.standing == "suspect" for sighting in herd.sightings)

    herded(act, seed=2, view_size=128, loss=loss)
    return found


def parted(nodes: int) -> _Found:
    """A cut through the middle that heals."""
    found = _Found()

    async def act(herd: Herd) -> None:
        await _acquainted(herd, nodes)
        half = nodes // 2
        herd.network.cut(1, (tuple(range(half)), tuple(range(half, nodes))))
        await trio.sleep(CUT)
        herd.network.heal(1)
        found.healed = await herd.until(herd.everybody_knows_everybody, 100)

    herded(act, seed=3, view_size=128)
    return found


def crowded(nodes: int, view_size: int) -> _Found:
    """What membership costs once it runs evenly; then CHURN of the nodes crash at once, and as many join."""
    found = _Found()

    async def act(herd: Herd) -> None:
        await herd.add(nodes)
        await trio.sleep(EVENLY)
        before = herd.bytes_sent()
        await trio.sleep(EVENLY)
        found.rate = (herd.bytes_sent() - before) / nodes / EVENLY
        for index in herd.rng.permutation(list(herd.nodes))[: int(CHURN * nodes)]:
            herd.crash(int(index))
        found.parts.append(herd.parts())
        await trio.sleep(EVENLY / 2)
        await herd.add(int(CHURN * nodes))
        await trio.sleep(EVENLY / 2)
        found.parts.append(herd.parts())

    herded(act, seed=4, view_size=view_size)
    return found


async def _acquainted(herd: Herd, nodes: int) -> None:
    await herd.add(nodes)
    await herd.until(herd.everybody_knows_everybody, ACQUAINTING)

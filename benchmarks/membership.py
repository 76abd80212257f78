"""Who is alive: how soon a crash is noticed, what it costs to know, and whether it is ever wrong.

All in virtual time, with a probe a second: seconds are probe periods.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator

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


def measure(quick: bool) -> Iterator[Figure]:
    nodes, few, many = (QUICK_NODES, QUICK_FEW, QUICK_MANY) if quick else (NODES, FEW, MANY)
    view, span = (QUICK_VIEW, QUICK_SPAN) if quick else (VIEW, SPAN)
    for loss in (0.0, 0.1):
        crashes = noticed(nodes, 2 if quick else 5, loss)
        yield Figure(
            f"{nodes} nodes, {loss:.0%} lost: a crash is known to half",
            statistics.median(crashes),
            "periods",
            "at most",
            10,
            {"longest": max(crashes)},
        )
    deaths, suspicions = undisturbed(nodes, span, 0.1)
    yield Figure(
        f"{nodes} nodes, 10% lost, {span:.0f} s: false deaths",
        deaths,
        "",
        "at most",
        0,
        {"suspicions": suspicions},
    )
    healed = parted(nodes)
    yield Figure(
        f"{nodes} nodes cut in two for {CUT:.0f} s: one view again", healed, "periods", "at most", 20
    )
    small, _ = crowded(few, view)
    large, parts = crowded(many, view)
    yield Figure(
        f"{many} nodes beside {few}, view {view}: traffic of a node",
        large / small,
        "times",
        "at most",
        1.2,
        {f"bytes/s, {few}": small, f"bytes/s, {many}": large},
    )
    yield Figure(
        f"{many} nodes, {CHURN:.0%} crash, as many join: parts of the overlay",
        max(parts),
        "",
        "at most",
        1,
    )


def noticed(nodes: int, crashes: int, loss: float) -> list[float]:
    """Some crash, one after the other: periods until half of the others knew, of each."""

    async def act(herd: Herd) -> list[float]:
        found: list[float] = []
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
            found.append(at[half - 1] - began if len(at) >= half else float("inf"))
        return found

    return herded(act, seed=1, view_size=128, loss=loss)


def undisturbed(nodes: int, seconds: float, loss: float) -> tuple[int, int]:
    """Nobody crashes: how many were held for dead, and how many suspected."""

    async def act(herd: Herd) -> tuple[int, int]:
        await _acquainted(herd, nodes)
        herd.sightings.clear()
        await trio.sleep(seconds)
        seen = Counter(sighting.standing for sighting in herd.sightings)
        return seen["dead"], seen["suspect"]

    return herded(act, seed=2, view_size=128, loss=loss)


def parted(nodes: int) -> float:
    """A cut through the middle ends: periods until everybody knows everybody again."""

    async def act(herd: Herd) -> float:
        await _acquainted(herd, nodes)
        half = nodes // 2
        herd.network.cut(1, (tuple(range(half)), tuple(range(half, nodes))))
        await trio.sleep(CUT)
        herd.network.heal(1)
        return await herd.until(herd.everybody_knows_everybody, 100)

    return herded(act, seed=3, view_size=128)


def crowded(nodes: int, view_size: int) -> tuple[float, list[int]]:
    """Bytes a second and node once membership runs evenly; then CHURN of the nodes crash at once, and as many
    join: parts of the overlay after either.
    """

    async def act(herd: Herd) -> tuple[float, list[int]]:
        await herd.add(nodes)
        await trio.sleep(EVENLY)
        before = herd.bytes_sent()
        await trio.sleep(EVENLY)
        rate = (herd.bytes_sent() - before) / nodes / EVENLY
        for index in herd.rng.permutation(list(herd.nodes))[: int(CHURN * nodes)]:
            herd.crash(int(index))
        parts = [herd.parts()]
        await trio.sleep(EVENLY / 2)
        await herd.add(int(CHURN * nodes))
        await trio.sleep(EVENLY / 2)
        return rate, [*parts, herd.parts()]

    return herded(act, seed=4, view_size=view_size)


async def _acquainted(herd: Herd, nodes: int) -> None:
    await herd.add(nodes)
    await herd.until(herd.everybody_knows_everybody, ACQUAINTING)

"""Colours by what they stand for, for light pages and for dark ones."""

from __future__ import annotations

from dataclasses import dataclass, fields

from netsim.report.lives import Doing


@dataclass(frozen=True)
class Theme:
    """Colours by what they stand for. Text has a contrast of at least 4.5 on `page`, lines of at least 3.

    heat: of a heat map, from a little to the most; nothing is left empty.  distinct: of runs side by side.
    light, black: ink on colours that are the same on both pages.
    """

    page: str
    panel: str
    ink: str
    muted: str
    grid: str
    node: str
    adversary: str
    collective: str
    isolated: str
    baselines: dict[str, str]
    heat: tuple[str, ...]
    doing: dict[Doing, str]
    cut: str
    distinct: tuple[str, ...]
    light: str = "#fefefe"
    black: str = "#010101"


LIGHT = Theme(
    page="#ffffff",
    panel="#f5f7f9",
    ink="#1b1f24",
    muted="#57606a",
    grid="#e4e8ec",
    node="#8a929b",
    adversary="#c2255c",
    collective="#16803c",
    isolated="#c85a00",
    baselines={"centralised": "#24292f", "cyclic": "#b0307a", "fedavg": "#0b65c9", "d-psgd": "#6f42c1"},
    heat=("#e3eefa", "#a6cdf0", "#5a9fd8", "#1f6fb4", "#0b4279"),
    doing={
        "absent": "#ffffff",
        "waiting": "#d3dae1",
        "training": "#84b6e6",
        "settling": "#2f74b5",
        "done": "#8fcfa6",
        "hung": "#e0a100",
        "down": "#c9352b",
        "left": "#ffffff",
    },
    cut="#6f42c1",
    distinct=("#0b65c9", "#c85a00", "#16803c", "#b0307a", "#6f42c1", "#7a6000", "#0f7b83", "#57606a"),
)
DARK = Theme(
    page="#0f1419",
    panel="#171d24",
    ink="#e6eaee",
    muted="#9ba6b2",
    grid="#28303a",
    node="#7d8894",
    adversary="#ff7aa2",
    collective="#4cc473",
    isolated="#ff9d4d",
    baselines={"centralised": "#d0d7de", "cyclic": "#f580c2", "fedavg": "#6cb3ff", "d-psgd": "#b99bf8"},
    heat=("#16283a", "#1d4468", "#2a6da6", "#549fdf", "#b5dcff"),
    doing={
        "absent": "#0f1419",
        "waiting": "#38424d",
        "training": "#2b6396",
        "settling": "#69b1f2",
        "done": "#2f7d4c",
        "hung": "#e3b341",
        "down": "#f0554a",
        "left": "#0f1419",
    },
    cut="#b99bf8",
    distinct=("#6cb3ff", "#ff9d4d", "#4cc473", "#f580c2", "#b99bf8", "#d6b656", "#5fd0d8", "#9ba6b2"),
)

# Baselines are dashed, each in its own way: colours alone do not tell them apart for everybody.
DASHES: dict[str, tuple[float, ...]] = {
    "centralised": (6, 2),
    "cyclic": (4, 1.5, 1, 1.5),
    "fedavg": (3, 1.5),
    "d-psgd": (6, 1.5, 1, 1.5, 1, 1.5),
}
# Of fedavg by another rule than its own.
RULE_DASHES: dict[str, tuple[float, ...]] = {
    "mean": (1, 2.5),
    "median": (8, 2),
    "trimmed-mean": (5, 1.5, 1.5, 1.5),
    "krum": (2, 4),
    "geometric-median": (8, 1.5, 2, 1.5, 2, 1.5),
}
OTHER_DASHES = (2, 2)


def in_dark() -> dict[str, str]:
    """From each colour of the light theme to what stands for the same in the dark one, as #rrggbb.

    What stands for different things may share a colour only if it does so in both themes: a test holds this.
    """
    found: dict[str, str] = {}
    for item in fields(Theme):
        found.update(
            zip(_colours(getattr(LIGHT, item.name)), _colours(getattr(DARK, item.name)), strict=True)
        )
    return found


def _colours(value: object) -> list[str]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, tuple) else [str(value)]


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, 0 to 1 (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """From 1, none, to 21 (WCAG 2.2)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)

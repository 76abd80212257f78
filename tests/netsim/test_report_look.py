"""Colours that can be read, dark pages, numbers and names as people read them."""

from __future__ import annotations

import base64
import io
import math
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netsim.report import amounts, heat, vector
from netsim.report.look import SLIDE_FONT, SLIDE_WIDTH, Look, png
from netsim.report.theme import DARK, LIGHT, Theme, contrast, in_dark
from p2pfl.errors import StorageError

THEMES = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])


@THEMES
def test_text_is_readable(theme: Theme) -> None:
    for ink in (theme.ink, theme.muted):
        assert contrast(ink, theme.page) >= 4.5
        assert contrast(ink, theme.panel) >= 4.5


@THEMES
def test_lines_are_seen(theme: Theme) -> None:
    lines = (theme.node, theme.adversary, theme.collective, theme.isolated, theme.cut)
    for line in (*lines, *theme.baselines.values(), *theme.distinct):
        assert contrast(line, theme.page) >= 3


@THEMES
def test_runs_side_by_side_differ(theme: Theme) -> None:
    colours = [np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in theme.distinct]
    distances = [np.linalg.norm(a - b) for i, a in enumerate(colours) for b in colours[:i]]
    assert min(distances) > 40


def test_numbers_in_cells_are_readable_in_both_themes() -> None:
    for shade, ink in enumerate(heat._inks()):
        for theme in (LIGHT, DARK):
            red, green, blue, _ = heat.colours(theme)(shade)
            cell = f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
            assert contrast(cell, getattr(theme, ink)) >= 3.5


def test_a_colour_stands_for_one_thing_or_for_the_same_two_in_both_themes() -> None:
    """Otherwise a dark page could not be made from a light one."""
    mapped = in_dark()
    for item in fields(Theme):
        light, dark = getattr(LIGHT, item.name), getattr(DARK, item.name)
        if isinstance(light, str):
            assert mapped[light] == dark
        elif isinstance(light, dict):
            assert {name: mapped[colour] for name, colour in light.items()} == dark
        else:
            assert tuple(mapped[colour] for colour in light) == dark


def drawn(look: Look) -> object:
    """A line and a matrix."""
    figure = look.figure(2.0)
    axes = look.place(figure, 0.5, 0.5, 1.5, 1.2)
    axes.plot([0, 1], [0, 1], color=look.theme.collective)
    heat.draw(look.place(figure, 2.5, 0.5, 1, 1), look, np.array([[0.0, 1.0], [0.5, 0.25]]), 1.0)
    return figure


def pixels(svg: str) -> np.ndarray:
    (found,) = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)", svg)
    return np.array(Image.open(io.BytesIO(base64.b64decode(found))).convert("RGBA"))


def test_a_page_for_the_dark_is_the_same_picture_in_other_colours() -> None:
    svg = vector.render(Look(LIGHT, 4.0), drawn)  # type: ignore[arg-type]
    assert (svg.width, svg.height) == (384, 192)
    colour = re.compile("#[0-9a-f]{6}")
    assert colour.sub("", re.sub('base64,[^"]*', "", svg.light)) == colour.sub(
        "", re.sub('base64,[^"]*', "", svg.dark)
    )
    assert LIGHT.collective in svg.light
    assert DARK.collective in svg.dark
    assert not set(colour.findall(svg.dark)) & {LIGHT.ink, LIGHT.muted, LIGHT.collective}


def test_a_matrix_is_a_pixel_for_each_cell_and_empty_ones_are_clear() -> None:
    svg = vector.render(Look(LIGHT, 4.0), drawn)  # type: ignore[arg-type]
    light, dark = pixels(svg.light), pixels(svg.dark)
    assert light.shape == dark.shape == (2, 2, 4)
    assert sorted(light[..., 3].ravel().tolist()) == [0, 255, 255, 255]
    strongest = tuple(int(DARK.heat[-1][i : i + 2], 16) for i in (1, 3, 5))
    assert strongest in [tuple(pixel[:3].tolist()) for pixel in dark.reshape(4, 4)]


def test_equal_figures_give_equal_bytes(tmp_path: Path) -> None:
    look = Look(LIGHT, SLIDE_WIDTH, SLIDE_FONT, slide=True)
    for name in ("a.png", "b.png"):
        png(look, drawn, tmp_path / name)  # type: ignore[arg-type]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    picture = Image.open(tmp_path / "a.png")
    assert picture.width == pytest.approx(1920, abs=2)
    assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        png(Look(LIGHT, 4.0), drawn, tmp_path / "nowhere" / "a.png")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (70, "70 B"), (1234, "1.23 kB"), (123_456_789, "123 MB"), (4.56e12, "4,560 GB")],
)
def test_bytes(size: float, text: str) -> None:
    assert amounts.bytes_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0123, "12.3 ms"),
        (0.5, "0.500 s"),
        (12.345, "12.3 s"),
        (600, "10.0 min"),
        (36000, "10.0 h"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    assert amounts.seconds_text(seconds) == text


def test_accuracies_that_are_none() -> None:
    assert [amounts.accuracy_text(value) for value in (None, math.nan, 0.98765)] == ["-", "-", "0.988"]


def test_names_lose_what_cannot_be_shown_and_what_is_too_long() -> None:
    assert amounts.plain("a\x00b\u202ec\nd") == "a\ufffdb\ufffdc\ufffdd"
    assert amounts.class_names(("cat", "x" * 50), 3) == ["cat", "x" * 19 + "…", "2"]


@pytest.mark.parametrize(("count", "room"), [(10, 5.0), (60, 5.0), (1000, 5.0), (7, 0.01)])
def test_numbers_beside_a_picture_have_room(count: int, room: float) -> None:
    look = Look(LIGHT, 6.0)
    places = heat.every(count, room, look)
    assert places[0] == 0
    assert len(places) * heat.text_width(look, [str(count)]) <= room or len(places) == 1
    assert len(set(np.diff(places))) <= 1

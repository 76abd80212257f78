"""The picture of originals beside reconstructions."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from p2pfl.audit.sheet import ACROSS, BETWEEN, GAP, png


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_each_original_is_above_its_reconstruction(channels: int, mode: str) -> None:
    count, side = ACROSS + 2, 28
    originals = np.linspace(0, 1, count)[:, None, None, None] * np.ones((count, channels, side, side))
    with Image.open(io.BytesIO(png(originals, 1 - originals))) as image:
        assert image.mode == mode
        pixels = np.asarray(image.convert("L")).astype(int)
    cell = 2 * side
    assert pixels.shape == (4 * cell + 2 * GAP + BETWEEN, ACROSS * cell + (ACROSS - 1) * GAP)
    for index in range(count):
        down, right = divmod(index, ACROSS)
        top, left = down * (2 * cell + GAP + BETWEEN) + cell // 2, right * (cell + GAP) + cell // 2
        upper, lower = pixels[top, left], pixels[top + cell + GAP, left]
        assert upper == round(255 * index / (count - 1))
        assert abs(upper + lower - 255) <= 1


def test_what_is_beyond_the_range_is_cut_off() -> None:
    with Image.open(io.BytesIO(png(np.full((1, 1, 60, 60), 2.0), np.full((1, 1, 60, 60), -1.0)))) as image:
        assert image.size == (60, 120 + GAP)
        assert sorted(set(np.asarray(image).reshape(-1).tolist())) == [0, 255]

"""Anybody's picture as a model's input: decoded safely, scaled, inverted where needed, centred if drawn."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from p2pfl.errors import BadPicture, CannotPredict
from p2pfl.gossip.messages import Task
from p2pfl.learning.pictures import pixels_of
from p2pfl.learning.published import CIFAR10, DIGITS, MNIST

XRAYS = Task("x-rays", ("well", "ill"), (1, 28, 28), (0.5,), (0.5,))


def file(pixels: object, format: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(out, format)
    return out.getvalue()


def bar(left: int, right: int, top: int, bottom: int, size: int = 280) -> np.ndarray:
    """A white bar on black."""
    grey = np.zeros((size, size), np.uint8)
    grey[top:bottom, left:right] = 255
    return grey


def test_a_picture_of_the_right_size_is_taken_as_it_is() -> None:
    grey = np.random.default_rng(1).integers(0, 256, (28, 28), np.uint8)
    assert np.array_equal(pixels_of(file(grey), MNIST, invert="no"), grey[None])
    colour = np.random.default_rng(2).integers(0, 256, (32, 32, 3), np.uint8)
    assert np.array_equal(pixels_of(file(colour), CIFAR10), colour.transpose(2, 0, 1))


def test_grey_and_colour_become_what_the_task_has() -> None:
    red = np.zeros((50, 40, 3), np.uint8)
    red[..., 0] = 200
    assert pixels_of(file(red), XRAYS).shape == (1, 28, 28)
    assert pixels_of(file(red, "JPEG"), XRAYS).mean() == pytest.approx(0.299 * 200, abs=2)
    three = pixels_of(file(bar(0, 280, 0, 280)), CIFAR10)
    assert three.shape == (3, 32, 32)
    assert (three == 255).all()


def test_a_light_background_is_inverted_where_the_task_has_dark_ones() -> None:
    paper = 255 - bar(120, 160, 60, 220)
    dark = pixels_of(file(paper), MNIST)
    assert dark[0, 0, 0] == 0
    assert dark.max() > 200
    assert pixels_of(file(paper), MNIST, invert="no")[0, 0, 0] == 255
    assert pixels_of(file(paper), XRAYS)[0, 0, 0] == 255
    assert pixels_of(file(paper), XRAYS, invert="yes")[0, 0, 0] == 0
    assert pixels_of(file(bar(120, 160, 60, 220)), MNIST)[0, 0, 0] == 0


@pytest.mark.parametrize(("left", "top"), [(0, 0), (10, 100), (200, 5)])
def test_a_drawing_fills_a_box_of_20_of_28_and_its_mass_is_in_the_middle(left: int, top: int) -> None:
    drawing = bar(left, left + 40, top, top + 120)
    seen = pixels_of(file(drawing), MNIST, drawn=True)[0].astype(float)
    rows, columns = np.nonzero(seen > 10)
    assert rows.max() - rows.min() + 1 == 20
    assert columns.max() - columns.min() + 1 == 7
    centre = [(seen.sum(axis) * (np.arange(28) + 0.5)).sum() / seen.sum() for axis in (1, 0)]
    assert centre == pytest.approx([14, 14], abs=0.51)


def test_small_pictures_are_filled() -> None:
    seen = pixels_of(file(bar(100, 130, 50, 200)), DIGITS, drawn=True)[0]
    assert (seen.max(axis=1) > 100).all()


def test_a_transparent_canvas_is_black_behind_a_drawing() -> None:
    canvas = np.zeros((280, 280, 4), np.uint8)
    canvas[50:200, 100:130] = 255
    assert np.array_equal(
        pixels_of(file(canvas), DIGITS, drawn=True),
        pixels_of(file(bar(100, 130, 50, 200)), DIGITS, drawn=True),
    )


def test_an_empty_drawing_says_so() -> None:
    with pytest.raises(BadPicture, match="nothing drawn"):
        pixels_of(file(bar(0, 0, 0, 0)), DIGITS, drawn=True)


def bomb(width: int, height: int) -> bytes:
    """A PNG of few bytes that says it is that large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        bomb(5000, 5000),
        bomb(60_000, 60_000),
        file(np.zeros((9, 9)))[:-30],
    ],
    ids=["empty", "gif", "head only", "large", "huge", "cut"],
)
def test_what_is_no_picture_or_too_large_a_one_is_refused(content: bytes) -> None:
    with pytest.raises(BadPicture) as caught:
        pixels_of(content, MNIST)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_other_formats_are_not_even_tried() -> None:
    with pytest.raises(BadPicture, match="PNG or JPEG"):
        pixels_of(file(np.zeros((9, 9)), "TIFF"), MNIST)


def test_a_task_without_pictures_says_so() -> None:
    with pytest.raises(CannotPredict, match="no picture"):
        pixels_of(file(np.zeros((9, 9))), Task("numbers", ("a", "b"), (4,), (0.5,), (0.5,)))

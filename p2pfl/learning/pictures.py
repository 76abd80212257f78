"""Anybody's picture as the input of a model: decoded as if attacked, and made like those it learnt from.

Where training data are dark with light strokes, as handwritten digits are, a picture with a light background
is inverted. A drawing is made as MNIST's digits were of NIST's (LeCun, Cortes, Burges: The MNIST database):
scaled, keeping its proportions, to a box of 20 of 28 pixels, with its centre of mass in the middle.
Pictures of fewer than 16 pixels a side have no such margin (the 8x8 digits of UCI fill theirs).
"""

from __future__ import annotations

import io
import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from p2pfl.errors import BadPicture, CannotPredict
from p2pfl.gossip.messages import Task

Pixels = npt.NDArray[np.uint8]  # (C, H, W)
Invert = Literal["auto", "yes", "no"]

FORMATS = ("PNG", "JPEG")
"""Two decoders, and no more, see bytes from outside."""
MAX_PIXELS = 16_000_000
"""Looked at before anything is unpacked: a small file can hold a picture of any size."""
DARK = 0.4
"""A task whose mean (of inputs in [0, 1]) is below this has dark backgrounds: digits 0.31, MNIST 0.13."""
LIGHT = 0.5
"""A picture whose border's median is above this has a light background."""
INK = 0.1
"""Share of the brightest pixel's light above the background that counts as drawn."""
MARGIN_FROM = 16
"""Pixels of a side from which on drawings have a margin."""


def pixels_of(content: bytes, task: Task, *, drawn: bool = False, invert: Invert = "auto") -> Pixels:
    """(C, H, W) uint8 as the task's pictures are. drawn: light strokes, to be scaled and centred.

    Raises BadPicture, or CannotPredict if the task's inputs are no pictures.
    """
    if len(task.input_shape) != 3 or task.input_shape[0] not in (1, 3):
        shape = "x".join(map(str, task.input_shape))
        raise CannotPredict(f"inputs of {task.name} are {shape}, which no picture is")
    channels, height, width = task.input_shape
    picture = _decoded(content, "L" if channels == 1 else "RGB", (0, 0, 0) if drawn else (255, 255, 255))
    if invert == "yes" or (invert == "auto" and np.mean(task.mean) < DARK and _is_light(picture)):
        picture = ImageOps.invert(picture)
    if drawn:
        picture = _centred(picture, height, width)
    elif picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture).reshape(height, width, channels).transpose(2, 0, 1).copy()


def _decoded(content: bytes, mode: str, behind: tuple[int, int, int]) -> Image.Image:
    """behind: what shows through where the picture is transparent."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            if math.prod(opened.size) > MAX_PIXELS:
                raise BadPicture(f"the picture has more than {MAX_PIXELS // 1_000_000} million pixels")
            picture: Image.Image = ImageOps.exif_transpose(opened) or opened
            if picture.mode.startswith("I"):  # 16 bits, of which Pillow would keep the lower 8
                deep = np.asarray(picture).clip(0, 65535) // 256
                picture = Image.fromarray(deep.astype(np.uint8))
            if picture.has_transparency_data:
                ground = Image.new("RGBA", picture.size, behind)
                picture = Image.alpha_composite(ground, picture.convert("RGBA"))
            return picture.convert(mode)
    except BadPicture:
        raise
    except Exception as error:  # a damaged picture makes Pillow raise nearly anything
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise BadPicture(f"this is no picture in PNG or JPEG that can be read: {reason}") from error


def _is_light(picture: Image.Image) -> bool:
    grey = np.asarray(picture.convert("L"))
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return bool(np.median(border) > 255 * LIGHT)


def _centred(picture: Image.Image, height: int, width: int) -> Image.Image:
    """Its strokes in a box, their centre of mass in the middle of (height, width)."""
    light = np.asarray(picture.convert("L"), np.float32)
    background = float(np.median(light))
    ink = light - background
    rows, columns = np.nonzero(ink > INK * 255)
    if not len(rows):
        raise BadPicture("there is nothing drawn on this picture")
    box = picture.crop((int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1))
    room = [side if side < MARGIN_FROM else round(side * 20 / 28) for side in (width, height)]
    scale = min(room[0] / box.width, room[1] / box.height)
    size = (max(1, round(box.width * scale)), max(1, round(box.height * scale)))
    box = box.resize(size, Image.Resampling.BILINEAR)
    mass = np.clip(np.asarray(box.convert("L"), np.float64) - background, 0, None)
    total = max(mass.sum(), 1e-9)
    x = float((mass.sum(0) * (np.arange(size[0]) + 0.5)).sum() / total)
    y = float((mass.sum(1) * (np.arange(size[1]) + 0.5)).sum() / total)
    left = min(max(0, round(width / 2 - x)), width - size[0])
    top = min(max(0, round(height / 2 - y)), height - size[1])
    ground = Image.new(box.mode, (width, height), (round(background),) * len(box.getbands()))
    ground.paste(box, (left, top))
    return ground

"""One picture of all: originals, and under each its reconstruction."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from p2pfl.audit.similarity import Pictures

ACROSS = 10  # pictures in a line
GAP = 2  # pixels between them
BETWEEN = 8  # pixels between pairs of lines
LEAST = 56  # pixels that a side has at least: small pictures are shown in whole multiples


def png(originals: Pictures, shown: Pictures) -> bytes:
    """A PNG file's content: lines of originals, each with the line of its reconstructions beneath.

    originals, shown: (n, C, H, W) in [0, 1], C is 1 or 3.
    """
    height, width = originals.shape[2:]
    times = max(1, -(-LEAST // min(height, width)))
    height, width = height * times, width * times
    across, bands = min(ACROSS, len(originals)), -(-len(originals) // ACROSS)
    band = 2 * height + GAP
    size = (bands * band + (bands - 1) * BETWEEN, across * width + (across - 1) * GAP, 3)
    page = np.full(size, 255, np.uint8)
    for position, pair in enumerate(zip(originals, shown, strict=True)):
        down, right = divmod(position, ACROSS)
        left = right * (width + GAP)
        for row, picture in enumerate(pair):
            top = down * (band + BETWEEN) + row * (height + GAP)
            pixels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
            pixels = pixels.repeat(times, axis=0).repeat(times, axis=1)
            page[top : top + height, left : left + width] = pixels  # (h, w, 1) spreads over red, green, blue
    image = Image.fromarray(page)
    if originals.shape[1] == 1:
        image = image.convert("L")
    file = io.BytesIO()
    image.save(file, "png", optimize=True)
    return file.getvalue()

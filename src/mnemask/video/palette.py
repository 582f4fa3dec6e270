"""The colours of DAVIS and PASCAL VOC: an object has the same one in every tool that reads indexed masks."""

from functools import cache

import numpy as np
from jaxtyping import Integer, UInt8

from mnemask.types import MAX_OBJECT_ID


def davis_palette(num_colors: int = 256) -> UInt8[np.ndarray, "N 3"]:
    """Returns the RGB colour of each id from 0 (black).

    Bits 0, 1, 2 of the id become the highest bit of red, green and blue, bits 3, 4, 5 the next, and so on: neighbouring
    ids get colours that differ in their highest bits. Defined for ids beyond 255 too.
    """
    ids = np.arange(num_colors)
    palette = np.zeros((num_colors, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return palette


@cache
def _every_color() -> UInt8[np.ndarray, "N 3"]:
    return davis_palette(MAX_OBJECT_ID + 1)


def colors_of(labels: Integer[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
    """Returns the palette colour of each id, RGB; ids from 0 to 65535."""
    colors: UInt8[np.ndarray, "*shape 3"] = _every_color()[labels]
    return colors

"""Realigns masks with their pictures, after downscaling that left out rows and columns.

OpenCV's `INTER_NEAREST` takes column `floor(x · W / w)` for column x of a smaller mask, while in the picture x shows
what is around `(x + ½) · W / w − ½`: the whole mask is up to half a pixel further right and down than the picture,
which is 1 to 5 % of an object's area. (`INTER_NEAREST_EXACT` does not do that.)
"""

from collections.abc import Mapping
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32

from mnemask.io.label_files import Labels

# The affected sets of `video_train`, with the number of mask rows before and after downscaling. Detected by comparing
# edges in pictures and masks: the pictures' are 0.2 to 0.5 pixels further left and up; after realignment 0.1 at most,
# as in other sets.
SHRUNK: Mapping[str, tuple[int, int]] = {"davis2016_train": (480, 400), "omnimatte": (480, 360)}


def realign(labels: Labels, shrunk: tuple[int, int] | None) -> Labels:
    """Returns a mask with each label where the picture shows it.

    Args:
        labels: the mask, with any values.
        shrunk: number of mask rows before and after downscaling; with None, or if the mask has another number of rows,
            it is returned unchanged.
    """
    if shrunk is None or labels.shape[0] != shrunk[1]:
        return labels
    maps = _sampling(*labels.shape, shrunk[0])
    restored = np.zeros_like(labels)
    for label in np.unique(labels[labels > 0]):
        cover = cv2.remap(np.uint8(255) * (labels == label), *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        restored[cover > 127] = label
    return restored


@lru_cache(maxsize=16)
def _sampling(height: int, width: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps for `cv2.remap`: the position in a mask downscaled from `rows` of what belongs at each pixel."""
    columns = 2 * round(width * rows / height / 2)  # videos have even sides
    x, y = np.meshgrid(_along(width, columns), _along(height, rows))
    fast, fractions = cv2.convertMaps(x, y, cv2.CV_16SC2)
    return np.asarray(fast), np.asarray(fractions)


def _along(length: int, original: int) -> Float32[np.ndarray, " L"]:
    """The positions along one axis."""
    at = np.arange(length)
    ratio = original / length
    shown = (np.floor(at * ratio) + 0.5) / ratio - 0.5
    return np.interp(at, shown, at).astype(np.float32)

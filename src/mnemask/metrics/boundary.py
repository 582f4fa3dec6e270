"""Contour accuracy F: how well the outlines of two masks lie on each other (Perazzi et al. 2016).

An outline pixel is right when the other outline passes within a tolerance, 0.8 % of the image's diagonal. Precision is
the fraction of the predicted outline that is right, recall that of the true outline, and F their harmonic mean.
"""

import math
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from mnemask.errors import InputError
from mnemask.metrics.region import check_pair

BOUND_RATIO = 0.008

_WINDOW = np.ones((2, 2), np.uint8)


def boundary_f(
    prediction: Bool[np.ndarray, "H W"],
    truth: Bool[np.ndarray, "H W"],
    void: Bool[np.ndarray, "H W"] | None = None,
    bound_ratio: float = BOUND_RATIO,
) -> float:
    """Returns F, the boundary F-measure of two masks, from 0 to 1.

    Two masks without an outline agree (1); one with and one without do not (0). A mask that fills the image has none.

    Args:
        prediction: pixels said to be the object.
        truth: pixels that are the object.
        void: pixels that count neither way: they are background in both masks before the outlines are drawn.
        bound_ratio: tolerance as a fraction of the diagonal, rounded up to whole pixels; from 1 on, in pixels.

    Raises:
        MaskError: the masks are not bool or differ in size.
        InputError: the tolerance is not positive, or above 1 and not whole.
    """
    check_pair(prediction, truth, void)
    radius = tolerance_pixels(truth.shape[0], truth.shape[1], bound_ratio)
    if void is not None:
        prediction, truth = prediction & ~void, truth & ~void
    rows, columns = _joint_box(prediction, truth)
    predicted, true = _outline(prediction[rows, columns]), _outline(truth[rows, columns])
    num_predicted, num_true = cv2.countNonZero(predicted), cv2.countNonZero(true)
    if num_predicted == 0 or num_true == 0:
        return 1.0 if num_predicted == num_true else 0.0
    disk = _disk(radius)
    precision = cv2.countNonZero(predicted & cv2.dilate(true, disk)) / num_predicted
    recall = cv2.countNonZero(true & cv2.dilate(predicted, disk)) / num_true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_map(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Returns the one pixel wide outline of a mask.

    As in the Berkeley benchmark, a pixel is on it if it differs from its east, south or south-east neighbour. Those
    outside the image do not count, so an object cut off by the frame has no outline along the frame.
    """
    return _outline(mask).view(np.bool_)


def tolerance_pixels(height: int, width: int, bound_ratio: float = BOUND_RATIO) -> int:
    """Returns how far apart, in pixels, two outlines may lie in an image of this size."""
    if bound_ratio >= 1 and float(bound_ratio).is_integer():
        return int(bound_ratio)
    if not 0 < bound_ratio < 1:
        raise InputError(
            f"bound_ratio {bound_ratio} is neither a fraction of the diagonal between 0 and 1 nor a whole number of "
            f"pixels; DAVIS uses {BOUND_RATIO}"
        )
    return math.ceil(bound_ratio * math.sqrt(height * height + width * width))


def _joint_box(prediction: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]) -> tuple[slice, slice]:
    """Returns the rows and columns that hold both outlines; the outline lies up to a pixel outside its mask."""
    x, y, width, height = cv2.boundingRect((prediction | truth).view(np.uint8))
    return slice(max(y - 1, 0), y + height + 1), slice(max(x - 1, 0), x + width + 1)


def _outline(mask: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    # Largest minus smallest of a pixel and its three neighbours; OpenCV leaves those outside the image out of both.
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    outline: UInt8[np.ndarray, "H W"] = cv2.morphologyEx(pixels, cv2.MORPH_GRADIENT, _WINDOW, anchor=(0, 0))
    return outline


@lru_cache(maxsize=64)
def _disk(radius: int) -> UInt8[np.ndarray, "D D"]:
    offsets = np.arange(-radius, radius + 1)
    return (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)

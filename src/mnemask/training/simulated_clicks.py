"""Where a person would click next, as RITM simulates it: deep inside the largest error (Sofiiuk et al. 2021)."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from mnemask.datasets.clips import IGNORE


class Click(NamedTuple):
    """A click on the object (`sign` 1) or beside it (−1), in pixels."""

    x: int
    y: int
    sign: int


def next_click(
    truth: UInt8[np.ndarray, "H W"], predicted: Bool[np.ndarray, "H W"], rng: np.random.Generator | None = None
) -> Click | None:
    """Returns a click in the widest stretch of wrong pixels, None where there is none.

    Args:
        truth: 1 on the object, 0 beside it, 255 where nobody knows.
        predicted: the mask so far; empty before the first click.
        rng: with it, anywhere in the inner half of that stretch; without, at its most inner pixel.
    """
    missed, added = (truth == 1) & ~predicted, (truth == 0) & predicted
    depth_missed, depth_added = depth(missed), depth(added)
    sign = 1 if depth_missed.max() >= depth_added.max() else -1
    deepest = depth_missed if sign == 1 else depth_added
    if deepest.max() == 0:
        return None
    return Click(*inner_pixel(deepest, rng), sign)


def first_clicks(
    truth: UInt8[np.ndarray, "H W"], rng: np.random.Generator, positive: int, negative: int
) -> list[Click]:
    """Returns clicks as made before any mask is seen: inside the object, and beside it, mostly near its outline."""
    inside, outside = depth(truth == 1), (truth == 0).astype(np.uint8)
    clicks = [Click(*inner_pixel(inside, rng), 1) for _ in range(positive)]
    reach = max(5.0, 2 * float(inside.max()))
    away = np.asarray(cv2.distanceTransform((truth == 0).astype(np.uint8), cv2.DIST_L2, 3))
    near = outside * (away > 2) * (away < reach) if negative else outside
    rows, columns = np.nonzero(near)
    for _ in range(negative if len(rows) else 0):
        chosen = int(rng.integers(len(rows)))
        clicks.append(Click(int(columns[chosen]), int(rows[chosen]), -1))
    return clicks


def depth(mask: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Returns how far each pixel of the mask is from its outline; the frame's border is one."""
    padded = np.pad(mask.astype(np.uint8), 1)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5))[1:-1, 1:-1]


def inner_pixel(depths: Float[np.ndarray, "H W"], rng: np.random.Generator | None) -> tuple[int, int]:
    """Returns x, y of the deepest pixel, or of any at least half as deep."""
    if rng is None:
        y, x = np.unravel_index(int(depths.argmax()), depths.shape)
        return int(x), int(y)
    rows, columns = np.nonzero(depths >= max(float(depths.max()) / 2, 1e-6))
    chosen = int(rng.integers(len(rows)))
    return int(columns[chosen]), int(rows[chosen])


def spoilt(
    truth: UInt8[np.ndarray, "H W"], other: UInt8[np.ndarray, "H W"], rng: np.random.Generator
) -> Bool[np.ndarray, "H W"]:
    """Returns the object as a tracker may have lost it: grown or shrunk, shifted, cut, or with something beside it.

    Args:
        truth: 1 on the object.
        other: 1 on another object of the picture, which may be taken along.
        rng: where the draw comes from.
    """
    mask = (truth == 1).astype(np.uint8)
    extent = max(3, int(np.sqrt(mask.sum())))
    kmn_sigma = np.ones((int(rng.integers(2, 3 + extent // 8)),) * 2, np.uint8)
    if rng.random() < 0.5:
        mask = np.asarray(cv2.dilate(mask, kmn_sigma) if rng.random() < 0.6 else cv2.erode(mask, kmn_sigma))
    if rng.random() < 0.3:
        mask = mask | (other == 1).astype(np.uint8)
    height, width = mask.shape
    for _ in range(int(rng.integers(1, 4))):
        centre = (
            inner_pixel(np.asarray(cv2.dilate(mask, np.ones((9, 9), np.uint8)), float), rng) if mask.any() else (0, 0)
        )
        axes = tuple(int(n) for n in rng.integers(2, 3 + extent // 2, 2))
        cv2.ellipse(mask, (centre, (2 * axes[0], 2 * axes[1]), float(rng.uniform(0, 180))), int(rng.random() < 0.4), -1)
    shift = rng.normal(0, extent / 20, 2)
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    moved = cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST)
    return np.asarray(moved) > 0


def drawn_box(truth: UInt8[np.ndarray, "H W"], rng: np.random.Generator | None = None) -> tuple[int, int, int, int]:
    """Returns x, y, width and height of a box around the object, with `rng` drawn as loosely as people do."""
    left, top, width, height = cv2.boundingRect((truth == 1).astype(np.uint8))
    edges = np.array([left, top, left + width, top + height], float)
    if rng is not None:
        edges += rng.normal(0, 0.04, 4) * (width, height, width, height) + (-1, -1, 1, 1)
    limit = (truth.shape[1], truth.shape[0])
    x0, y0 = (int(np.clip(round(edges[i]), 0, limit[i] - 1)) for i in (0, 1))
    x1, y1 = (int(np.clip(round(edges[i + 2]), (x0, y0)[i] + 1, limit[i])) for i in (0, 1))
    return x0, y0, x1 - x0, y1 - y0


def iou(truth: UInt8[np.ndarray, "H W"], predicted: Bool[np.ndarray, "H W"]) -> float:
    """Returns the overlap of the object and a mask, pixels that nobody knows left out; 1 where both are empty."""
    known = truth != IGNORE
    union = np.count_nonzero(known & ((truth == 1) | predicted))
    return np.count_nonzero((truth == 1) & predicted) / union if union else 1.0

"""Limbs: parts of an object that swing about a joint, so that they come out from behind it and hide there again."""

from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import UInt8

from mnemask.datasets.composite.appearance import affine_path, log_uniform, recolour, smooth_path
from mnemask.datasets.composite.layers import Layer
from mnemask.datasets.composite.turning import opaque

OUTLINE = np.array([[0, 0.35], [0.25, 0.5], [0.6, 0.32], [0.95, 0.22], [1, 0]])  # along it, half its width


def grow_limbs(rng: np.random.Generator, body: Layer, stuff: UInt8[np.ndarray, "H W 3"] | None) -> list[Layer]:
    """Returns one to three limbs of a body, which move with it, have its label and are of one make.

    Args:
        rng: where the draw comes from.
        body: what they belong to.
        stuff: a photograph whose colours they have, as clothes and wheels do; None for the body's own colours.
    """
    seen = body.pixels if body.views is None else body.views[0]
    ys, xs = np.nonzero(seen[..., 3] > 127)
    if len(xs) < 16:
        return []
    size = float(np.sqrt(len(xs)))
    long = max(6, round(size * rng.uniform(0.4, 1.1)))
    wide = max(3, round(long * log_uniform(rng, 0.12, 0.6)))
    pixels = _limb(rng, seen, stuff, long, wide)
    num_frames = len(body.to_frame)
    limbs = []
    for _ in range(int(rng.integers(1, 4))):
        joint = int(rng.integers(len(xs)))
        step = log_uniform(rng, 0.05, 1.0)
        angles = rng.uniform(0, 2 * np.pi) + smooth_path(rng, num_frames, 1)[:, 0] * step
        at = np.tile((float(xs[joint]), float(ys[joint])), (num_frames, 1))
        held = affine_path((0.1 * long, wide / 2), at, angles, np.ones((num_frames, 2)), np.zeros(num_frames))
        to_frame = body.to_frame[..., :2] @ held
        to_frame[..., 2] += body.to_frame[..., 2]
        limbs.append(replace(body, pixels=pixels, views=None, bend=None, to_frame=to_frame, shadow=(0.0, 0.0, 0.0)))
    return limbs


def _limb(
    rng: np.random.Generator,
    body: UInt8[np.ndarray, "h w 4"],
    stuff: UInt8[np.ndarray, "H W 3"] | None,
    long: int,
    wide: int,
) -> UInt8[np.ndarray, "wide long 4"]:
    """RGB times opacity, and opacity."""
    colours = recolour(rng, opaque(body), rng.uniform(0, 0.4)) if stuff is None else stuff
    height, width = colours.shape[:2]
    rows, columns = max(1, min(height, wide * 2)), max(1, min(width, long))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    patch = cv2.resize(colours[top : top + rows, left : left + columns], (long, wide), interpolation=cv2.INTER_AREA)
    along, half = (OUTLINE * (long - 1, wide - 1)).T
    middle = (wide - 1) / 2
    points = np.stack((np.r_[along, along[::-1]], middle + np.r_[half, -half[::-1]]), 1)
    opacity = np.zeros((wide, long), np.uint8)
    cv2.fillPoly(opacity, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return np.dstack((patch * (opacity[..., None] / 255), opacity)).astype(np.uint8)

"""Surfaces made of noise: what procedural pictures are drawn with."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float

Rng = np.random.Generator
Colour = tuple[int, int, int]


def noise(rng: Rng, size: tuple[int, int], largest: float, octaves: int = 5) -> Float[np.ndarray, "H W"]:
    """Returns smooth noise, mean 0 and deviation 1, whose largest forms are `largest` pixels wide."""
    height, width = size
    total = np.zeros(size, np.float32)
    for octave in range(octaves):
        cell = largest / 2**octave
        if cell < 1:
            break
        grid = rng.standard_normal((int(height / cell) + 4, int(width / cell) + 4)).astype(np.float32)
        shift = np.array([[cell, 0, -cell * (1 + rng.random())], [0, cell, -cell * (1 + rng.random())]], np.float32)
        total += 0.55**octave * cv2.warpAffine(grid, shift, (width, height), flags=cv2.INTER_CUBIC)
    even: Float[np.ndarray, "H W"] = (total - total.mean()) / (total.std() + 1e-6)
    return even


def bend(rng: Rng, image: Float[np.ndarray, "H W"], by: float, largest: float) -> Float[np.ndarray, "H W"]:
    """Returns the image with its points moved by smooth noise of `by` pixels: straight forms become grown ones."""
    height, width = image.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    dx, dy = noise(rng, image.shape, largest, 3), noise(rng, image.shape, largest, 3)
    return np.asarray(cv2.remap(image, x + by * dx, y + by * dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def colour(values: Float[np.ndarray, "H W"], colours: Sequence[Colour]) -> Float[np.ndarray, "H W 3"]:
    """Returns RGB, 0 to 255: the first colour where the value is -2 or less, the last where it is 2 or more."""
    stops = np.linspace(-2, 2, len(colours))
    table = np.stack([np.interp(np.linspace(-2, 2, 512), stops, channel) for channel in zip(*colours, strict=True)], 1)
    index = np.clip((values + 2) * (511 / 4), 0, 511).astype(np.int32)
    picture: Float[np.ndarray, "H W 3"] = table.astype(np.float32)[index]
    return picture


def lit(height_map: Float[np.ndarray, "H W"], strength: float) -> Float[np.ndarray, "H W"]:
    """Returns how bright each point of a relief is, about 1, with the light from the upper left."""
    slope = cv2.Sobel(height_map, cv2.CV_32F, 1, 0) + cv2.Sobel(height_map, cv2.CV_32F, 0, 1)
    return 1 + np.tanh(strength * np.asarray(slope))

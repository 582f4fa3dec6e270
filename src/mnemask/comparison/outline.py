"""Masks and frames as a page holds them: outlines as SVG paths, pictures as WebP, both at a modest size."""

import base64

import cv2
import numpy as np
from jaxtyping import Integer, UInt8

LONG_SIDE = 480
QUALITY = 72


def display_size(size: tuple[int, int]) -> tuple[int, int]:
    """Returns the height and width at which a page shows frames of this size; never larger than they are."""
    scale = min(1.0, LONG_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def picture_data(image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> str:
    """Returns an RGB picture at this height and width as base64 of a WebP file."""
    small = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".webp", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1]
    return base64.b64encode(data.tobytes()).decode("ascii")


def outlines(labels: Integer[np.ndarray, "H W"], size: tuple[int, int]) -> dict[str, str]:
    """Returns the outline of each object that is shown, by id, as an SVG path in pixels of a picture of this size.

    Holes are parts of the path: fill it by the even-odd rule. Coordinates are those of pixel centres.
    """
    small = cv2.resize(labels.astype(np.uint16), size[::-1], interpolation=cv2.INTER_NEAREST)
    paths = {}
    for object_id in np.unique(small[small > 0]).tolist():
        mask = (small == object_id).view(np.uint8)
        shapes, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_TC89_KCOS)
        parts = ("M" + "L".join(f"{x} {y}" for x, y in shape[:, 0].tolist()) + "Z" for shape in shapes)
        paths[str(object_id)] = "".join(parts)
    return paths

"""A picture of a frame's prompts, to check them before a run of hours."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import Bool
from torch import Tensor

from mnemask.io.visualize import colors_of, draw_overlay, encode_image
from mnemask.prompts.box import Box
from mnemask.prompts.parse import ClickAt
from mnemask.types import Frame

TEXT_SHARE = 0.05  # height of an id, as a share of the short side
FONT_HEIGHT = 22  # pixels of FONT_HERSHEY_SIMPLEX at scale 1
SHORTEST_SIDE = 240  # smaller frames are enlarged, or ids would hide their objects


def draw_preview(
    frame: Frame,
    masks: Mapping[int, Bool[Tensor, "H W"]],
    boxes: Mapping[int, Box],
    clicks: Sequence[ClickAt] = (),
) -> bytes:
    """Returns a PNG of the frame with each object tinted, outlined and labelled with its id, and boxes and clicks.

    Args:
        frame: the frame of the masks.
        masks: masks by object id; where two overlap, the first wins, as in `Tracker.step`.
        boxes: boxes by the id of their object.
        clicks: clicks in this frame; drawn as diamonds on objects, as crosses off them.
    """
    labels = np.zeros(frame.size, np.int32)
    for object_id, mask in masks.items():
        labels[mask.cpu().numpy() & (labels == 0)] = object_id
    zoom = max(1, round(SHORTEST_SIDE / min(frame.size)))
    picture = draw_overlay(frame.image.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2), _zoomed(labels, zoom))
    scale = TEXT_SHARE * min(picture.shape[:2]) / FONT_HEIGHT
    line = max(1, round(scale))
    for object_id, box in boxes.items():
        first = (zoom * box.x, zoom * box.y)
        last = (zoom * (box.x + box.width) - 1, zoom * (box.y + box.height) - 1)
        cv2.rectangle(picture, first, last, (255, 255, 255), line + 2)
        cv2.rectangle(picture, first, last, colors_of(np.array(object_id)).tolist(), line)
    for click in clicks:
        place = (round(zoom * click.x), round(zoom * click.y))
        marker = cv2.MARKER_DIAMOND if click.positive else cv2.MARKER_TILTED_CROSS
        for colour, width in (((255, 255, 255), line + 3), (colors_of(np.array(click.object_id)).tolist(), line + 1)):
            cv2.drawMarker(picture, place, colour, marker, max(6, round(14 * scale)), width)
    for object_id in masks:
        _name(picture, str(object_id), _zoomed(labels == object_id, zoom), scale)
    if not masks:
        _write(picture, "no masks in this frame", (round(8 * scale), round(30 * scale)), scale)
    return encode_image(picture, ".png")


def _zoomed(pixels: np.ndarray, zoom: int) -> np.ndarray:
    return pixels.repeat(zoom, 0).repeat(zoom, 1)


def _name(picture: np.ndarray, text: str, mask: np.ndarray, scale: float) -> None:
    """Writes an id over the innermost pixel of its mask."""
    if not mask.any():
        return
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    left = min(max(0, int(column) - width // 2), max(0, picture.shape[1] - width))
    bottom = min(max(height, int(row) + height // 2), picture.shape[0] - 2)
    _write(picture, text, (left, bottom), scale)


def _write(picture: np.ndarray, text: str, place: tuple[int, int], scale: float) -> None:
    for colour, thickness in (((0, 0, 0), 2 + round(3 * scale)), ((255, 255, 255), max(1, round(1.5 * scale)))):
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)

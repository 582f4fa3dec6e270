"""Masks drawn over their frames, in the colours of DAVIS and PASCAL VOC.

An object has the same colour in every tool that reads indexed masks.
"""

import math
from collections.abc import Iterable, Iterator
from functools import cache

import cv2
import numpy as np
from jaxtyping import Integer, UInt8, UInt16
from torch import Tensor

from mnemask.errors import FrameError, InputError, MaskError
from mnemask.types import MAX_OBJECT_ID, Frame, LabelMap, Picture, is_number, rgb_image


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


def draw_overlay(image: Picture, labels: LabelMap, *, opacity: float = 0.45) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the RGB image with each object tinted in its DAVIS colour and outlined in a brighter one.

    Args:
        image: a Frame, or uint8 RGB: a tensor [3 H W] or an array [H W 3]. Not changed.
        labels: object id at each pixel, from 0 (background) to 65535, as in `Masks.labels`.
        opacity: opacity of the tint, 0 to 1. The outline is 2 pixels wide at 480p and grows with the frame.

    Raises:
        MaskError: image and labels differ in size, or a label is not an object id.
        InputError: opacity is not from 0 to 1.
    """
    canvas = np.array(rgb_image(image).movedim(0, -1).cpu().numpy(), order="C")
    ids = labels.cpu().numpy() if isinstance(labels, Tensor) else labels
    if not isinstance(ids, np.ndarray) or ids.dtype.kind not in "iub":
        kind = f"{ids.dtype} {ids.shape}" if isinstance(ids, np.ndarray) else f"a {type(ids).__name__}"
        raise MaskError(f"labels are {kind}", "expected the object id at each pixel, [H W], such as masks.labels")
    if not is_number(opacity) or not 0 <= opacity <= 1:
        raise InputError(f"opacity is {opacity!r:.40}", "give a number from 0 to 1")
    if canvas.shape[:2] != ids.shape:
        raise MaskError(
            f"labels are {ids.shape} on an image of {canvas.shape[:2]} (height, width)", "expected the same size"
        )
    if ids.min() < 0 or ids.max() > MAX_OBJECT_ID:
        raise MaskError(f"labels run from {ids.min()} to {ids.max()}", f"expected object ids from 0 to {MAX_OBJECT_ID}")
    outlines = []
    for object_id, mask in _objects(ids.astype(np.uint16)):
        left, top, width, height = cv2.boundingRect(mask)
        box = np.s_[top : top + height, left : left + width]
        color = colors_of(np.array(object_id))
        _tint(canvas[box], mask[box], color, opacity)
        shapes, _ = cv2.findContours(mask[box], cv2.RETR_CCOMP, cv2.CHAIN_APPROX_TC89_KCOS, offset=(left, top))
        outlines.append((shapes, _brighter(color)))
    # After all tints: the outline of one object lies half on its neighbour.
    thickness = max(1, round(2 * min(ids.shape) / 480))
    for shapes, outline in outlines:
        cv2.drawContours(canvas, shapes, -1, outline, thickness, cv2.LINE_AA)
    return canvas


def _objects(ids: UInt16[np.ndarray, "H W"]) -> Iterator[tuple[int, UInt8[np.ndarray, "H W"]]]:
    """Yields each id that occurs and its mask, largest id first: one pass per id is faster than counting all values."""
    while object_id := int(ids.max()):
        yield object_id, (ids == object_id).view(np.uint8)
        _, ids = cv2.threshold(ids, object_id - 1, 0, cv2.THRESH_TOZERO_INV)


def _tint(
    canvas: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"], color: UInt8[np.ndarray, " 3"], opacity: float
) -> None:
    """Mixes the colour into the canvas where the mask is set."""
    mix = np.column_stack((np.eye(3) * (1 - opacity), color * opacity))
    cv2.copyTo(cv2.transform(canvas, mix), mask, canvas)


def _brighter(color: UInt8[np.ndarray, " 3"]) -> tuple[int, int, int]:
    red, green, blue = (min(255, round(1.3 * channel) + 70) for channel in color.tolist())
    return red, green, blue


_QUALITY = {".jpg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY}


def encode_image(rgb: UInt8[np.ndarray, "H W 3"], suffix: str, quality: int | None = None) -> bytes:
    """Returns an RGB picture as the bytes of a file.

    Args:
        rgb: the picture.
        suffix: the file's format: ".png", ".jpg" or ".webp".
        quality: of JPEG and WebP, from 0 to 100; None is OpenCV's default.
    """
    options = [] if quality is None else [_QUALITY[suffix], quality]
    return cv2.imencode(suffix, np.ascontiguousarray(rgb[..., ::-1]), options)[1].tobytes()


def contact_sheet(
    frames: Iterable[tuple[Picture, LabelMap | None]], *, columns: int = 4, tile_width: int = 320
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Returns one RGB picture of all frames, row by row, each with its overlay and its number.

    Args:
        frames: frames, or pictures as for `draw_overlay`, with their labels; None shows the bare frame.
        columns: tiles in a row.
        tile_width: pixels; the height follows from the first frame.

    Raises:
        FrameError: there is no frame.
    """
    tiles = [
        _tile(Frame.from_picture(frame, number), labels, tile_width) for number, (frame, labels) in enumerate(frames)
    ]
    if not tiles:
        raise FrameError("a contact sheet of 0 frames cannot be drawn", "give one frame or more")
    height = tiles[0].shape[0]
    columns = min(columns, len(tiles))
    sheet = np.full((math.ceil(len(tiles) / columns) * height, columns * tile_width, 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * height, number % columns * tile_width
        fitted = tile if tile.shape[0] == height else cv2.resize(tile, (tile_width, height))
        sheet[top : top + height, left : left + tile_width] = fitted
    return sheet


def _tile(frame: Frame, labels: LabelMap | None, width: int) -> UInt8[np.ndarray, "h w 3"]:
    picture = frame.image.permute(1, 2, 0).cpu().numpy() if labels is None else draw_overlay(frame.image, labels)
    height = max(1, round(width * frame.size[0] / frame.size[1]))
    tile = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    scale, text, place = width / 640, f"frame {frame.index}", (round(width * 0.02), round(width * 0.05))
    for color, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):  # white on a dark rim is legible on anything
        cv2.putText(tile, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, color, thickness, cv2.LINE_AA)
    return tile

"""Masks as run lengths and as outlines, the two ways in which annotation tools store them.

Outlines run along the edges of pixels: a mask of one pixel at (3, 5) has the corners (3, 5), (4, 5), (4, 6) and (3, 6).
So they convert back to exactly the same mask. For tools that store one outline per object, a hole or another piece is
joined to the outline by a cut of zero width.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int32, Int64

Mask = Bool[np.ndarray, "H W"]
Outline = Float[np.ndarray, "_ 2"]
"""Corners (x, y) in pixels, in order; the last is joined to the first."""

_BRUSH_SIZES = (3, 4, 8, 16)  # bits that a run's length may take in Label Studio's brush format


def box_of(mask: Mask) -> tuple[int, int, int, int]:
    """Returns left, top, width and height of the box around a mask; all 0 for an empty one."""
    left, top, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    return left, top, width, height


def border_of(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns the outermost pixels of a picture or mask; corners count twice."""
    return np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


def pieces_of(
    mask: Mask, connectivity: Literal[4, 8] = 8
) -> tuple[Int32[np.ndarray, "H W"], Int32[np.ndarray, " pieces"]]:
    """Returns the number of the piece at each pixel, 0 outside, and the area of each piece, 0 for number 0."""
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return pieces, areas


def run_lengths(mask: Mask) -> Int64[np.ndarray, " N"]:
    """Returns the lengths of a mask's runs, row by row and beginning with background, so the first may be 0."""
    flat = np.concatenate(([False], mask.ravel()))
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), mask.size)
    return np.diff(ends, prepend=0)


def mask_from_run_lengths(runs: Sequence[int] | Int64[np.ndarray, " N"], height: int, width: int) -> Mask:
    """Returns the mask of run lengths from `run_lengths`; raises ValueError if they do not fill it."""
    lengths = np.asarray(runs, np.int64)
    if lengths.ndim != 1 or ((lengths < 0) | (lengths > height * width)).any() or lengths.sum() != height * width:
        raise ValueError(f"run lengths of {sum(lengths.ravel().tolist())} pixels for {width}x{height}")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)


def runs_of_text(text: str) -> Int64[np.ndarray, " N"]:
    """Returns the run lengths, column by column, in COCO's compressed `counts`; raises ValueError for damaged ones.

    Each consists of characters with 5 bits, the lowest first, and a sixth bit if more follow; from the fourth on, a run
    is stored as its difference from the run two before it. For a text that is cut off, pycocotools returns whatever
    happens to be in memory.
    """
    codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("compressed run lengths that are cut off or damaged")
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.append(0, ends[:-1] + 1)
    sizes = ends - starts + 1
    if sizes.max() > 7:
        raise ValueError("a compressed run length of more than 32 bits")
    places = np.arange(len(codes)) - np.repeat(starts, sizes)
    runs = np.add.reduceat((codes & 31) << (5 * places), starts)
    runs = np.where(codes[ends] & 16, runs - (np.int64(1) << (5 * sizes)), runs)
    for chain in (runs[1::2], runs[2::2]):
        np.cumsum(chain, out=chain)
    return runs


def brush_of(mask: Mask) -> list[int]:
    """Returns a mask as bytes of Label Studio's brush format: bit-packed runs of RGBA bytes, 255 in the mask."""
    bits = [f"{4 * mask.size:032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in _BRUSH_SIZES)]
    for place, run in enumerate(run_lengths(mask).tolist()):
        value, left = "11111111" if place % 2 else "00000000", 4 * run
        while left:
            length = min(left, 1 << 16)
            kind = next(kind for kind, size in enumerate(_BRUSH_SIZES) if length <= 1 << size)
            bits.append(f"1{kind:02b}{length - 1:0{_BRUSH_SIZES[kind]}b}{value}")
            left -= length
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def mask_of_brush(data: Sequence[int], height: int, width: int) -> Mask:
    """Returns the mask in a brush's bytes; raises ValueError if they are damaged or of another size."""
    raw = np.asarray(data)
    if raw.ndim != 1 or raw.dtype.kind not in "iu" or len(raw) < 7 or raw.min() < 0 or raw.max() > 255:
        raise ValueError("brush run lengths that are not a list of bytes")
    text = "".join(map("{:08b}".format, raw.tolist()))
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        if at > len(text):
            raise ValueError("brush run lengths that end too early")
        return int(text[at - count : at], 2)

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    if total != 4 * height * width:
        raise ValueError(f"brush run lengths of {total // 4} pixels for {width}x{height}")
    values: list[int] = []
    lengths: list[int] = []
    done = 0
    while done < total:
        same = take(1)
        length = take(sizes[take(2)]) + 1
        for _ in range(1 if same else length):
            values.append(take(word))
            lengths.append(length if same else 1)
        done += length
    if done != total:
        raise ValueError("brush run lengths that do not fill the picture")
    pixels = np.repeat(np.asarray(values), lengths).reshape(height, width, 4)
    return np.asarray(pixels[..., 3] > 127)


def outlines_of(mask: Mask, tolerance: float = 0.0) -> list[Outline]:
    """Returns the outline of each piece of a mask, the largest first, with its holes cut in.

    Args:
        mask: mask of one object.
        tolerance: pixels by which an outline may deviate, for fewer corners; at 0 it is exact.
    """
    left, top, width, height = box_of(mask)
    if not width:
        return []
    # At double size, each corner of the outline has a pixel of its own.
    doubled = np.repeat(np.repeat(mask[top : top + height, left : left + width], 2, 0), 2, 1).view(np.uint8)
    found, tree = cv2.findContours(np.pad(doubled, 1), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [_corners(each, tolerance) + np.array((left, top)) for each in found]
    pieces = []
    for number, (_, _, child, parent) in enumerate(tree[0].tolist()):
        if parent >= 0 or len(rings[number]) < 3:
            continue
        holes = []
        while child >= 0:
            holes.append(rings[child])
            child = tree[0][child][0]
        pieces.append(joined([rings[number], *(hole for hole in holes if len(hole) >= 3)]))
    return sorted(pieces, key=lambda piece: -abs(_signed_area(piece)))


def joined(rings: Sequence[Outline]) -> Outline:
    """Returns several outlines as one, joined by cuts between their nearest corners."""
    whole, *others = rings
    for ring in others:
        distances = ((whole[:, None] - ring[None]) ** 2).sum(2)
        here, there = np.unravel_index(int(distances.argmin()), distances.shape)
        whole = np.concatenate((whole[: here + 1], ring[there:], ring[: there + 1], whole[here:]))
    return whole


def filled(outlines: Iterable[Outline], height: int, width: int) -> Mask:
    """Returns the pixels whose centres are inside the outlines, each filled by the even-odd rule."""
    mask = np.zeros((height, width), bool)
    for outline in outlines:
        mask |= _filled(np.asarray(outline, float), height, width)
    return mask


def _corners(contour: Int32[np.ndarray, "_ 1 2"], tolerance: float) -> Outline:
    """Returns the corners, at single size, along a contour that was found at double size with a border."""
    points = contour[:, 0] // 2  # doubled pixel i, with the border at i + 1, has its corner at (i + 1) // 2
    points = points[(points != np.roll(points, 1, 0)).any(1)]
    # Points on a straight line are redundant.
    before, after = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
    points = points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    if tolerance and len(points) > 3:
        fewer = cv2.approxPolyDP(points.astype(np.float32)[:, None], tolerance, closed=True)[:, 0]
        points = fewer if len(fewer) >= 3 else points  # a piece smaller than the tolerance is kept as it is
    corners: Outline = points.astype(float)
    return corners


def _signed_area(outline: Outline) -> float:
    x, y = outline.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def _filled(outline: Outline, height: int, width: int) -> Mask:
    (x0, y0), (x1, y1) = outline.T, np.roll(outline, -1, 0).T
    slanted = y0 != y1
    x0, y0, x1, y1 = (each[slanted] for each in (x0, y0, x1, y1))
    low, high = np.minimum(y0, y1), np.maximum(y0, y1)
    turns = np.zeros((height, width + 1), bool)  # where inside begins or ends
    for row in range(max(0, int(np.floor(outline[:, 1].min()))), min(height, int(np.ceil(outline[:, 1].max())))):
        middle = row + 0.5
        crossed = (low <= middle) & (middle < high)
        at = x0[crossed] + (middle - y0[crossed]) * (x1[crossed] - x0[crossed]) / (y1[crossed] - y0[crossed])
        np.logical_xor.at(turns[row], np.clip(np.ceil(at - 0.5), 0, width).astype(int), True)
    return np.logical_xor.accumulate(turns, axis=1)[:, :width]

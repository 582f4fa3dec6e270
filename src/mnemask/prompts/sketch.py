"""Masks from boxes and clicks (by a model or by colour), polygons and strokes."""

import logging
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int32, UInt8
from torch import Tensor

from mnemask.errors import CheckpointError, InputError, MaskError
from mnemask.io.shapes import border_of, pieces_of
from mnemask.model.stcn import STCN
from mnemask.prompts.box import Box, clip_box, doubts_of_mask
from mnemask.prompts.clicks import ClickSegmenter, Place
from mnemask.types import Frame, Picture, check_object_id, rgb_image

log = logging.getLogger(__name__)

Points = Sequence[Sequence[int | float]]

# Mean overlap measured on 64 boxes of photographs and video: 0.54 for the box itself, 0.70 for plain GrabCut, 0.74
# with the smoothing and sure core below. More pixels or rounds changed it by less than 0.01 and took twice as long.
WORKING_SIDE = 320
ROUNDS = 3
SMOOTHING = 30.0
SURROUNDINGS = 0.5  # of the box's size on each side, to learn the background from
SURE_CORE = 0.2  # of the box's size
SMALLEST_SHARE = 0.01  # of the box; below, GrabCut took everything for background
STRAY_SHARE = 0.1  # of the largest piece
HOLE_SHARE = 0.05  # of the mask
BARELY_MORE = 1.5  # times the area of the strokes; below, GrabCut took nearly everything around them for background
STROKE_REACH = 0.15  # of the strokes' extent: distance around them within which the object is expected at first


def mask_from_box(image: Picture, box: tuple[int, int, int, int]) -> Bool[Tensor, "H W"]:
    """Returns the mask of the object that fills most of a box, found by its colours (GrabCut). Deterministic.

    Args:
        image: a Frame, or uint8 RGB: a tensor [3 H W] or an array [H W 3].
        box: x, y, width and height in pixels, such as a Box. Parts outside the image are cut off, with a warning; a
            warning is also logged if the mask looks wrong: it nearly fills the box, or only a small part of it.

    Raises:
        MaskError: the box is empty, lies mostly outside the image or covers all of it, looks like x1, y1, x2, y2, or
            nothing in it stands out.
    """
    rgb = _rgb(image)
    inside, doubts = clip_box(Box.of(box), (rgb.shape[0], rgb.shape[1]))
    x, y, width, height = inside
    margin_x, margin_y = max(8, round(SURROUNDINGS * width)), max(8, round(SURROUNDINGS * height))
    left, top = max(0, x - margin_x), max(0, y - margin_y)
    window = np.s_[top : y + height + margin_y, left : x + width + margin_x]
    hints = np.full(rgb[window].shape[:2], cv2.GC_BGD, np.uint8)
    inner = np.full((height, width), cv2.GC_PR_FGD, np.uint8)
    core = ((width / 2, height / 2), (SURE_CORE * width, SURE_CORE * height), 0)
    hints[y - top : y - top + height, x - left : x - left + width] = cv2.ellipse(inner, core, cv2.GC_FGD, -1)
    found = _without_strays(_grab_cut(rgb[window], hints))
    if found.sum() < SMALLEST_SHARE * width * height:
        raise MaskError(f"nothing stands out in box {inside}", "draw it closer around the object, or give a mask")
    mask = torch.zeros(rgb.shape[:2], dtype=torch.bool, device="cpu")
    mask[window] = torch.from_numpy(_fill_holes(found))
    for doubt in (*doubts, *doubts_of_mask(mask.numpy(), inside)):
        log.warning("%s", doubt)
    return mask


def mask_from_polygon(points: Points, size: tuple[int, int]) -> Bool[Tensor, "H W"]:
    """Returns the mask of a polygon, including its outline; self-overlaps are filled by the even-odd rule.

    Args:
        points: x, y of at least three corners in pixels. Parts outside the image are cut off.
        size: height and width of the image.

    Raises:
        MaskError: there are too few points, or the polygon lies entirely outside the image.
    """
    corners = _pixels(points)
    if len(corners) < 3:
        raise MaskError(f"a polygon of {len(corners)} points has no inside", "give at least 3")
    try:
        height, width = map(operator.index, size)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise MaskError(f"size {size!r:.40} is not an image size", "give the height and width in pixels")
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [corners], 1)
    if not mask.any():
        raise MaskError(f"the polygon lies outside the image of {width}x{height} pixels", "give x, y from the top left")
    return torch.from_numpy(mask.astype(bool))


def mask_from_scribble(image: Picture, strokes: Mapping[int, Sequence[Points]]) -> dict[int, Bool[Tensor, "H W"]]:
    """Returns the mask of each object that strokes were drawn on, found by its colours (GrabCut). Deterministic.

    Only regions connected to an object's strokes belong to it, and no two masks overlap.

    Args:
        image: a Frame, or uint8 RGB: a tensor [3 H W] or an array [H W 3].
        strokes: lines drawn on each object, by object id, each a list of x, y in pixels; optional lines on the
            background under id 0.

    Raises:
        MaskError: an object has no stroke inside the image, its strokes lie on those of others, or there is no object.
        ObjectIdError: an id is not a whole number from 1 to 65535.
    """
    rgb = _rgb(image)
    if not isinstance(strokes, Mapping):
        raise MaskError(f"strokes are a {type(strokes).__name__}", "give a list of lines by object id, {1: [line]}")
    given = {object_id: _lines(lines, object_id) for object_id, lines in strokes.items()}
    drawn = {i: _draw(lines, i, rgb.shape[:2]) for i, lines in given.items() if i != 0 or lines}
    objects = [check_object_id(object_id) for object_id in drawn if object_id != 0]
    if not objects:
        raise MaskError("no strokes on an object are given", "draw at least one on each object")
    nothing = np.zeros(rgb.shape[:2], bool)
    apart = {object_id: sum((drawn[o] for o in drawn if o != object_id), nothing) for object_id in objects}
    masks = {object_id: _around_strokes(rgb, drawn[object_id], apart[object_id]) for object_id in objects}
    claimed = np.sum([*masks.values()], axis=0) > 1
    nearest = np.argmin([_distance_to(drawn[object_id]) for object_id in objects], axis=0)
    found = {i: masks[i] & (~claimed | (nearest == row)) for row, i in enumerate(objects)}
    for object_id, mask in found.items():
        if not mask.any():
            raise MaskError(f"the strokes of object {object_id} lie on those of others", "draw them apart")
        if mask.sum() < BARELY_MORE * drawn[object_id].sum():
            log.warning(
                "the mask of object %d is hardly larger than its strokes; draw them across all of it, or click on it",
                object_id,
            )
    return {object_id: torch.from_numpy(mask) for object_id, mask in found.items()}


def _around_strokes(
    rgb: UInt8[np.ndarray, "H W 3"], own: Bool[np.ndarray, "H W"], others: Bool[np.ndarray, "H W"]
) -> Bool[np.ndarray, "H W"]:
    rows, columns = np.nonzero(own.any(axis=1))[0], np.nonzero(own.any(axis=0))[0]
    extent = int(max(np.ptp(rows), np.ptp(columns), max(own.shape) // 10)) + 1
    window = np.s_[
        max(0, rows[0] - extent) : rows[-1] + extent + 1, max(0, columns[0] - extent) : columns[-1] + extent + 1
    ]
    distance = _distance_to(own[window])
    reach = min(STROKE_REACH * extent, float(np.median(distance)))  # leaves background around long strokes too
    hints = np.where(distance < reach, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    hints[others[window]] = cv2.GC_BGD
    hints[own[window]] = cv2.GC_FGD
    pieces, _ = pieces_of(_grab_cut(rgb[window], hints), connectivity=4)
    touched = np.unique(pieces[own[window] & (pieces > 0)])
    mask = np.zeros(own.shape, bool)
    mask[window] = _fill_holes(np.isin(pieces, touched)) & ~others[window]
    mask |= own
    return mask


def _grab_cut(rgb: UInt8[np.ndarray, "H W 3"], hints: UInt8[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Returns the foreground, computed at `WORKING_SIDE`: edges are soft anyway, and time grows with the area."""
    height, width = hints.shape
    scale = min(1.0, WORKING_SIDE / max(height, width))
    small_size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(rgb, small_size, interpolation=cv2.INTER_AREA)
    small = cv2.bilateralFilter(small, 5, SMOOTHING, 3)  # texture would split the colour models
    state = cv2.resize(hints, small_size, interpolation=cv2.INTER_NEAREST)
    if len(np.unique(state % 2)) < 2:  # the hints for foreground are odd, those for background even
        raise MaskError("there is too little object or background to tell them apart", "give a mask")
    cv2.setRNGSeed(0)
    whole = (0, 0, *small_size)  # ignored: GrabCut starts from the hints
    cv2.grabCut(small, state, whole, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    foreground = ((state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD)).astype(np.uint8)
    found: Bool[np.ndarray, "H W"] = cv2.resize(foreground * 255, (width, height)) > 127
    return found


def _without_strays(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    pieces, areas = pieces_of(mask, connectivity=4)
    large = (areas > 0) & (areas >= STRAY_SHARE * areas.max())
    kept: Bool[np.ndarray, "H W"] = large[pieces]
    return kept


def _fill_holes(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Returns the mask with its small holes filled; larger ones, as in a mug's handle, are part of the shape."""
    gaps, areas = pieces_of(~mask, connectivity=4)
    small = areas <= HOLE_SHARE * mask.sum()
    small[0] = False  # the mask itself
    small[border_of(gaps)] = False
    filled: Bool[np.ndarray, "H W"] = mask | small[gaps]
    return filled


def _distance_to(mask: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5))


def _lines(lines: Sequence[Points], object_id: int) -> list[Int32[np.ndarray, "N 2"]]:
    """Returns the strokes of an object, or of the background, that have points."""
    try:
        each = [] if lines is None else list(lines)
    except TypeError:
        raise MaskError(
            f"the strokes of object {object_id} are {lines!r:.60}", "give a list of lines, {1: [[(x, y), (x, y)]]}"
        ) from None
    return [points for points in map(_pixels, each) if len(points)]


def _draw(lines: list[Int32[np.ndarray, "N 2"]], object_id: int, size: tuple[int, ...]) -> Bool[np.ndarray, "H W"]:
    drawn = np.zeros(size, np.uint8)
    thickness = max(2, max(size) // 200)
    for line in lines:
        points = np.repeat(line, 2 if len(line) == 1 else 1, axis=0)  # a single point would draw nothing
        cv2.polylines(drawn, [points], isClosed=False, color=1, thickness=thickness)
    if not drawn.any():
        raise MaskError(
            f"no stroke of object {object_id} lies in the image of {size[1]}x{size[0]} pixels", "draw one inside"
        )
    return drawn.astype(bool)


def _pixels(points: Points) -> Int32[np.ndarray, "N 2"]:
    try:
        array = np.array([[float(number) for number in point] for point in points], np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.zeros((1, 1))
    if array.size and (array.ndim != 2 or array.shape[1] != 2):
        raise MaskError(f"{points!r:.60} are not points", "give a list of x, y in pixels, [(x, y), (x, y)]")
    array = array.reshape(-1, 2)
    if not (inside := np.all(np.abs(array) < 2**20, axis=1)).all():  # NaN is not less than anything
        wrong = tuple(array[~inside][0].tolist())
        raise MaskError(f"point {wrong} is not a position in an image", "give x, y in pixels")
    if (array >= 0).all() and (array <= 1).all() and (array % 1).any():
        raise MaskError(f"points {points!r:.60} seem to be in fractions of the image", "give x, y in pixels")
    return np.round(array).astype(np.int32)


def _rgb(image: Picture) -> UInt8[np.ndarray, "H W 3"]:
    return np.ascontiguousarray(rgb_image(image).movedim(0, -1).cpu().numpy())


@dataclass(frozen=True, slots=True)
class PointPrompt:
    """The box and clicks of one object in a frame.

    Attributes:
        box: the box around it, or None.
        on: clicks on it.
        beside: clicks off it.
    """

    box: Box | None = None
    on: Sequence[Place] = ()
    beside: Sequence[Place] = ()

    @property
    def clicks(self) -> int:
        """The number of clicks."""
        return len(self.on) + len(self.beside)


class PromptSegmenter:
    """Segments objects from boxes and clicks; until `prepare`, from boxes only, by colour (GrabCut)."""

    def __init__(self) -> None:
        self._segmenter: ClickSegmenter | None = None

    def prepare(self, model: STCN, *, clicks: bool) -> list[str]:
        """Uses a model's key encoder from now on; returns notes for the user.

        Args:
            model: the model that encodes the frames.
            clicks: whether there are clicks, which only a click head can use.

        Raises:
            CheckpointError: there are clicks, but no click head for this model.
        """
        try:
            self._segmenter = ClickSegmenter(model)
        except CheckpointError:
            if clicks:
                raise
            return ["there is no click head for this model, so boxes are segmented by colour"]
        return []

    def find(
        self, frame: Frame, pointed: Mapping[int, PointPrompt], marked: Mapping[int, Bool[Tensor, "H W"] | None]
    ) -> dict[int, Bool[Tensor, "H W"]]:
        """Returns the mask of each object with a box or clicks in a frame.

        Args:
            frame: the frame.
            pointed: box and clicks of each object, by id.
            marked: masks of the same frame, which clicks correct.

        Raises:
            MaskError: nothing was found of an object, or its box cannot be right.
            InputError: there are clicks, but no model to segment them.
        """
        if not pointed:
            return {}
        if self._segmenter is None:
            return {object_id: _by_colour(frame, how) for object_id, how in pointed.items()}
        session, masks = self._segmenter.open(frame), {}
        for object_id, how in pointed.items():
            masks[object_id] = mask = session.mask(how.on, how.beside, how.box, marked.get(object_id))
            if not bool(mask.any()):
                raise MaskError(
                    f"object {object_id} was not found at its clicks or box in frame {frame.index}",
                    "click on the middle of it, or give a mask",
                )
            if how.box is not None and not how.clicks:
                for doubt in doubts_of_mask(mask.numpy(), clip_box(how.box, frame.size)[0]):
                    log.warning("%s", doubt)
        return masks


def _by_colour(frame: Frame, how: PointPrompt) -> Bool[Tensor, "H W"]:
    if how.box is None or how.clicks:
        raise InputError("clicks need a model to encode the frame", "call prepare(model) first")
    return mask_from_box(frame, how.box)

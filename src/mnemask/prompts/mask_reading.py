"""The content of a mask file, and which of its pixels belong to no object (void)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Int32, UInt8

from mnemask.errors import MaskError
from mnemask.prompts.image_file import SQUARE, Grey

# A void contour, such as the one of 5 pixels that PASCAL VOC draws around each object, lies between the objects and the
# rest, and little of it survives an opening with a square of this side; a solid area of 255 does. For contours of 2 to
# 6 pixels around shapes in 761 photographs of 85 to 350 pixels, these call 750 void, and none of 729 solid areas.
CONTOUR_SIDE = 9  # pixels, or more in larger pictures:
CONTOUR_SHARE_OF_SIDE = 0.02
SOLID_SHARE = 0.25
HUGGED_SHARE = 0.4  # of the objects' outer rim
SMALL_ID = 10  # ids from here on are painted grey levels, and so is 255 among them
# KITTI MOTS and MOTSChallenge give cars and pedestrians ids of 1000 * class + number, and a region to ignore this one.
MOTS_IDS, MOTS_IGNORED = range(1000, 3000), 10_000

RGB = tuple[int, int, int]
Void = int | Literal["auto", "none"]


@dataclass(frozen=True, slots=True)
class MaskReading:
    """The content of a mask file.

    Attributes:
        kind: how the objects are marked.
        labels: the object id at each pixel, 0 for the background and for void.
        num_void: number of pixels that belong to no object (255 in an id map, or its colour).
        num_blended: number of pixels that mix their neighbours' values; they get the nearest other label in `labels`.
        colours: the RGB colour of each label in the file, if objects are painted or the file has a palette.
        notes: sentences that say what was guessed.
    """

    kind: Literal["ids", "black and white", "colours", "transparency"]
    labels: Int32[np.ndarray, "H W"]
    num_void: int = 0
    num_blended: int = 0
    colours: Mapping[int, RGB] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def ids(self) -> list[int]:
        """The labels that occur, without the background."""
        return [int(i) for i in np.unique(self.labels) if i]


def void_area(
    values: Grey | Int32[np.ndarray, "H W"], top: int, blended: Bool[np.ndarray, "H W"]
) -> tuple[Bool[np.ndarray, "H W"], tuple[str, ...]]:
    """Returns where `top` marks void, and notes on what was guessed; raises MaskError if that is ambiguous.

    A contour that is thin and lies between the objects and the rest is void; a solid area is an object or ambiguous.
    """
    found = set(np.unique(values[~blended]).tolist())
    for other in (255, 254, top - 1):  # contours of these are void too, and solid areas are objects
        alone = found.isdisjoint((other - 1, other + 1, top))  # so it is not one of many consecutive ids
        if other in found and alone and len(found) > 2:
            area = values == other
            if is_contour(area, (values > 0) & ~area):
                return area, (f"the contour of {other} around the objects is void",)
    area = values == top
    ids = sorted(i for i in found if 0 < i < top)
    if not area.any() or not ids:
        beside = found - {0, MOTS_IGNORED}
        is_mots = MOTS_IGNORED in found and bool(beside) and all(i in MOTS_IDS for i in beside)
        return np.zeros(area.shape, bool), (_doubt_of(MOTS_IGNORED),) if is_mots else ()
    others = (values > 0) & ~area
    if is_contour(area, others):
        return area, (f"the contour of {top} around the objects is void",)
    if len(ids) == 1 and abs(2 * ids[0] - top) <= top // 8 and is_contour(others & ~blended, area):
        raise MaskError(
            f"marks a contour of {ids[0]} around {top}, which may be the unknown region of a trimap or an object",
            f"declare it void (--void {ids[0]}, void={ids[0]}) or an object (--void none)",
        )
    if min(ids) < SMALL_ID:
        shown = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
        raise MaskError(
            f"marks a solid area of {int(area.sum())} pixels with {top} beside ids {shown}, which may be an object "
            "or void",
            f"declare it void (--void {top}, void={top}) or an object (--void none)",
        )
    return np.zeros(area.shape, bool), (_doubt_of(top),)


def _doubt_of(value: int) -> str:
    return f"the solid area of {value} is an object; if it is void, give --void {value}"


def is_contour(area: Bool[np.ndarray, "H W"], around: Bool[np.ndarray, "H W"]) -> bool:
    """Returns whether an area is thin, and makes up at least `HUGGED_SHARE` of the outer rim of `around`."""
    side = max(CONTOUR_SIDE, round(CONTOUR_SHARE_OF_SIDE * min(area.shape))) | 1
    # Outside the picture counts as not void, so that a contour along its edge is as thin as elsewhere.
    eroded = cv2.erode(area.astype(np.uint8), np.ones((side, side)), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    solid = cv2.dilate(eroded, np.ones((side, side)))
    rim = (np.asarray(cv2.dilate(around.astype(np.uint8), SQUARE)) > 0) & ~around
    hugged = float(area[rim].mean()) if rim.any() else 0.0
    return float(solid.sum()) < SOLID_SHARE * float(area.sum()) and hugged >= HUGGED_SHARE


def rgb_of(colour: UInt8[np.ndarray, " 3"]) -> RGB:
    """Returns a colour as a tuple."""
    red, green, blue = colour.tolist()
    return red, green, blue

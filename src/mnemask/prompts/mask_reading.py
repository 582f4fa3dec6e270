"""What was found in a mask file, and which of its pixels belong to no object."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Int32, UInt8

from mnemask.errors import MaskError
from mnemask.prompts.image_file import SQUARE, Grey

# A contour of void, as PASCAL VOC draws it 5 pixels wide around each object: little of it is left where a square of
# this side must fit in, and it lies between the objects and the rest. An area of 255 is none. Of contours 2 to 6 pixels
# wide around the shapes of 761 photographs of 85 to 350 pixels 750 are void by this, of 729 areas none.
CONTOUR_SIDE = 9  # pixels, and more in larger pictures:
CONTOUR_SHARE_OF_SIDE = 0.02
SOLID_SHARE = 0.25
HUGGED_SHARE = 0.4  # of the objects' outer rim
SMALL_ID = 10  # ids from here on are grey levels that somebody painted, and so is 255 beside them

RGB = tuple[int, int, int]
Void = int | Literal["auto", "none"]


@dataclass(frozen=True, slots=True)
class MaskReading:
    """What was found in a mask file.

    Attributes:
        kind: how the objects are marked.
        labels: the object id at each pixel, 0 for the background and for void.
        void: pixels marked as belonging to nobody (255 in a map of ids, or its colour).
        blended: pixels with a mixture of their neighbours' values; `labels` gives them to the nearest plain pixel.
        colours: the RGB colour of each label in the file, where objects are painted or the file has a palette.
        notes: what was guessed, in words.
    """

    kind: Literal["ids", "black and white", "colours", "transparency"]
    labels: Int32[np.ndarray, "H W"]
    void: int = 0
    blended: int = 0
    colours: Mapping[int, RGB] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def ids(self) -> list[int]:
        """The labels that occur, without the background."""
        return [int(i) for i in np.unique(self.labels) if i]


def void_area(
    values: Grey | Int32[np.ndarray, "H W"], top: int, blended: Bool[np.ndarray, "H W"]
) -> tuple[Bool[np.ndarray, "H W"], tuple[str, ...]]:
    """Returns where `top` marks what belongs to nobody, and what was guessed; raises MaskError where it may be either.

    A contour is thin and lies between the objects and the rest; a solid area is an object, or is asked about.
    """
    found = set(np.unique(values[~blended]).tolist())
    for other in (255, 254, top - 1):  # a contour of these is void too, and an area is an object
        alone = found.isdisjoint((other - 1, other + 1, top))  # no id of many that are counted
        if other in found and alone and len(found) > 2:
            area = values == other
            if is_contour(area, (values > 0) & ~area):
                return area, (f"the contour of {other} around the objects belongs to none of them (void)",)
    area = values == top
    ids = sorted(i for i in found if 0 < i < top)
    if not area.any() or not ids:
        return np.zeros(area.shape, bool), ()
    others = (values > 0) & ~area
    if is_contour(area, others):
        return area, (f"the contour of {top} around the objects belongs to none of them (void)",)
    if len(ids) == 1 and abs(2 * ids[0] - top) <= top // 8 and is_contour(others & ~blended, area):
        raise MaskError(
            f"marks a contour of {ids[0]} around {top}, as a trimap does where it knows nothing, or an object",
            f"say that it belongs to none (--void {ids[0]}, void={ids[0]}) or is an object (--void none)",
        )
    if min(ids) < SMALL_ID:
        shown = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
        raise MaskError(
            f"marks a solid area of {int(area.sum())} pixels with {top} beside ids {shown}, which may be an object "
            "or what belongs to none",
            f"say that it is void (--void {top}, void={top}) or an object (--void none)",
        )
    return np.zeros(area.shape, bool), (f"the solid area of {top} is an object; if it belongs to none, --void {top}",)


def is_contour(area: Bool[np.ndarray, "H W"], around: Bool[np.ndarray, "H W"]) -> bool:
    """Returns whether an area is thin, and most of what lies next to other areas."""
    side = max(CONTOUR_SIDE, round(CONTOUR_SHARE_OF_SIDE * min(area.shape))) | 1
    # What is beyond the picture is not void: a contour along its edge is as thin as elsewhere.
    eroded = cv2.erode(area.astype(np.uint8), np.ones((side, side)), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    solid = cv2.dilate(eroded, np.ones((side, side)))
    rim = (np.asarray(cv2.dilate(around.astype(np.uint8), SQUARE)) > 0) & ~around
    hugged = float(area[rim].mean()) if rim.any() else 0.0
    return float(solid.sum()) < SOLID_SHARE * float(area.sum()) and hugged >= HUGGED_SHARE


def rgb_of(colour: UInt8[np.ndarray, " 3"]) -> RGB:
    """Returns a colour as a tuple."""
    red, green, blue = colour.tolist()
    return red, green, blue

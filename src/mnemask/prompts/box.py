"""A rectangle around an object: what was typed, what of it lies in the picture, and whether its mask can be right."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from mnemask.errors import MaskError

BoxFormat = Literal["xywh", "xyxy"]

LARGEST_SHARE = 0.98  # of the image; above, there is no background to learn from
INSIDE_SHARE = 0.5  # of the box must lie in the image, and so must its centre
PROBABLY_XYXY = 0.9  # of the box inside; below, x1,y1,x2,y2 that would fit was meant
# Of 31 boxes of video, with masks of 0.22 to 0.90 overlap, none of the better half is doubted by these.
FILLED = 0.85  # of the box: GrabCut took nearly all of it for the object
LEFT_OVER = 0.12  # of the box: ... or nearly all for background
SHORT_SIDE = 0.6  # of the box's side that the mask must reach, or it is a part of the object
_WHOLE = re.compile(r" *[+-]?\d{1,9} *")  # Python refuses to read thousands of digits, and no pixel has ten


class Box(NamedTuple):
    """A rectangle in pixels; `x` and `y` are its left and top edge."""

    x: int
    y: int
    width: int
    height: int

    def __str__(self) -> str:
        return ",".join(map(str, self))

    @classmethod
    def of(cls, values: object) -> "Box":
        """Returns the box of four numbers, or of a box, as a caller gives them, rounded to whole pixels.

        Raises:
            MaskError: for anything else, fractions of the image's size among them.
        """
        plain = values.tolist() if isinstance(values, np.ndarray | Tensor) else values
        given = list(plain) if isinstance(plain, Sequence) and not isinstance(plain, str) else []
        kinds = int | float | np.integer | np.floating
        numbers = [float(each) for each in given if isinstance(each, kinds) and -(2**31) < each < 2**31]  # no NaN
        if len(given) != 4 or len(numbers) != 4:
            raise MaskError(f"box {values!r:.80} is not four numbers", "give x, y, width and height in pixels")
        if max(numbers) <= 1 and any(each != int(each) for each in numbers):
            raise MaskError(
                f"box {values!r:.80} seems to be in fractions of the image", "give x, y, width and height in pixels"
            )
        return (type(values) if isinstance(values, Box) else cls)(*map(round, numbers))

    @property
    def form(self) -> str:
        """What its four numbers are, as it was given and is shown."""
        return "x,y,width,height"

    @property
    def in_words(self) -> str:
        """Both corners and the size, as "120,80 to 320,240 (200x160)"; the second corner is just outside."""
        corner = f"{self.x + self.width},{self.y + self.height}"
        return f"{self.x},{self.y} to {corner} ({self.width}x{self.height})"


class CornerBox(Box):
    """A box that was given by its left top corner and its right bottom one, which is just outside."""

    def __str__(self) -> str:
        return f"{self.x},{self.y},{self.x + self.width},{self.y + self.height}"

    @property
    def form(self) -> str:
        """What its four numbers are, as it was given and is shown."""
        return "x1,y1,x2,y2"


def parse_box(text: str, box_format: BoxFormat = "xywh") -> Box:
    """Returns the box of "x,y,width,height", or of "x1,y1,x2,y2", in whole pixels; raises MaskError for anything else.

    Args:
        text: as typed.
        box_format: "xywh", or "xyxy" for the left top corner and the right bottom one, which is just outside.
    """
    kind = Box if box_format == "xywh" else CornerBox
    example = kind(120, 80, 200, 160)
    parts = text.split(",")
    if len(parts) != 4 or not all(_WHOLE.fullmatch(part) for part in parts):
        raise MaskError(f"box {text[:60]!r} is not {example.form}", f"give whole pixels, such as {example}")
    x, y, width, height = map(int, parts)
    if box_format == "xyxy":
        width, height = width - x, height - y
    if width < 1 or height < 1:
        way_out = (
            "width and height must be at least 1"
            if box_format == "xywh"
            else "x2 must exceed x1 and y2 exceed y1; if it is x,y,width,height, leave --box-format out"
        )
        raise MaskError(f"box {text!r} ({example.form}) is {width}x{height} pixels", way_out)
    return kind(x, y, width, height)


def clip_box(box: Box, size: tuple[int, int]) -> tuple[Box, list[str]]:
    """Returns the part of a box in an image, and what is doubtful about it.

    Args:
        box: as the user gave it.
        size: height and width of the image.

    Raises:
        MaskError: the box is empty, lies outside for the most part, or covers all of the image, or its numbers look
            like two corners.
    """
    height, width = size
    image = f"the image of {width}x{height} pixels"
    if box.width < 1 or box.height < 1:
        raise MaskError(f"box {box} is empty", "width and height must be at least 1 pixel")
    left, top = max(0, box.x), max(0, box.y)
    right, bottom = min(width, box.x + box.width), min(height, box.y + box.height)
    if right <= left or bottom <= top:
        raise MaskError(f"box {box} lies outside {image}", _or_corners(box, size) or "give one that is inside")
    inside = type(box)(left, top, right - left, bottom - top)
    if inside.width * inside.height > LARGEST_SHARE * width * height:
        raise MaskError(f"box {box} covers the whole image", "leave some background around the object")
    share = inside.width * inside.height / (box.width * box.height)
    centred = 0 <= box.x + box.width / 2 <= width and 0 <= box.y + box.height / 2 <= height
    corners = _or_corners(box, size)
    if share < INSIDE_SHARE or not centred or (corners and share < PROBABLY_XYXY):
        raise MaskError(
            f"box {box} ({box.form}) runs from {box.in_words} and leaves {image}, with {100 * share:.0f} % of it "
            "inside",
            corners or f"give the part that is inside, {inside}, if you mean that",
        )
    if inside == box:
        return inside, []
    also = f"; {corners}" if corners else ""
    return inside, [f"box {box} leaves {image} and is cut to {inside} ({box.form}){also}"]


def _or_corners(box: Box, size: tuple[int, int]) -> str:
    """Returns the way out where the numbers fit the image as two corners; empty where they do not, or were given so."""
    x1, y1, x2, y2 = box
    if isinstance(box, CornerBox) or not (0 <= x1 < x2 <= size[1] and 0 <= y1 < y2 <= size[0]):
        return ""
    return f"if {x2},{y2} is its right bottom corner, give --box-format xyxy, or --box {x1},{y1},{x2 - x1},{y2 - y1}"


def doubts_of_mask(mask: Bool[np.ndarray, "H W"], box: Box) -> list[str]:
    """Returns sentences about doubts in the mask that was found in a box; empty if there are none."""
    window = np.s_[box.y : box.y + box.height, box.x : box.x + box.width]
    area, inside = int(mask.sum()), int(mask[window].sum())
    share = inside / (box.width * box.height)
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    remedy = "look at preview.png, and draw the box closer around the object or give a mask"
    if area > 1.1 * inside:
        return [f"the mask found in box {box} leaves it; {remedy}"]
    if share > FILLED:
        return [f"the mask found in box {box} nearly fills it ({100 * share:.0f} %); {remedy}"]
    if share < LEFT_OVER:
        return [
            f"the mask found in box {box} is only {100 * share:.0f} % of it, perhaps only part of the object; {remedy}"
        ]
    if np.ptp(columns) + 1 < SHORT_SIDE * box.width or np.ptp(rows) + 1 < SHORT_SIDE * box.height:
        return [f"the mask found in box {box} reaches over a part of it, perhaps of the object too; {remedy}"]
    return []

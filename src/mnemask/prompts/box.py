"""Box prompts: parsing, clipping to the image, and checks of the mask found in a box."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from mnemask.errors import MaskError

BoxFormat = Literal["xywh", "xyxy"]

LARGEST_SHARE = 0.98  # of the image; a larger box leaves no background to learn from
INSIDE_SHARE = 0.5  # of the box must lie in the image, and so must its centre
PROBABLY_XYXY = 0.9  # of the box inside the image; below, numbers that fit as x1,y1,x2,y2 were probably meant as that
# On 31 boxes of video, with masks that overlap the truth by 0.22 to 0.90, these raise no doubt about the better half.
FILLED = 0.85  # of the box: above, GrabCut took nearly all of it for the object
LEFT_OVER = 0.12  # of the box: below, it took nearly all of it for background
SHORT_SIDE = 0.6  # of the box's side: a mask that spans less is probably only part of the object
_WHOLE = re.compile(r" *[+-]?\d{1,9} *")  # Python refuses to parse thousands of digits, and no coordinate has ten


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
        """Returns four numbers, or a box, as a box rounded to whole pixels.

        Raises:
            MaskError: for anything else, including fractions of the image's size.
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
        """The meaning of its four numbers, as given and shown."""
        return "x,y,width,height"

    @property
    def in_words(self) -> str:
        """Both corners and the size, as in "120,80 to 320,240 (200x160)"; the second corner is exclusive."""
        corner = f"{self.x + self.width},{self.y + self.height}"
        return f"{self.x},{self.y} to {corner} ({self.width}x{self.height})"


class CornerBox(Box):
    """A box given by its top left corner and its bottom right corner, which is exclusive."""

    def __str__(self) -> str:
        return f"{self.x},{self.y},{self.x + self.width},{self.y + self.height}"

    @property
    def form(self) -> str:
        """The meaning of its four numbers, as given and shown."""
        return "x1,y1,x2,y2"


def parse_box(text: str, box_format: BoxFormat = "xywh") -> Box:
    """Returns the box of "x,y,width,height" or "x1,y1,x2,y2" in whole pixels; raises MaskError for anything else.

    Args:
        text: the value as typed.
        box_format: "xywh", or "xyxy" for the top left corner and the bottom right one, which is exclusive.
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
            "give a width and height of at least 1"
            if box_format == "xywh"
            else "give x2 > x1 and y2 > y1; if it is x,y,width,height, leave out --box-format"
        )
        raise MaskError(f"box {text!r} ({example.form}) is {width}x{height} pixels", way_out)
    return kind(x, y, width, height)


def clip_box(box: Box, size: tuple[int, int]) -> tuple[Box, list[str]]:
    """Returns the part of a box inside an image, and warnings about it.

    Args:
        box: the box as given.
        size: height and width of the image.

    Raises:
        MaskError: the box is empty, lies mostly outside the image or covers all of it, or its numbers look like two
            corners.
    """
    height, width = size
    image = f"the image of {width}x{height} pixels"
    if box.width < 1 or box.height < 1:
        raise MaskError(f"box {box} is empty", "give a width and height of at least 1 pixel")
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
            f"box {box} ({box.form}) spans {box.in_words} and reaches outside {image}, with {100 * share:.0f} % of it "
            "inside",
            corners or f"give the part that is inside, {inside}, if you mean that",
        )
    if inside == box:
        return inside, []
    also = f"; {corners}" if corners else ""
    return inside, [f"box {box} reaches outside {image} and is cut to {inside} ({box.form}){also}"]


def _or_corners(box: Box, size: tuple[int, int]) -> str:
    """Returns the remedy if the numbers fit the image as two corners; empty if not, or if they were given as such."""
    x1, y1, x2, y2 = box
    if isinstance(box, CornerBox) or not (0 <= x1 < x2 <= size[1] and 0 <= y1 < y2 <= size[0]):
        return ""
    return f"if {x2},{y2} is its bottom right corner, give --box-format xyxy, or --box {x1},{y1},{x2 - x1},{y2 - y1}"


def doubts_of_mask(mask: Bool[np.ndarray, "H W"], box: Box) -> list[str]:
    """Returns warnings about the mask found in a box; empty if it looks right."""
    window = np.s_[box.y : box.y + box.height, box.x : box.x + box.width]
    area, inside = int(mask.sum()), int(mask[window].sum())
    share = inside / (box.width * box.height)
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    remedy = "check preview.png, and draw the box closer around the object or give a mask"
    if area > 1.1 * inside:
        return [f"the mask found in box {box} reaches outside it; {remedy}"]
    if share > FILLED:
        return [f"the mask found in box {box} nearly fills it ({100 * share:.0f} %); {remedy}"]
    if share < LEFT_OVER:
        return [
            f"the mask found in box {box} is only {100 * share:.0f} % of it, perhaps just part of the object; {remedy}"
        ]
    if np.ptp(columns) + 1 < SHORT_SIDE * box.width or np.ptp(rows) + 1 < SHORT_SIDE * box.height:
        return [f"the mask found in box {box} spans only part of it, perhaps just part of the object; {remedy}"]
    return []

"""The first mask of each object: from a mask file, a box, a polygon or strokes."""

from mnemask.prompts.mask_file import MaskReading, inspect_mask, read_mask
from mnemask.prompts.parse import parse_at, parse_box
from mnemask.prompts.sketch import Box, mask_from_box, mask_from_polygon, mask_from_scribble

__all__ = [
    "Box",
    "MaskReading",
    "inspect_mask",
    "mask_from_box",
    "mask_from_polygon",
    "mask_from_scribble",
    "parse_at",
    "parse_box",
    "read_mask",
]

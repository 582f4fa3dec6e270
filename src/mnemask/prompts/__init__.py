"""The first mask of each object: from a mask file, a box, a polygon or strokes."""

from mnemask.prompts.box import Box, parse_box
from mnemask.prompts.mask_file import inspect_mask, read_mask
from mnemask.prompts.mask_reading import MaskReading, Void
from mnemask.prompts.parse import parse_at, parse_click, parse_objects, parse_remove, parse_void, refuse_unknown
from mnemask.prompts.plan import PromptPlan
from mnemask.prompts.sketch import mask_from_box, mask_from_polygon, mask_from_scribble

__all__ = [
    "Box",
    "MaskReading",
    "PromptPlan",
    "Void",
    "inspect_mask",
    "mask_from_box",
    "mask_from_polygon",
    "mask_from_scribble",
    "parse_at",
    "parse_box",
    "parse_click",
    "parse_objects",
    "parse_remove",
    "parse_void",
    "read_mask",
    "refuse_unknown",
]

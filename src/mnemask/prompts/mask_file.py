"""Reading mask files, in any of the common ways to mark objects.

These are ids as palette indices or grey levels, black and white, painted colours, and a transparent cut-out. They are
told apart by their pixels, since file modes are used interchangeably in practice. A mask painted with a soft brush or
resized with interpolation has blended pixels along its edges, which would become separate objects if read as ids.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int32
from torch import Tensor

from mnemask.errors import MaskError, counted
from mnemask.io.pictures import MAX_MASK_BYTES
from mnemask.io.shapes import border_of
from mnemask.prompts.colour_mask import is_painted, on_plain_ground, read_colours
from mnemask.prompts.grey_mask import read_grey
from mnemask.prompts.image_file import RawMask, load_mask_image
from mnemask.prompts.mask_reading import MaskReading, Void
from mnemask.types import MAX_OBJECT_ID, MAX_OBJECTS, TOO_MANY_REMEDY, is_whole

log = logging.getLogger(__name__)

WIDEST_BORDER = 4  # pixels; a wider one is intended


def read_mask(
    path: str | Path,
    size: tuple[int, int] | None = None,
    *,
    antialiased: Literal["error", "clean"] = "error",
    void: Void = "auto",
) -> dict[int, Bool[Tensor, "H W"]]:
    """Returns the bool mask of each object marked in an image file, by its id.

    Ids are palette indices or grey levels. A thin contour of 255 around the objects is void, as in PASCAL VOC, and
    belongs to no object; a solid area of 255 is an object among grey levels, and is refused as ambiguous among small
    ids. Black and white (also with soft edges) and a transparent cut-out are one object, id 1. Colours get their index
    in the DAVIS palette or, if any of them is not in it, 1, 2, ... in order of appearance from the top left; the
    background is what is transparent, else black, else white.

    Args:
        path: a PNG or any other image.
        size: height and width of the video; None accepts any.
        antialiased: what to do with an id map that has blended edges: "error" refuses it, "clean" assigns each blended
            pixel to the nearest plain area. Soft edges in black and white or in colours are always cleaned, with a
            warning.
        void: the value that belongs to no object, "none" for no value, or "auto" for a contour of 255.

    Raises:
        MaskError: the file is missing, not an image, damaged, too large, of another size, ambiguous or without an
            object.
    """
    if not isinstance(path, str | Path):
        raise MaskError(f"the mask file is a {type(path).__name__}", "give a path; masks in memory need no reading")
    if antialiased not in ("error", "clean"):
        raise MaskError(f"antialiased is {antialiased!r:.40}", 'give "error" or "clean"')
    reading = inspect_mask(path, size, void=void)
    clean_or_refuse(path, reading, antialiased)
    for note in reading.notes:
        log.info("mask %s: %s", path, note)
    if not reading.ids:
        raise MaskError(
            f"mask {path} marks no object", "paint each object with its own value, and the background with 0"
        )
    labels = torch.from_numpy(reading.labels)
    return {i: labels == i for i in reading.ids}


def clean_or_refuse(path: str | Path, reading: MaskReading, antialiased: Literal["error", "clean"]) -> None:
    """Warns that blended edges were cleaned; raises MaskError if they may not be, or if there are too many objects."""
    if reading.num_blended:
        what = f"mask {path} has {reading.num_blended} blended pixels along its edges, as from antialiasing or resizing"
        if reading.kind == "ids" and antialiased == "error":
            raise MaskError(
                f"{what}, which would count as objects",
                "export it without antialiasing, resize it with nearest neighbour, or allow cleaning "
                '(--clean-masks, antialiased="clean")',
            )
        log.warning("%s; each was assigned to the nearest plain area", what)
    if reading.kind == "black and white" and (frame := _border_width(reading.labels)):
        wide = counted(frame, "pixel")
        log.warning("mask %s has a white frame, %s wide, which is part of the object: paint it black", path, wide)
    ids = reading.ids
    height, width = reading.labels.shape
    if len(ids) > MAX_OBJECTS:
        raise MaskError(
            f"mask {path} marks {len(ids)} objects, more than {MAX_OBJECTS}",
            TOO_MANY_REMEDY,
        )
    if len(ids) * height * width > MAX_MASK_BYTES:
        raise MaskError(
            f"mask {path} marks {len(ids)} objects at {width}x{height}, {len(ids) * height * width / 2**30:.0f} "
            "GiB of masks",
            "mark fewer objects",
        )


def inspect_mask(
    path: str | Path, size: tuple[int, int] | None = None, *, void: Void = "auto", cut_out: bool = False
) -> MaskReading:
    """Returns the labels of a mask file with blended edges cleaned; raises MaskError if they are ambiguous.

    Args:
        path: the file.
        size: height and width that it must have; None for any.
        void: the value that belongs to no object, "none" for no value, or "auto" to detect it.
        cut_out: whether it shows one object in its original colours, so that only its transparency counts, if any.
    """
    if void not in ("auto", "none"):
        if not is_whole(void) or not 1 <= void <= MAX_OBJECT_ID:
            raise MaskError(f"void is {void!r:.40}", f'give "auto", "none" or a value from 1 to {MAX_OBJECT_ID}')
        void = int(void)
    raw = load_mask_image(path, size)
    if raw.are_ids:
        return MaskReading("ids", raw.pixels.astype(np.int32))
    if cut_out and not raw.opaque.all():
        return MaskReading("transparency", raw.opaque.astype(np.int32))
    try:
        reading = _read(raw, void)
    except MaskError as error:
        raise MaskError(f"mask {path} {error.problem}", error.remedy) from None
    if raw.opacity < 1:
        note = f"paint at an opacity of {raw.opacity:.0%} counts as opaque"
        reading = replace(reading, notes=(*reading.notes, note))
    if raw.fractions is not None:
        if reading.kind == "ids" and reading.ids:
            raise MaskError(
                f"mask {path} has areas filled with fractions up to {raw.fractions:g}, so it is not the matte of one "
                "object",
                "save whole numbers as ids, or black and white, as 8-bit PNG",
            )
        note = f"its fractions from 0 to {raw.fractions:g} are read as grey levels from black to white"
        reading = replace(reading, notes=(*reading.notes, note))
    if raw.pages > 1:
        note = f"only the first of its {raw.pages} pictures is read; for masks of several frames give a folder of them"
        reading = replace(reading, notes=(*reading.notes, note))
    return reading


def _read(raw: RawMask, void: Void) -> MaskReading:
    if raw.opacities:
        raise MaskError(
            f"has areas of one colour with several opacities (alpha {', '.join(map(str, raw.opacities[:5]))}), which "
            "may be several objects or one soft object",
            "paint each object opaque in its own colour, or save the alpha channel as a grey image",
        )
    if not raw.opaque.all():
        if not is_painted(raw):
            return MaskReading("transparency", raw.opaque.astype(np.int32))
        raw = on_plain_ground(raw)
    return read_colours(raw, void) if raw.pixels.ndim == 3 else read_grey(raw, void)


def _border_width(bright: Int32[np.ndarray, "H W"]) -> int:
    """Returns the width in pixels of a thin bright frame around the picture; 0 if there is none, or a wider one."""
    inner = bright
    for width in range(min(WIDEST_BORDER, (min(bright.shape) - 1) // 2) + 1):
        share = float(border_of(inner).mean())
        if share < 1:
            return width if share < 0.5 else 0
        inner = inner[1:-1, 1:-1]
    return 0

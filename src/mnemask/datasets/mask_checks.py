"""Checks of the files of true masks, whose values are ids: no blended edges, no palettes made for one file alone."""

from pathlib import Path

import numpy as np
from PIL import Image

from mnemask.errors import MaskError
from mnemask.io.images import FORMATS_AND_GIF, palette_of
from mnemask.io.label_files import Labels, holds_labels
from mnemask.prompts.colour_ids import another_palette
from mnemask.prompts.mask_file import inspect_mask
from mnemask.prompts.mask_reading import RGB, rgb_of

_FEW_VALUES = 8


def may_be_soft(labels: Labels) -> bool:
    """Returns whether a mask has so many distinct values that `refuse_soft_edges`, which is slower, should check it."""
    return int(np.count_nonzero(np.bincount(labels.ravel()))) > _FEW_VALUES


def refuse_soft_edges(path: Path) -> None:
    """Raises MaskError if a mask's edges are blended, since each blended value would be read as a separate object.

    Palette images and the files of annotation tools cannot contain blends and are not checked.
    """
    if holds_labels(path):
        return
    with Image.open(path, formats=FORMATS_AND_GIF) as image:
        if image.mode in ("P", "1"):
            return
        lossy = image.format in ("JPEG", "MPO")
    try:
        reading = inspect_mask(path, void="none")
    except MaskError:
        if lossy:
            raise
        return  # reading the mask reports the problem
    if reading.num_blended:
        raise MaskError(
            f"mask {path} has {reading.num_blended} blended pixels along its edges, as from antialiasing or resizing, "
            "but ground-truth masks must be exact",
            "export it without antialiasing, resize it with nearest neighbour, or threshold it to black and white",
        )


class Palettes:
    """The index of each colour in the palette files of one video, to detect palettes made for one file alone."""

    def __init__(self) -> None:
        self._known: dict[RGB, tuple[int, Path]] = {}

    def add(self, path: Path, labels: Labels) -> None:
        """Adds the colours of a mask's objects; raises MaskError if one had another index in an earlier mask.

        Greys are not compared: they may stand for the indices.
        """
        if holds_labels(path):
            return
        with Image.open(path, formats=FORMATS_AND_GIF) as image:  # the palette is read without decoding the pixels
            if image.mode != "P":
                return
            palette = [rgb_of(colour) for colour in palette_of(image)]
        counts = np.bincount(labels.ravel(), minlength=len(palette))
        for index, colour in enumerate(palette):
            if index == 0 or not counts[index] or len(set(colour)) == 1:
                continue
            known, earlier = self._known.setdefault(colour, (index, path))
            if palette[known : known + 1] != [colour]:
                raise another_palette(path, colour, index, earlier, known, "save all masks with the same palette")

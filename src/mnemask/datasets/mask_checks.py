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


class TrueMaskChecks:
    """Checks true masks of one video, or predicted ones, as they are read.

    Args:
        ids: whether the values of palette images are ids, so that their palettes must agree.
    """

    def __init__(self, ids: bool = True) -> None:
        self._ids = ids
        self._colours: dict[RGB, tuple[int, Path]] = {}  # the index of each, and a file with it
        self._shown: set[Path] = set()  # folders, or files, of which a mask with an object was checked

    def add(self, path: Path, labels: Labels) -> None:
        """Raises MaskError if a mask's edges are blended, or if a colour of its palette had another index before.

        Edges are looked at in the first mask with an object of each folder, and in those with many distinct values.
        """
        if self._ids:
            self._add_palette(path, labels)
        is_first = path.parent not in self._shown and bool(labels.any())
        if is_first or int(np.count_nonzero(np.bincount(labels.ravel()))) > _FEW_VALUES:
            _refuse_soft_edges(path)
        if is_first:
            self._shown.add(path.parent)

    def _add_palette(self, path: Path, labels: Labels) -> None:
        """Adds the colours of a mask's objects; greys are not compared, since they may stand for the indices."""
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
            known, earlier = self._colours.setdefault(colour, (index, path))
            if palette[known : known + 1] != [colour]:
                raise another_palette(path, colour, index, earlier, known, "save all masks with the same palette")


def _refuse_soft_edges(path: Path) -> None:
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

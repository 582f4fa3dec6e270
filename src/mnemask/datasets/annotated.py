"""Pictures and videos with true masks, as files: listed and checked when opened, read when asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from mnemask.errors import InputError, MaskError
from mnemask.video.label_files import Labels, holds_labels, load_stored, read_labels


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """A picture and the mask of the one object in it.

    Attributes:
        name: of the picture, without suffix; unique in its set.
        image: its file.
        mask: the mask's file, white where the object is.
        object_above: how bright (0 to 255) a pixel of the mask is at most outside the object.
    """

    name: str
    image: Path
    mask: Path
    object_above: int = 127

    def read_mask(self) -> Bool[np.ndarray, "H W"]:
        """Returns where the object is.

        Raises:
            MaskError: the file is not an image, or it holds something but nothing bright enough to be an object.
        """
        brightness = _brightness(self.mask)
        above = self.object_above * (257 if brightness.dtype == np.uint16 else 1)
        mask: Bool[np.ndarray, "H W"] = brightness > above
        if not mask.any() and brightness.any():
            raise MaskError(
                f"{self.mask} is nowhere brighter than {brightness.max()}; expected an object brighter than {above}, "
                "so write it white, or open the images with a lower object_above"
            )
        return mask


@dataclass(frozen=True, slots=True)
class AnnotatedVideo:
    """A video as one file for each frame, with masks of some frames or all.

    Attributes:
        name: of the video; unique in its set.
        frames: the files of its frames, in order.
        masks: the mask's file by the index of its frame, in order; at least one.
        single_object: whether all that a mask shows is one object; otherwise values are object ids and 255 is void.
    """

    name: str
    frames: Sequence[Path]
    masks: Mapping[int, Path]
    single_object: bool

    @property
    def first_annotated(self) -> int:
        """Index of the first frame that has a mask."""
        return min(self.masks)

    def read_labels(self, index: int) -> Labels:
        """Returns the object id at each pixel of a frame, 0 for background and 255 for void; uint16 with large ids.

        Raises:
            InputError: the frame has no mask.
            MaskError: the mask's file is damaged, or its colours do not say which object is meant.
        """
        if index not in self.masks:
            raise InputError(
                f"frame {index} of {self.name} has no mask; {len(self.masks)} of its {len(self.frames)} frames have "
                f"one, first frame {self.first_annotated}"
            )
        labels = read_annotation(self.masks[index])
        return (labels > 0).astype(np.uint8) if self.single_object else labels


def _brightness(path: Path) -> Labels:
    """Returns how bright each pixel of a mask is, of 255 or, where it has 16 bits, of 65535."""
    if holds_labels(path):
        return read_labels(path)
    mode, stored = load_stored(path)
    if mode.startswith("I"):
        return np.asarray(stored.clip(0, 65_535), np.uint16)
    return np.asarray(load_stored(path, "L")[1])


def read_annotation(path: Path | str) -> Labels:
    """Returns the label stored at each pixel of a mask; see `mnemask.video.label_files.read_labels`."""
    return read_labels(path)

"""Pictures and videos with true masks, as files: listed and checked when opened, read when asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, UInt8
from PIL import Image

from mnemask.errors import InputError, MaskError


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
        _, brightness = _load(self.mask, "L")
        mask: Bool[np.ndarray, "H W"] = brightness > self.object_above
        if not mask.any() and brightness.any():
            raise MaskError(
                f"{self.mask} is nowhere brighter than {brightness.max()} of 255; expected the object to be brighter "
                f"than {self.object_above}, so write it white, or open the images with a lower object_above"
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

    def read_labels(self, index: int) -> UInt8[np.ndarray, "H W"]:
        """Returns the object id at each pixel of a frame, 0 for background and 255 for void.

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


def read_annotation(path: Path | str) -> UInt8[np.ndarray, "H W"]:
    """Returns the label stored at each pixel of a mask: palette index or grey value, unchanged.

    Raises:
        MaskError: the file is not an image, or its colours do not say which label is meant.
    """
    mode, pixels = _load(path)
    if pixels.ndim == 3 and pixels.shape[2] >= 3 and (pixels[..., :3] == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    if pixels.ndim != 2 or not (pixels.dtype == np.bool_ or (pixels.min() >= 0 and pixels.max() <= 255)):
        raise MaskError(
            f"{path} is an image of mode {mode}, whose colours do not say which object is where; "
            "save masks as palette or greyscale PNG with one value (0 to 255) for each object"
        )
    return pixels.astype(np.uint8)


def _load(path: Path | str, mode: str | None = None) -> tuple[str, npt.NDArray[Any]]:
    """Returns the mode in which an image is stored, and its pixels as stored or converted to another mode."""
    try:
        with Image.open(path) as image:
            return image.mode, np.asarray(image.convert(mode) if mode else image)
    except FileNotFoundError:
        raise MaskError(f"there is no mask {path}") from None
    except (OSError, SyntaxError) as error:
        raise MaskError(f"{path} cannot be read as a mask ({error}); copy or write it again") from error

"""Still images: one decoded as every other tool would, and a folder of them in the order a person would count."""

import glob
import re
import struct
import zlib
from collections.abc import Generator, Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor

from mnemask.errors import FrameError
from mnemask.video.picture import Picture, check_size

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
# Pillow reads more, whatever a file is called, some of it by starting other programs.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")

# What Pillow's decoders raise on damaged files; the tests feed them such.
DAMAGED_IMAGE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def read_image(path: str | Path) -> UInt8[Tensor, "3 H W"]:
    """Returns the image as upright RGB, equal to what Pillow gives.

    Orientation tags are applied, 16-bit grey is scaled to 8 bits, alpha is dropped. Of several pages the first is read.

    Raises:
        FrameError: the file is missing, damaged, larger than 16384 pixels a side or 67 megapixels (which is checked
            before anything is decoded), or of a kind without a fixed range, such as floating point.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            check_size(image.width, image.height, str(path))
            ImageOps.exif_transpose(image, in_place=True)
            rgb = _to_rgb(image, path)
    except FrameError:
        raise
    except DAMAGED_IMAGE_ERRORS as error:
        raise FrameError(
            f"image {str(path)!r} cannot be read ({error}); expected a whole {', '.join(IMAGE_SUFFIXES)} file, "
            "so replace it or take it out"
        ) from error
    return torch.from_numpy(rgb).permute(2, 0, 1)


def _to_rgb(image: Image.Image, path: str | Path) -> UInt8[np.ndarray, "H W 3"]:
    if image.mode == "I" or image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65_535:
            raise FrameError(
                f"image {str(path)!r} holds values from {grey.min()} to {grey.max()}; expected 8 or 16 bits a channel, "
                "so convert it first"
            )
        return np.repeat(((grey + 128) // 257).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise FrameError(
            f"image {str(path)!r} holds floating-point values, whose white is not known; "
            "expected 8 or 16 bits a channel, so convert it first"
        )
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def natural_key(path: Path) -> tuple[list[list[str | int]], str]:
    """Returns a sort key in which frame2 comes before frame10, whatever the zeros in front."""
    return [
        [int(run) if run.isdecimal() else run for run in re.split(r"(\d+)", part)] for part in path.parts
    ], path.name


def list_images(source: Path) -> list[Path]:
    """Returns the images of a folder or a glob pattern in natural order, other and hidden files left out.

    Raises:
        FrameError: there is none, or two share a name without suffix, so that their masks would overwrite each other.
    """
    found = source.iterdir() if source.is_dir() else map(Path, glob.glob(str(source), recursive=True))  # noqa: PTH207
    files = [path for path in found if not path.name.startswith(".") and path.is_file()]
    images = sorted((path for path in files if path.suffix.lower() in IMAGE_SUFFIXES), key=natural_key)
    if not images:
        raise FrameError(
            f"{str(source)!r} holds no image ({len(files)} other files); expected {', '.join(IMAGE_SUFFIXES)}"
        )
    _refuse_equal_names(images)
    return images


def _refuse_equal_names(images: Iterable[Path]) -> None:
    by_name: dict[str, Path] = {}
    for path in images:
        other = by_name.setdefault(path.stem.casefold(), path)
        if other is not path:
            raise FrameError(
                f"{str(other)!r} and {str(path)!r} have the same name without suffix, so their masks would overwrite "
                "each other; rename one or give a narrower pattern"
            )


class ImageSequence:
    """Images as a video without times; each keeps its file's name."""

    frames_per_second = None

    def __init__(self, paths: list[Path], name: str) -> None:
        self.name = name
        self.num_frames = len(paths)
        self._paths = paths

    def pictures(self, start: int) -> Generator[Picture, None, None]:
        """Yields the images from number `start` on, decoding each when it is asked for."""
        for path in self._paths[start:]:
            yield Picture(read_image(path), seconds=None, name=path.stem)

    def close(self) -> None:
        """Does nothing: no file stays open between two images."""

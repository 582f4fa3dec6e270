"""Still images: one decoded as every other tool would, and a folder of them in the order a person would count."""

import logging
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor

from mnemask.errors import FrameError
from mnemask.video.events import EventLog
from mnemask.video.limits import MAX_IMAGES, MAX_PIXELS, MAX_SIDE, check_size
from mnemask.video.picture import Damaged, Picture, Pictures

logger = logging.getLogger(__name__)

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
)
# Pillow refuses by itself what is far too large, before anybody can look at the header.
TOO_LARGE_ERRORS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


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
    except TOO_LARGE_ERRORS as error:
        raise FrameError(
            f"image {str(path)!r} claims more pixels than any picture has; expected at most {MAX_SIDE} a side and "
            f"{MAX_PIXELS // 10**6} megapixels, so shrink it first"
        ) from error
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

    Pipes and devices are no images, whatever they are called; `**` does not follow links to folders.

    Raises:
        FrameError: there is none, there are more than a million, two share a name without suffix, so that their masks
            would overwrite each other, or the pattern is none.
    """
    images = image_files(source)
    if not images:
        others = sum(1 for _ in _files(source))
        raise FrameError(f"{str(source)!r} holds no image ({others} other files); expected {', '.join(IMAGE_SUFFIXES)}")
    _refuse_equal_names(images)
    return images


def image_files(source: Path) -> list[Path]:
    """Returns what is called an image in a folder or by a pattern, in natural order, perhaps nothing."""
    files = list(islice(_files(source), MAX_IMAGES + 1))
    if len(files) > MAX_IMAGES:
        raise FrameError(f"{str(source)!r} holds more than {MAX_IMAGES} files; read it in parts, each a folder")
    return sorted((path for path in files if path.suffix.lower() in IMAGE_SUFFIXES), key=natural_key)


def _files(source: Path) -> Iterator[Path]:
    try:
        if source.is_dir():
            found = source.iterdir()
        else:
            root = Path(source.anchor)
            # Unlike the module glob, this cannot be led in circles by links.
            found = root.glob(str(source.relative_to(root)))
        yield from (path for path in found if not path.name.startswith(".") and path.is_file())
    except (OSError, ValueError) as error:
        raise FrameError(f"{str(source)!r} cannot be listed ({error}); expected a folder or a pattern") from error


def _refuse_equal_names(images: Iterable[Path]) -> None:
    by_name: dict[str, Path] = {}
    for path in images:
        other = by_name.setdefault(path.stem.casefold(), path)
        if other is not path:
            raise FrameError(
                f"{str(other)!r} and {str(path)!r} have the same name without suffix, so their masks would overwrite "
                "each other; rename one or give a narrower pattern"
            )


def number_gaps(images: Sequence[Path]) -> dict[int, tuple[int, int]]:
    """Returns where the numbers at the ends of the names leap: position of the image after the gap, numbers around it.

    A leap is more than the usual step; names without numbers, or with as uneven ones as times are, have none.
    """
    endings = [re.search(r"(\d+)$", image.stem) for image in images]
    numbers = [int(ending[1]) for ending in endings if ending]
    steps = [after - before for before, after in pairwise(numbers)]
    if len(numbers) < max(len(images), 3):
        return {}
    times, usual = max((times, -step) for step, times in Counter(steps).items())
    usual = -usual
    if usual < 1 or 2 * times < len(steps) or (times == 1 and usual > 1):
        return {}
    return {at: (numbers[at - 1], numbers[at]) for at, step in enumerate(steps, 1) if step > usual}


class ImageSequence:
    """Images as a video without times; each keeps its file's name."""

    frames_per_second = None
    repeatable = True

    def __init__(self, paths: list[Path], name: str, log: EventLog | None = None) -> None:
        self.name = name
        self.num_frames = len(paths)
        self.files = self._paths = paths
        self._log = log or EventLog()

    def pictures(self, start: int) -> Pictures:
        """Yields the images from number `start` on, decoding each when it is asked for, and every unreadable one."""
        gaps = number_gaps(self._paths)
        if gaps:
            before, after = next(iter(gaps.values()))
            logger.warning(
                "%s lacks frames: its numbers jump %d times, first from %d to %d", self.name, len(gaps), before, after
            )
        for index, path in enumerate(self._paths[start:], start):
            if index in gaps:
                self._log.note("missing", index)
            yield read_picture(path, index)

    def close(self) -> None:
        """Does nothing: no file stays open between two images."""


def read_picture(path: Path, index: int) -> Picture | Damaged:
    """Returns the image as the frame of this number, or why it cannot be read."""
    try:
        return Picture(read_image(path), index, seconds=None, name=path.stem)
    except FrameError as error:
        return Damaged(error, index, name=path.stem)

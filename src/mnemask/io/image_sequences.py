"""Still images: one decoded as every other tool would, and a sequence of them as a video."""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from mnemask.errors import FrameError
from mnemask.io.events import EventLog
from mnemask.io.frame_files import FrameFiles
from mnemask.io.levels import Levels
from mnemask.io.pictures import MAX_PIXELS, MAX_SIDE, Damaged, Picture, Pictures, SourceFacts, check_size
from mnemask.io.raster import (
    DAMAGED_IMAGE_ERRORS,
    FORMATS,
    IMAGE_SUFFIXES,
    TOO_LARGE_ERRORS,
    decode,
    deep_values,
    is_deep,
)
from mnemask.io.stacks import page_count

logger = logging.getLogger(__name__)

# Pictures that are looked at before the first is given: for the range of their values, and for further pages.
_SAMPLES = 32


def read_image(path: str | Path, levels: Levels | None = None) -> UInt8[Tensor, "3 H W"]:
    """Returns the image as upright RGB, equal to what Pillow gives.

    Orientation tags are applied, 16-bit values are scaled to 8 bits, alpha is dropped. Of several pages the first is
    read.

    Args:
        path: the file.
        levels: what is black and what is white of more than 8 bits; by default 0 and 65535.

    Raises:
        FrameError: the file is missing, damaged, larger than 16384 pixels a side or 67 megapixels (which is checked
            before anything is decoded), or of a kind without a fixed range, such as floating point.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            check_size(image.width, image.height, str(path))
            rgb = decode(image, path, levels)
    except FrameError:
        raise
    except TOO_LARGE_ERRORS as error:
        raise FrameError(
            f"image {str(path)!r} claims more pixels than any picture has",
            f"expected at most {MAX_SIDE} a side and {MAX_PIXELS // 10**6} megapixels, so shrink it first",
        ) from error
    except DAMAGED_IMAGE_ERRORS as error:
        raise FrameError(
            f"image {str(path)!r} cannot be read ({error})",
            f"expected a whole {', '.join(IMAGE_SUFFIXES)} file, so replace it or take it out",
        ) from error
    return torch.from_numpy(rgb).permute(2, 0, 1)


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

    def __init__(self, files: FrameFiles, name: str, log: EventLog | None = None) -> None:
        self.name = name
        self.num_frames = len(files.paths)
        self.files = self._paths = files.paths
        self._log = log or EventLog()
        _refuse_stacks(files.paths)
        self._levels = levels_of(_sample(files.paths))
        self.facts = SourceFacts(files.notes, self._levels, num_frames=len(files.paths), timed=False)

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
            yield read_picture(path, index, self._levels)

    def close(self) -> None:
        """Does nothing: no file stays open between two images."""


def read_picture(path: Path, index: int, levels: Levels | None = None) -> Picture | Damaged:
    """Returns the image as the frame of this number, or why it cannot be read."""
    try:
        return Picture(read_image(path, levels), index, seconds=None, name=path.stem)
    except FrameError as error:
        return Damaged(error, index, name=path.stem)


def levels_of(paths: Sequence[Path]) -> Levels | None:
    """Returns what is black and white in images of more than 8 bits; None where there are none."""
    extremes = []
    for path in paths:
        try:
            with Image.open(path, formats=FORMATS) as image:
                if is_deep(image) and image.width * image.height <= MAX_PIXELS:
                    extremes.append(deep_values(image, path))
        except (FrameError, *DAMAGED_IMAGE_ERRORS, *TOO_LARGE_ERRORS):
            continue  # what is wrong with it is said when it is its turn
    values = [deep for deep in extremes if deep is not None]
    return Levels.of(values) if values else None


def _sample(paths: Sequence[Path]) -> list[Path]:
    """Returns some of the files, the first and the last among them."""
    last = len(paths) - 1
    most = min(len(paths), _SAMPLES)
    return [paths[round(at * last / max(most - 1, 1))] for at in range(most)]


def _refuse_stacks(paths: Sequence[Path]) -> None:
    """Raises FrameError if images of a folder have pages of their own, which would be lost."""
    for path in _sample(paths) if len(paths) > 1 else ():
        pages = page_count(path)
        if pages > 1:
            raise FrameError(
                f"{path.name} holds {pages} pictures, as a video does, and is one of {len(paths)} files",
                "give one such file as the video, or write its pages to files of their own",
            )

"""The images of a folder as a video, and the gaps in their numbers."""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import UInt16

from mnemask.errors import FrameError
from mnemask.io.footage import Footage
from mnemask.io.frame_files import FrameFiles
from mnemask.io.image_stacks import STACKS, page_count
from mnemask.io.images import (
    DAMAGED_IMAGE_ERRORS,
    TOO_LARGE_ERRORS,
    deep_values_of,
    open_image,
    read_picture,
    sample,
    shown_size,
    stated_orientation,
)
from mnemask.io.name_order import shared
from mnemask.io.pictures import EventLog, Levels, Pictures, SourceFacts

logger = logging.getLogger(__name__)

_EIGHT_BITS = (".jpg", ".jpeg")  # always 8 bits, so need not be opened
# Effects of EXIF orientations that keep the size, so that nothing else tells the shown picture from the stored one.
_SHOWN = {2: "mirrored", 3: "turned by 180 degrees", 4: "upside down and mirrored"}


def number_gaps(images: Sequence[Path]) -> dict[int, tuple[int, int]]:
    """Returns the gaps in the numbers at the ends of names: position of the image after each, numbers around it.

    An ending that all names share, as in 0001_left, is ignored. A gap is a step larger than the usual one; names
    without numbers, with irregular ones such as timestamps, or with decimals have none.
    """
    stems = [image.stem for image in images]
    in_common = stems[0][len(stems[0]) - shared([stem[::-1] for stem in stems]) :] if stems else ""
    tail = len(in_common.lstrip("0123456789"))
    endings = [re.search(r"(\d[.,])?(\d+)$", stem[: len(stem) - tail]) for stem in stems]
    found = [ending for ending in endings if ending]
    digits: Sequence[str] = [ending[2] for ending in found]
    if len(digits) < max(len(images), 3):
        return {}
    if len({len(each) for each in digits}) > 1:
        padded = any(len(each) > 1 and each[0] == "0" for each in digits)
        if any(ending[1] for ending in found) and (padded or not all(ending[1] for ending in found)):
            return {}
        digits = _without_prefix(digits)
    numbers = [int(each) for each in digits]
    steps = [after - before for before, after in pairwise(numbers)]
    times, usual = max((times, -step) for step, times in Counter(steps).items())
    usual = -usual
    if usual < 1 or 2 * times < len(steps) or (times == 1 and usual > 1):
        return {}
    return {at: (numbers[at - 1], numbers[at]) for at, step in enumerate(steps, 1) if step > usual}


def _without_prefix(digits: Sequence[str]) -> Sequence[str]:
    """Returns counters of different widths without the digits of a name before them: 5 and 10 for 015 and 0110.

    Counters are padded to one width, or not padded.
    """
    before = min(shared(digits), min(map(len, digits)) - 1)
    counters = [each[before:] for each in digits]
    if any(len(each) > 1 and each[0] == "0" for each in counters):
        return digits
    evenly = len({int(after) - int(before) for before, after in pairwise(counters)}) == 1
    return counters if evenly or all(each[0] == "0" for each in digits) else digits


def began_anew(images: Sequence[Path], gaps: Mapping[int, tuple[int, int]]) -> tuple[str, str] | None:
    """Returns a sentence and a remedy if the only gap may be where a camera's counter began anew, else None.

    Such numbers reach from 0 or 1 to all nines.
    """
    first, last = (re.search(r"(\d+)$", image.stem) for image in (images[0], images[-1]))
    if len(gaps) != 1 or not (first and last and re.fullmatch("9{3,}", last[1])):
        return None
    if len(first[1]) != len(last[1]) or int(first[1]) > 1:
        return None
    before, after = next(iter(gaps.values()))
    return (
        f"the numbers jump from {before} to {after}: the camera's counter may have begun anew",
        "if so, rename the later files so that they follow; if frames are missing, export them again",
    )


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
        self._levels = levels_of_frames(files.paths)
        notes = (*files.notes, *notes_on_orientation(sample(files.paths)))
        suffixes = {path.suffix for path in files.paths}
        suffix = suffixes.pop() if len(suffixes) == 1 else ""
        footage = Footage(is_deep=self._levels is not None)
        self.facts = SourceFacts(
            notes, self._levels, num_frames=len(files.paths), suffix=suffix, timed=False, footage=footage
        )

    def pictures(self, start: int) -> Pictures:
        """Yields the images from number `start` on, including unreadable ones; each is decoded on demand."""
        gaps = number_gaps(self._paths)
        if anew := began_anew(self._paths, gaps):
            logger.warning("%s: %s; %s", self.name, *anew)
        elif gaps:
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


def refuse_other_sizes(paths: Sequence[Path], name: str) -> None:
    """Raises FrameError if, by its header, an image of a video is a stack or differs in size from the first.

    Checked beforehand, so that a run of hours does not fail midway.
    """
    first: tuple[Path, tuple[int, int]] | None = None
    for path in paths:
        try:
            with open_image(path) as image:
                size, tag = shown_size(image), stated_orientation(image)
                is_stack = image.format in STACKS and bool(getattr(image, "is_animated", False))
        except (*DAMAGED_IMAGE_ERRORS, *TOO_LARGE_ERRORS):
            continue  # reported or skipped when its turn comes
        if is_stack and (pages := page_count(path)) > 1:
            raise _one_of_files(path, pages)
        first = first or (path, size)
        if size != first[1]:
            width, height = first[1]
            turned = " by its orientation tag" if tag >= 5 else ""
            raise FrameError(
                f"{path.name} of {name!r} is {size[0]}x{size[1]} pixels{turned}, {first[0].name} is {width}x{height}",
                "expected one size, so scale or remove it; `mnemask doctor` lists all such files",
            )


def notes_on_orientation(paths: Sequence[Path]) -> Iterator[str]:
    """Yields a sentence if pictures are shown in another orientation than stored, in the same size."""
    for path in paths:
        try:
            with open_image(path) as image:
                shown = _SHOWN.get(stated_orientation(image))
        except (*DAMAGED_IMAGE_ERRORS, *TOO_LARGE_ERRORS):
            continue  # reported when its turn comes
        if shown:
            yield (
                f"{path.name} is shown {shown}, as its orientation tag states, and masks are taken to match the "
                "picture as shown: check preview.png of `segment`, and remove the tag if they match the picture as "
                "stored"
            )
            return


def levels_of_frames(paths: Sequence[Path]) -> Levels | None:
    """Returns the black and white levels of a video's frames, from a sample of them; None if none is deep."""
    return Levels.of_deep(deep_samples(paths))


def deep_samples(paths: Sequence[Path]) -> Iterator[UInt16[np.ndarray, "..."] | None]:
    """Yields the values of a sample of a video's frames that may be deep; None for those that are not."""
    return (deep_values_of(path) for path in sample(paths) if path.suffix.lower() not in _EIGHT_BITS)


def _refuse_stacks(paths: Sequence[Path]) -> None:
    """Raises FrameError if images of a folder have several pages, which would be lost."""
    for path in sample(paths) if len(paths) > 1 else ():
        pages = page_count(path)
        if pages > 1:
            raise _one_of_files(path, pages)


def _one_of_files(path: Path, pages: int) -> FrameError:
    return FrameError(
        f"{path.name} holds {pages} pictures, as a video does, but is one of several files",
        "give a single such file as the video, or save its pages as separate files",
    )

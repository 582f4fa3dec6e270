"""Several pictures as a video: the images of a folder, pages of a TIFF, an animated WebP, PNG or GIF."""

import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, pairwise
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import UInt16
from PIL import Image

from mnemask.errors import FrameError
from mnemask.io.footage import Footage
from mnemask.io.frame_files import FrameFiles
from mnemask.io.images import (
    DAMAGED_IMAGE_ERRORS,
    FORMATS_AND_GIF,
    TOO_LARGE_ERRORS,
    decode,
    deep_values,
    deep_values_of,
    is_deep,
    open_image,
    read_picture,
    shown_size,
    stated_orientation,
)
from mnemask.io.name_order import shared
from mnemask.io.pictures import Damaged, DecodedPicture, EventLog, Levels, Pictures, SourceFacts, check_size

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Pictures that are examined before the first is yielded: for the range of their values, and for further pages.
_SAMPLES = 32
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
                is_stack = image.format in _STACKS and bool(getattr(image, "is_animated", False))
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


def sample(items: Sequence[T], most: int = _SAMPLES) -> list[T]:
    """Returns evenly spaced items, at most `most`, including the first and the last."""
    last = len(items) - 1
    most = min(len(items), most)
    return [items[round(at * last / max(most - 1, 1))] for at in range(most)]


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


_STACKS = ("TIFF", "WEBP", "PNG", "GIF")
_SUBFILE_TYPE, _DESCRIPTION, _METAMORPH = 254, 270, 33629
_REDUCED = 1  # of the bits of the subfile type: a thumbnail of another page


def page_count(path: Path) -> int:
    """Returns how many full-size pictures an image file holds; 1 if it cannot be read or is not a stack."""
    try:
        with open_image(path, FORMATS_AND_GIF) as image:
            if image.format not in _STACKS:
                return 1
            pages, broken = _pages(image)
            return max(len(pages) + (broken is not None), _planes(image))
    except (*DAMAGED_IMAGE_ERRORS, *TOO_LARGE_ERRORS):
        return 1


class ImageStack:
    """The pictures of one file, in order, at the times that it states.

    Raises:
        FrameError: the file is damaged, or its pages differ in size and are not marked as thumbnails.
    """

    repeatable = True

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self._path = path
        try:
            with open_image(path, FORMATS_AND_GIF) as image:
                self._pages, self._cut = _pages(image)
                _refuse_dimensions(self._path.name, image, len(self._pages))
                self._check(image)
                self._levels = self._levels_of(image)
                notes = self._notes(image)
                self.frames_per_second = self._rate(image)
        except FrameError:
            raise
        except (*DAMAGED_IMAGE_ERRORS, *TOO_LARGE_ERRORS) as error:
            raise self._broken(0, error) from error
        self.num_frames = len(self._pages)
        self.facts = SourceFacts(
            notes,
            self._levels,
            num_frames=self.num_frames,
            timed=self.frames_per_second is not None,
            footage=Footage(is_deep=self._levels is not None),
        )

    def pictures(self, start: int) -> Pictures:
        """Yields the pages from number `start` on, up to and including the first that cannot be read."""
        seconds = 0.0
        index = 0
        try:
            with open_image(self._path, FORMATS_AND_GIF) as image:
                timed = image.format != "TIFF"
                for index, page in enumerate(self._pages):
                    if not timed and index < start:
                        continue
                    image.seek(page)
                    check_size(image.width, image.height, str(self._path))
                    rgb = decode(image, self._path, self._levels)
                    duration = _milliseconds(image) / 1000
                    if index >= start:
                        picture = torch.from_numpy(rgb).permute(2, 0, 1)
                        times = (seconds, duration) if timed else (None, None)
                        yield DecodedPicture(picture, index, times[0], name="", duration=times[1])
                    seconds += duration
            if self._cut is not None:
                index = len(self._pages)
                yield Damaged(self._broken(index, self._cut), index, ends=True)
        except FrameError as error:
            yield Damaged(error, index, ends=True)
        except (*DAMAGED_IMAGE_ERRORS, *TOO_LARGE_ERRORS) as error:
            yield Damaged(self._broken(index, error), index, ends=True)

    def close(self) -> None:
        """Does nothing: the file is open only while pictures are read."""

    def _check(self, image: Image.Image) -> None:
        if image.format != "TIFF":
            return  # the others have one canvas
        sizes: dict[tuple[int, int], int] = {}
        for index, page in enumerate(self._pages):
            image.seek(page)
            sizes.setdefault(image.size, index)
        if len(sizes) > 1:
            (first, _), (other, at) = list(sizes.items())[:2]
            raise FrameError(
                f"page {at} of {self._path.name!r} is {other[0]}x{other[1]} pixels and page 0 {first[0]}x{first[1]}",
                "expected one size, so save pages of different sizes in separate files",
            )

    def _notes(self, image: Image.Image) -> tuple[str, ...]:
        notes = []
        others = 0 if self._cut else getattr(image, "n_frames", 1) - len(self._pages)
        if others:
            notes.append(f"{others} pages are thumbnails of others: left out")
        described = re.search(r"\AImageJ=[^\0]*?^images=(\d+)$", _description(image), re.MULTILINE)
        if self._cut is None and described and int(described[1]) > len(self._pages):
            raise FrameError(
                f"{self._path.name!r} states that it holds {described[1]} pictures, of which only {len(self._pages)} "
                "can be read, as with files of more than 4 GB from ImageJ",
                "save it as an image sequence",
            )
        return tuple(notes)

    def _levels_of(self, image: Image.Image) -> Levels | None:
        image.seek(self._pages[0])
        if not is_deep(image):
            return None
        return Levels.of_deep(self._deep_samples(image))

    def _deep_samples(self, image: Image.Image) -> Iterator[UInt16[np.ndarray, "..."] | None]:
        """Yields the values of some pages, up to the first that is damaged, which is reported when its turn comes."""
        try:
            for _ in _sought(image, sample(self._pages)):
                yield deep_values(image, self._path)
        except FrameError:
            raise
        except DAMAGED_IMAGE_ERRORS:
            return

    def _rate(self, image: Image.Image) -> float | None:
        """Returns the pictures per second, from the durations of the first ones only, since each has to be decoded."""
        if image.format == "TIFF":
            return None
        shown = []
        try:
            for _ in _sought(image, self._pages[:_SAMPLES]):
                image.load()  # some formats state the duration only then
                shown.append(_milliseconds(image))
        except DAMAGED_IMAGE_ERRORS:
            if not shown:
                raise  # else the damage is reported when its turn comes
        return 1000 * len(shown) / sum(shown)

    def _broken(self, index: int, error: BaseException) -> FrameError:
        if index == 0:
            return FrameError(f"{self._path.name!r} cannot be read ({error})", "fetch the file again")
        return FrameError(
            f"{self._path.name!r} cannot be read from page {index} on ({error})",
            "the pages before are good; for the others fetch the file again",
        )


def _pages(image: Image.Image) -> tuple[list[int], Exception | None]:
    """Returns the numbers of the pages that are not thumbnails, and the error, if any, of the page after them."""
    if image.format != "TIFF":
        # A PNG may have a separate picture for programs that do not support animation.
        return list(range(1 if getattr(image, "default_image", False) else 0, getattr(image, "n_frames", 1))), None
    pages, broken = [], None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about truncated data, which is reported below
        for page in count():
            try:
                image.seek(page)
            except EOFError:
                break
            except (*DAMAGED_IMAGE_ERRORS, TypeError, KeyError) as error:
                broken = error
                break
            if not int(getattr(image, "tag_v2", {}).get(_SUBFILE_TYPE, 0)) & _REDUCED:
                pages.append(page)
    image.seek(0)
    return pages or [0], broken


def _planes(image: Image.Image) -> int:
    """Returns how many pictures MetaMorph stored in the single page of a file (.stk)."""
    planes = getattr(image, "tag_v2", {}).get(_METAMORPH, 1)
    return len(planes) if isinstance(planes, tuple) else 1


def _refuse_dimensions(name: str, image: Image.Image, num_pages: int) -> None:
    """Raises FrameError if the pages are channels or slices of each time step, as microscopy programs write them.

    The same holds for MetaMorph files with more pictures than pages.
    """
    if (planes := _planes(image)) > num_pages:
        raise FrameError(
            f"{name!r} holds {planes} pictures in one page, as MetaMorph writes them, of which only the first is read",
            "save it as a TIFF with one picture per page",
        )
    text = _description(image)
    if text.startswith("ImageJ="):
        counts = [
            int(number) for number in re.findall(r"^(?:channels|slices|frames)=(\d{1,9})\s*$", text, re.MULTILINE)
        ]
    elif "<OME" in text:
        counts = [int(number) for number in re.findall(r"\bSize[CZT]=\"(\d{1,9})\"", text)[:3]]
    else:
        shape = re.search(r'"shape": ?\[([\d, ]+)\]', text)
        axes = [int(number) for number in shape[1].split(",")] if shape else []
        sides = [image.height, image.width]
        counts = axes[:-2] if axes[-2:] == sides else axes[:-3] if axes[-3:-1] == sides else []
    several = [number for number in counts if number > 1]
    if len(several) > 1 and prod(several) == num_pages:
        raise FrameError(
            f"{name!r} holds {' x '.join(map(str, several))} pages: channels or slices of each time step, not "
            "successive pictures",
            "save one channel and slice, or an RGB picture, per time step",
        )


def _description(image: Image.Image) -> str:
    if image.format != "TIFF":
        return ""
    image.seek(0)
    return str(getattr(image, "tag_v2", {}).get(_DESCRIPTION, ""))


def _sought(image: Image.Image, pages: Sequence[int]) -> Iterator[int]:
    for page in pages:
        image.seek(page)
        yield page


def _milliseconds(image: Image.Image) -> float:
    """Returns the duration of the current picture; 100 ms if it states 0, as browsers do."""
    return float(image.info.get("duration", 0) or 100)

"""The pictures of one file as a video: pages of a TIFF, an animated WebP, PNG or GIF."""

import re
import warnings
from collections.abc import Iterator
from itertools import count
from math import prod
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt16
from PIL import Image

from mnemask.errors import FrameError
from mnemask.io.footage import Footage
from mnemask.io.images import (
    DAMAGED_IMAGE_ERRORS,
    FORMATS_AND_GIF,
    SAMPLES,
    TOO_LARGE_ERRORS,
    decode,
    deep_values,
    is_deep,
    open_image,
    sample,
)
from mnemask.io.pictures import Damaged, DecodedPicture, Levels, Pictures, SourceFacts, check_size

STACKS = ("TIFF", "WEBP", "PNG", "GIF")
_SUBFILE_TYPE, _DESCRIPTION, _METAMORPH = 254, 270, 33629
_REDUCED = 1  # of the bits of the subfile type: a thumbnail of another page


def page_count(path: Path) -> int:
    """Returns how many full-size pictures an image file holds; 1 if it cannot be read or is not a stack."""
    try:
        with open_image(path, FORMATS_AND_GIF) as image:
            if image.format not in STACKS:
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
            for page in sample(self._pages):
                image.seek(page)
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
            for page in self._pages[:SAMPLES]:
                image.seek(page)
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


def _milliseconds(image: Image.Image) -> float:
    """Returns the duration of the current picture; 100 ms if it states 0, as browsers do."""
    return float(image.info.get("duration", 0) or 100)

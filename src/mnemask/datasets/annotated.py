"""Pictures and videos with ground-truth masks as files: listed and checked when opened, read on demand.

Opening a folder lists it without reading any file, so large sets open fast.
"""

import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Bool

from mnemask.datasets.mask_checks import TrueMaskChecks
from mnemask.datasets.shrunk_masks import realign
from mnemask.errors import InputError, MaskError
from mnemask.io.frame_files import FrameFiles, frames_among
from mnemask.io.image_sequences import notes_on_orientation, refuse_other_sizes
from mnemask.io.image_stacks import page_count
from mnemask.io.images import IMAGE_SUFFIXES, read_image, sample
from mnemask.io.label_files import (
    Labels,
    holds_labels,
    label_paths,
    labels_by_name,
    load_stored,
    only_annotated,
    read_labels,
)
from mnemask.io.name_order import NameOrder, composed
from mnemask.io.written import is_preview
from mnemask.metrics import VOID
from mnemask.prompts.mask_file import inspect_mask
from mnemask.prompts.mask_matching import match_frames

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """A picture and the mask of the one object in it.

    Attributes:
        name: the picture's name without suffix, unique within its set.
        image: the picture's file.
        mask: the mask's file, white where the object is.
        object_above: threshold (0 to 255): brighter pixels of the mask are the object.
    """

    name: str
    image: Path
    mask: Path
    object_above: int = 127

    def read_mask(self) -> Bool[np.ndarray, "H W"]:
        """Returns the mask of the object.

        Raises:
            MaskError: the file is not an image, or it is not empty but has no pixel bright enough for an object.
        """
        brightness = _brightness(self.mask)
        above = self.object_above * (257 if brightness.dtype == np.uint16 else 1)
        mask: Bool[np.ndarray, "H W"] = brightness > above
        if not mask.any() and brightness.any():
            raise MaskError(
                f"no pixel of {self.mask} is brighter than {brightness.max()}",
                f"expected an object brighter than {above}: write it in white, or open the images with a lower "
                "object_above",
            )
        return mask


@dataclass(frozen=True, slots=True)
class AnnotatedVideo:
    """A video with one file per frame and masks of some or all frames.

    Attributes:
        name: the video's name, unique within its set.
        frames: the frames' files, in order.
        masks: the masks' files by frame index, in order; at least one.
        single_object: whether everything that a mask shows is one object; otherwise values are object ids.
        shrunk: number of mask rows before and after, if the masks were downscaled by leaving out rows and columns.
        too_little: indices of masks known to show no object large enough for the first frame of a clip.
        void: the value of pixels that are neither an object nor background, 255; None if 255 is an object's id.
        void_stated: whether 255 is void for certain; otherwise masks may tell that it is an object, see `with_void`.
    """

    name: str
    frames: Sequence[Path]
    masks: Mapping[int, Path]
    single_object: bool
    shrunk: tuple[int, int] | None = None
    too_little: Collection[int] = frozenset()
    void: int | None = VOID
    void_stated: bool = False

    @property
    def first_annotated(self) -> int:
        """Index of the first frame that has a mask."""
        return min(self.masks)

    def read_labels(self, index: int) -> Labels:
        """Returns the object id at each pixel of a frame, 0 for background, and `void`; uint16 with large ids.

        Raises:
            InputError: the frame has no mask.
            MaskError: the mask's file is damaged, or its colours do not identify objects.
        """
        if index not in self.masks:
            raise InputError(
                f"frame {index} of {self.name} has no mask",
                f"use one of the {len(self.masks)} of {len(self.frames)} frames that have one; the first is "
                f"{self.first_annotated}",
            )
        labels = realign(read_labels(self.masks[index]), self.shrunk)
        return (labels > 0).astype(np.uint8) if self.single_object else labels


def void_of(masks: Iterable[Path]) -> int | None:
    """Returns the value that is void in the masks of one video: 255, or None if that is an object's id.

    The first mask that shows 255 beside other ids decides, as it does in `read_mask`: a file that states ids has no
    void, a thin contour is void, and a solid area is an object; if that is ambiguous, it is void, with a warning.
    """
    for path in masks:
        labels = read_labels(path)
        if not (labels == VOID).any() or not np.isin(labels, (0, VOID), invert=True).any():
            continue
        try:
            reading = inspect_mask(path)
        except MaskError:
            logger.warning(
                "%d is void in %s and the other masks of its video; if it is an object, give it another id", VOID, path
            )
            return VOID
        if VOID not in reading.ids:
            return VOID
        if reading.notes:  # a guess
            logger.info("%d is an object in %s and the other masks of its video, since it fills an area", VOID, path)
        return None
    return VOID


def with_void(video: AnnotatedVideo) -> AnnotatedVideo:
    """Returns the video with `void` as stated or, if it is only the default, as its masks tell; these are read."""
    if video.single_object or video.void_stated or video.void != VOID:
        return video
    return replace(video, void=void_of(video.masks[index] for index in sorted(video.masks)), void_stated=True)


def refuse_mixed(videos: Iterable[AnnotatedVideo], remedy: str) -> None:
    """Raises InputError if some videos have masks of one object and others object ids: their scores have no mean."""
    by_kind = {video.single_object: video.name for video in videos}
    if len(by_kind) > 1:
        raise InputError(
            f"{by_kind[True]!r} has black-and-white masks of one object and {by_kind[False]!r} has object ids; their "
            "scores follow different rules and cannot be averaged",
            remedy,
        )


def _brightness(path: Path) -> Labels:
    """Returns the brightness of each pixel of a mask, at most 255, or 65535 if the mask has 16 bits."""
    if holds_labels(path):
        return read_labels(path)
    mode, stored = load_stored(path)
    if mode.startswith("I"):
        return np.asarray(stored.clip(0, 65_535), np.uint16)
    return np.asarray(load_stored(path, "L")[1])


def checked_masks(video: AnnotatedVideo) -> Iterator[tuple[int, Labels]]:
    """Yields the frame index and the labels of each mask; all have the size of their frames, and none has soft edges.

    Raises:
        FrameError: the first frame with a mask cannot be read, or another one differs from it in size.
        MaskError: a file is not a mask, has soft edges or a palette that contradicts another file's, or differs in
            size from the frames.
    """
    frames = [video.frames[index] for index in sorted(video.masks)]
    refuse_other_sizes(frames, video.name)
    for note in notes_on_orientation(sample(frames)):
        logger.warning("%s: %s", video.name, note)
    height, width = read_image(video.frames[video.first_annotated]).shape[-2:]
    checks = TrueMaskChecks()
    for index, path in video.masks.items():
        labels = video.read_labels(index)
        if not video.single_object:
            checks.add(path, labels)
        rows, columns = labels.shape
        if (rows, columns) != (height, width):
            raise MaskError(
                f"mask {path} is {columns}x{rows}, but the frames of {video.name} are {width}x{height}",
                "export it at their size, or resize it with nearest neighbour",
            )
        yield index, labels


def check_masks(video: AnnotatedVideo) -> None:
    """Reads all masks of a video; raises what `checked_masks` raises."""
    for _ in checked_masks(video):
        pass


@dataclass(frozen=True, slots=True)
class FolderFiles(Sequence[Path]):
    """The files of one folder, stored as names.

    BL30K has ten million files: paths would take gigabytes, whereas videos with the same numbering share their names.
    """

    folder: Path
    names: tuple[str, ...]

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> "FolderFiles": ...
    def __getitem__(self, index: int | slice) -> "Path | FolderFiles":
        if isinstance(index, slice):
            return FolderFiles(self.folder, self.names[index])
        return self.folder / self.names[index]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True, eq=False)
class FolderMasks(Mapping[int, Path]):
    """The masks of one folder by frame index, stored as names."""

    folder: Path
    names: Mapping[int, str]

    def __getitem__(self, index: int) -> Path:
        return self.folder / self.names[index]

    def __contains__(self, index: object) -> bool:
        return index in self.names

    def __iter__(self) -> Iterator[int]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def open_video(
    name: str,
    frames: Path,
    masks: Path,
    single_object: bool,
    frame_suffixes: tuple[str, ...] = (".jpg",),
    every_frame: bool = False,
    published: str = "",
) -> AnnotatedVideo:
    """Returns a video from a folder of frames and a folder of masks, matched by their names without suffix.

    Unless the files are published ones, frames and masks are found as in `segment`: masks among the frames are left
    out, with a warning, and masks may have names such as `00012_mask.png` (see `match_frames`).

    Args:
        name: the video's name.
        frames: folder of the frames, which are put in natural order, 9 before 10.
        masks: folder of the masks: PNG files, or one label video (masks.mkv) or COCO file (masks.json).
        single_object: whether everything that a mask shows is one object.
        frame_suffixes: suffixes of the frames' files, in lower case.
        every_frame: whether each frame must have a mask; otherwise one mask is enough.
        published: where the files can be downloaded, for error messages; 255 is void in published masks for certain.

    Raises:
        InputError: there are no frames or no masks, the frames are pages of one file, a mask has no frame or a frame
            two masks, the mask of a frame is missing (with `every_frame`), or two frames have the same name.
    """
    frame_names, mask_names = names_in(frames, frame_suffixes), names_in(masks, (".png",))
    if not published:
        frame_names = _frames_among(name, FolderFiles(frames, frame_names))
    if len(frame_names) == 1 and (pages := page_count(frames / frame_names[0])) > 1:
        raise InputError(
            f"the frames of {name} are the {pages} pictures of one file, {frames / frame_names[0]}, but frames of data "
            "sets are read from separate files",
            "save its pages as separate files, named like their masks",
        )
    if frame_names and not mask_names and (inside := label_paths(masks)):
        return _with_label_file(name, frames, frame_names, inside, single_object)
    if not mask_names and (others := names_in(masks, IMAGE_SUFFIXES)):
        raise InputError(
            f"the masks of {name} are not PNG: {masks / others[0]}",
            "export them again as PNG; converted JPEGs would keep the values that JPEG has changed",
        )
    for folder, names, suffixes in (frames, frame_names, frame_suffixes), (masks, mask_names, (".png",)):
        if not names:
            raise InputError(f"{name} has no {', '.join(suffixes)} files in {folder}", _way_out(published))
    pairs = _pair(frame_names, mask_names)
    if pairs.twin:
        raise InputError(f"{name} has two frames called {pairs.twin} in {frames}", "keep one of them")
    if pairs.unframed and not published:
        pairs = _match_as_segment(name, pairs, FolderFiles(masks, mask_names))
    missing = [frames / f"{stem}{frame_suffixes[0]}" for stem in pairs.unframed]
    if every_frame:
        missing += [masks / f"{stem}.png" for stem in pairs.unmasked]
    if missing:
        raise incomplete(name, missing, len(frame_names) + len(mask_names) + len(missing), published)
    files, mask_files = FolderFiles(frames, pairs.frames), FolderMasks(masks, pairs.masks)
    return AnnotatedVideo(name, files, mask_files, single_object, void_stated=bool(published))


def _frames_among(name: str, images: FolderFiles) -> tuple[str, ...]:
    """Returns the names of the frames among a video's images; logs what was left out or is ambiguous."""
    found = _of_one_series(images.names) or frames_among([path for path in images if not is_preview(path)])
    for note in found.notes:
        logger.warning("%s: %s", name, note)
    return tuple(path.name for path in found.paths)


# As for `_pair` below. Other folders take longer: their files are compared, and some are read.
@lru_cache(maxsize=1024)
def _of_one_series(names: tuple[str, ...]) -> FrameFiles | None:
    """Returns the frames, as mere names, if all names are the same apart from their numbers; else None."""
    shapes = {re.sub(r"\d+", "#", name) for name in names}
    return frames_among([Path(name) for name in names]) if len(shapes) == 1 else None


def _match_as_segment(name: str, pairs: "_Pairs", masks: FolderFiles) -> "_Pairs":
    """Returns the pairs with masks whose names have affixes; logs if numbers were compared; raises MaskError."""
    stems = [Path(frame).stem for frame in pairs.frames]
    found, guess = match_frames(masks, stems)
    if guess:
        logger.warning("%s: %s", name, guess)
    unmasked = tuple(stem for index, stem in enumerate(stems) if index not in found)
    return replace(pairs, masks={index: path.name for index, path in found.items()}, unframed=(), unmasked=unmasked)


def _with_label_file(
    name: str, frames: Path, frame_names: tuple[str, ...], inside: list[Path], single_object: bool
) -> AnnotatedVideo:
    """Returns a video with all masks in one file: a label video or COCO run lengths."""
    files = _pair(frame_names, ()).frames
    by_name = labels_by_name(only_annotated(inside), [Path(file).stem for file in files], range(len(files)))
    masks = {at: by_name[stem].name for at, file in enumerate(files) if (stem := Path(file).stem) in by_name}
    if not masks:
        raise InputError(f"{inside[0].parent} has no mask of a frame in {frames}", "name masks like their frames")
    return AnnotatedVideo(name, FolderFiles(frames, files), FolderMasks(inside[0].parent, masks), single_object)


def names_in(folder: Path, endings: tuple[str, ...] = ("",)) -> tuple[str, ...]:
    """Returns the names in a folder with one of the endings (lower case), sorted; none if the folder does not exist."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - Path.iterdir makes a Path of each name
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise InputError(f"{folder} cannot be listed ({error.strerror})", "make it readable") from error
    return tuple(sorted(name for name in names if name[0] != "." and name.lower().endswith(endings)))


def incomplete(what: str, missing: Sequence[Path], num_expected: int, published: str = "") -> InputError:
    """Returns the error that names the first missing file or folder and states how many are missing."""
    are = "is" if len(missing) == 1 else "are"
    return InputError(
        f"{what} is incomplete: {len(missing)} of {num_expected} {are} missing, starting with {missing[0]}",
        _way_out(published),
    )


def _way_out(published: str) -> str:
    return f"unpack or download it again, from {published}" if published else "copy it again"


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Matching names of frames and masks, stems without a partner, and a stem shared by two frames, if any."""

    frames: tuple[str, ...]
    masks: Mapping[int, str]
    unframed: tuple[str, ...]
    unmasked: tuple[str, ...]
    twin: str | None


# Most videos of a set have the same numbering: the result for one is reused for the others and stored once.
@lru_cache(maxsize=1024)
def _pair(frame_names: tuple[str, ...], mask_names: tuple[str, ...]) -> _Pairs:
    order = NameOrder.of([Path(name).stem for name in frame_names])
    frames = tuple(map(str, sorted(map(Path, frame_names), key=order.key)))
    stems = [composed(Path(name).stem) for name in frames]
    masks = {composed(Path(name).stem): name for name in mask_names}
    last = dict(zip(stems, frames, strict=True))
    return _Pairs(
        frames,
        {index: masks[stem] for index, stem in enumerate(stems) if stem in masks},
        tuple(stem for stem in masks if stem not in last),
        tuple(stem for stem in stems if stem not in masks),
        next((stem for stem, name in zip(stems, frames, strict=True) if last[stem] != name), None),
    )

"""Pictures and videos with true masks, as files: listed and checked when opened, read when asked for.

Opening a folder lists it without reading a file, so that large sets open fast.
"""

import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Bool
from PIL import Image

from mnemask.datasets.shrunk_masks import put_back
from mnemask.errors import InputError, MaskError
from mnemask.io.images import FORMATS_AND_GIF
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
from mnemask.prompts.mask_file import inspect_mask

logger = logging.getLogger(__name__)


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
                f"{self.mask} is nowhere brighter than {brightness.max()}",
                f"expected an object brighter than {above}, so write it white, or open the images with a lower "
                "object_above",
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
        shrunk: the rows that masks had and have, where they were made smaller by leaving out rows and columns.
        too_little: indices of masks that are known to show no object large enough for a clip to begin with.
    """

    name: str
    frames: Sequence[Path]
    masks: Mapping[int, Path]
    single_object: bool
    shrunk: tuple[int, int] | None = None
    too_little: Collection[int] = frozenset()

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
                f"frame {index} of {self.name} has no mask",
                f"{len(self.masks)} of its {len(self.frames)} frames have one, first frame {self.first_annotated}",
            )
        labels = put_back(read_labels(self.masks[index]), self.shrunk)
        return (labels > 0).astype(np.uint8) if self.single_object else labels


def refuse_mixed(videos: Iterable[AnnotatedVideo], remedy: str) -> None:
    """Raises InputError where some masks are of one object and others keep ids apart: scores of both have no mean."""
    by_kind = {video.single_object: video.name for video in videos}
    if len(by_kind) > 1:
        raise InputError(
            f"{by_kind[True]!r} has masks of one object, black and white, and {by_kind[False]!r} has ids; their scores "
            "follow other rules and cannot be averaged",
            remedy,
        )


def _brightness(path: Path) -> Labels:
    """Returns how bright each pixel of a mask is, of 255 or, where it has 16 bits, of 65535."""
    if holds_labels(path):
        return read_labels(path)
    mode, stored = load_stored(path)
    if mode.startswith("I"):
        return np.asarray(stored.clip(0, 65_535), np.uint16)
    return np.asarray(load_stored(path, "L")[1])


_FEW_VALUES = 8


def may_be_soft(labels: Labels) -> bool:
    """Returns whether a mask has so many values that `refuse_soft_edges`, which takes longer, should look at it."""
    return int(np.count_nonzero(np.bincount(labels.ravel()))) > _FEW_VALUES


def refuse_soft_edges(path: Path) -> None:
    """Raises MaskError if a mask's edges are blended: read by its values, each blend would be an object of its own.

    A palette cannot hold blends, nor can the files of annotation tools.
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
        return  # reading it says what is wrong
    if reading.blended:
        raise MaskError(
            f"mask {path} has {reading.blended} blended pixels along its edges, as antialiasing or resizing leaves, "
            "and true masks must be exact",
            "export it without antialiasing, resize with nearest neighbour, or make it black and white at a threshold",
        )


@dataclass(frozen=True, slots=True)
class FolderFiles(Sequence[Path]):
    """Files of one folder, kept as names.

    BL30K has ten million files: as paths they take gigabytes, while names are shared by videos that are numbered alike.
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
    """Masks of one folder by the index of their frame, kept as names."""

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

    Args:
        name: what to call it.
        frames: folder of the frames; they follow each other in natural order, 9 before 10.
        masks: folder of the masks: PNG files, or one label video (masks.mkv) or COCO file (masks.json).
        single_object: whether all that a mask shows is one object.
        frame_suffixes: of the frames, in lower case.
        every_frame: whether each frame must have a mask; otherwise one mask is enough.
        published: where to get the files, for messages.

    Raises:
        InputError: there are no frames or no masks, a mask's frame is missing, or a frame's mask is.
    """
    frame_names, mask_names = names_in(frames, frame_suffixes), names_in(masks, (".png",))
    if frame_names and not mask_names and (inside := label_paths(masks)):
        return _with_label_file(name, frames, frame_names, inside, single_object)
    for folder, names, suffixes in (frames, frame_names, frame_suffixes), (masks, mask_names, (".png",)):
        if not names:
            raise InputError(f"{name} has no {', '.join(suffixes)} files in {folder}", _way_out(published))
    pairs = _pair(frame_names, mask_names)
    if pairs.twin:
        raise InputError(f"{name} has two frames called {pairs.twin} in {frames}", "keep one of them")
    missing = [frames / f"{stem}{frame_suffixes[0]}" for stem in pairs.unframed]
    if every_frame:
        missing += [masks / f"{stem}.png" for stem in pairs.unmasked]
    if missing:
        raise incomplete(name, missing, len(frame_names) + len(mask_names) + len(missing), published)
    return AnnotatedVideo(name, FolderFiles(frames, pairs.frames), FolderMasks(masks, pairs.masks), single_object)


def _with_label_file(
    name: str, frames: Path, frame_names: tuple[str, ...], inside: list[Path], single_object: bool
) -> AnnotatedVideo:
    """Returns a video with all masks in one file: a label video, or run lengths."""
    files = _pair(frame_names, ()).frames
    by_name = labels_by_name(only_annotated(inside), [Path(file).stem for file in files], range(len(files)))
    masks = {at: by_name[stem].name for at, file in enumerate(files) if (stem := Path(file).stem) in by_name}
    if not masks:
        raise InputError(f"{inside[0].parent} holds no mask of a frame in {frames}", "name masks as their frames are")
    return AnnotatedVideo(name, FolderFiles(frames, files), FolderMasks(inside[0].parent, masks), single_object)


def names_in(folder: Path, endings: tuple[str, ...] = ("",)) -> tuple[str, ...]:
    """Returns the names in a folder with one of the endings (lower case), sorted; none where there is no folder."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - Path.iterdir makes a Path of each name
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise InputError(f"{folder} cannot be listed ({error.strerror})", "make it readable") from error
    return tuple(sorted(name for name in names if name[0] != "." and name.lower().endswith(endings)))


def incomplete(what: str, missing: Sequence[Path], num_expected: int, published: str = "") -> InputError:
    """Returns the error that names the first of the missing files or folders and says how many there are."""
    are = "is" if len(missing) == 1 else "are"
    return InputError(
        f"{what} is incomplete: {len(missing)} of {num_expected} {are} missing, first {missing[0]}",
        _way_out(published),
    )


def _way_out(published: str) -> str:
    return f"unpack or download it again, from {published}" if published else "copy it again"


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Which names belong together, which stems lack their partner, and the stem of two frames if there is one."""

    frames: tuple[str, ...]
    masks: Mapping[int, str]
    unframed: tuple[str, ...]
    unmasked: tuple[str, ...]
    twin: str | None


# Videos of a set are mostly numbered alike: what was found for one serves all, and takes memory once.
@lru_cache(maxsize=1024)
def _pair(frame_names: tuple[str, ...], mask_names: tuple[str, ...]) -> _Pairs:
    order = NameOrder.of([Path(name).stem for name in frame_names])
    for doubt in order.doubts:
        logger.warning("%s", doubt)
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

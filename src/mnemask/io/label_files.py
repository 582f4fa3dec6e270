"""Reads label maps from image files, FFV1 videos and the files of annotation tools.

A map inside a video or a tool's file has a path as if that were a folder: `masks.mkv/00012`, `masks.json/00012`.
"""

import logging
import os
import re
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int16, UInt8, UInt16

from mnemask.errors import FrameError, MaskError
from mnemask.io.annotation_formats import AT, json_files
from mnemask.io.annotations import Annotations
from mnemask.io.cvat import empty_frames
from mnemask.io.images import (
    DAMAGED_IMAGE_ERRORS,
    FORMATS_AND_GIF,
    IMAGE_SUFFIXES,
    TOO_LARGE_ERRORS,
    is_picture_palette,
    open_image,
    orientation_of,
    stored_values,
    turned,
)
from mnemask.io.label_video import LABEL_VIDEO, VIDEO, read_label_video
from mnemask.io.labelme import may_be_labelme
from mnemask.io.name_order import composed, natural_order
from mnemask.io.parquet import PARQUET, ParquetLabels
from mnemask.io.pictures import check_size
from mnemask.io.visualize import davis_palette
from mnemask.io.written import is_preview
from mnemask.io.yolo import holds_yolo
from mnemask.types import MAX_OBJECT_ID, ObjectInfo, index_of_name

log = logging.getLogger(__name__)

Labels = UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]

HOLDERS = (VIDEO, ".json", ".xml", ".txt", PARQUET)
_NAMES = ("masks.json", LABEL_VIDEO, "annotations.json", "annotations.xml", "tasks.json")  # in a folder


def label_paths(place: Path) -> list[Path]:
    """Returns the paths of the label maps in a folder, 9.png before 10.png, or inside its single label file.

    Args:
        place: a folder of PNG files; one with a label video (`masks.mkv`) or the masks of an annotation tool
            (`masks.json`, `annotations.xml`, one labelme or YOLO file per frame); or such a file itself.

    Raises:
        MaskError: such a file is damaged, or neither a label video nor from a known tool.
    """
    if place.is_file():
        return _inside(place) if place.suffix.lower() in HOLDERS else []
    if not place.is_dir():
        return []
    if _holds_annotations(place):
        return _inside(place)
    files = _visible_files(place)
    if images := [path for path in files if path.suffix.lower() == ".png"]:
        return natural_order(images)
    if parts := sorted(path for path in files if path.suffix.lower() == PARQUET):
        return [path for part in parts for path in _inside(part)]
    holders = [path for path in files if path.name in _NAMES]
    return _inside(min(holders)) if holders else []


def annotated_frames(place: Path) -> list[Path]:
    """Returns the paths of the label maps in annotation tools' files: in one, or in a folder without image files.

    Raises:
        MaskError: such a file is damaged, or from no known tool.
    """
    if place.is_file():
        return _inside(place) if place.suffix.lower() in HOLDERS[1:] else []
    if _holds_annotations(place):
        return _inside(place)
    files = [path for path in _visible_files(place) if not is_preview(path)] if place.is_dir() else []
    if any(path.suffix.lower() in IMAGE_SUFFIXES for path in files):
        return []
    if parts := sorted(path for path in files if path.suffix.lower() == PARQUET):
        return [path for part in parts for path in _inside(part)]
    holders = sorted(path for path in files if path.name in _NAMES and path.suffix != VIDEO)
    return _inside(holders[0]) if holders else []


def _visible_files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]


def labels_by_name(paths: list[Path], names: list[str], numbers: Sequence[int] | None = None) -> Mapping[str, Path]:
    """Returns the label map of each frame that has one, by the frame's name without suffix.

    A label video stores no names, and neither do some tools. If a video has as many maps as there are frames, they are
    taken in order; otherwise a map belongs to the frame with its number.

    Args:
        paths: the paths of label maps in one place.
        names: the names of the frames, in order.
        numbers: the numbers of these frames in their video; by default those in their names.

    Raises:
        MaskError: the maps have only numbers, and some frame names contain none.
    """
    meant = {composed(name): name for name in names}
    by_name = {meant.get(composed(name := map_name(path)), name): path for path in paths}
    holder = _holder(paths[0]) if paths else None
    in_video = holder is not None and holder.suffix.lower() == VIDEO
    if not in_video and (by_name.keys() & set(names) or not all(name.startswith(AT) for name in by_name)):
        return by_name
    numbered = {int(name.removeprefix(AT)): path for name, path in by_name.items()}
    known: list[int | None] = [number_of(name) for name in names] if numbers is None else [*numbers]
    as_many = len(paths) == len(names) and (in_video or sorted(numbered) == list(range(len(names))))
    if as_many and (numbers is not None or not numbered.keys() >= set(known)):
        return dict(zip(names, paths, strict=True))
    if None in known:
        raise MaskError(
            f"{holder} has masks by frame number, but the frame name {names[known.index(None)]!r} has none",
            "save the masks as PNG, or give those of all frames",
        )
    return {name: numbered[at] for at, name in zip(known, names, strict=True) if at in numbered}


def with_unlisted(paths: list[Path], numbers: Collection[int | None]) -> list[Path]:
    """Returns the paths of label maps and, if they are those of tracks, of further frames that are known to be empty.

    Files of tracks list no frame without objects. CVAT states the frames of a task. MOTS does not, and counts from 1
    whatever the frames are called, so that others are known only if the numbers asked for count from 0.

    Args:
        paths: the paths of label maps in one place. Those that are added cannot be read.
        numbers: the numbers of the frames whose maps are needed; None for names without one.
    """
    holder = _holder(paths[0])
    if holder is None or not all(path.name.startswith(AT) for path in paths):
        return paths
    empty: Collection[int] = ()
    if holder.suffix.lower() == ".xml":
        empty = empty_frames(holder)
    elif holder.suffix.lower() == ".txt" and 0 in numbers:
        empty = {number for number in numbers if number is not None}
    added = {number: holder / f"{AT}{number}" for number in empty}
    listed = {int(path.name.removeprefix(AT)): path for path in paths}
    return [path for _, path in sorted((added | listed).items())]


def number_of(name: str) -> int | None:
    """Returns the frame number in a name such as 00012 or @12; None for other names."""
    return int(name.removeprefix(AT)) if re.fullmatch(rf"{AT}\d+", name) else index_of_name(name)


def map_name(path: Path) -> str:
    """Returns the name of a label map's frame, without a suffix."""
    return path.stem if _holder(path) is None else path.name


def objects_of(holder: Path) -> Mapping[int, ObjectInfo]:
    """Returns the classes and names of objects, by id, as a file or folder of label maps states them."""
    return _opened(holder).objects


def file_names_of(holder: Path) -> Mapping[str, str]:
    """Returns the file names of the frames' pictures, by the frames' names, as a file of label maps states them."""
    return _opened(holder).files


def is_annotated(path: Path) -> bool:
    """Returns whether a label map is annotated: its file may list pictures that are not annotated yet."""
    opened = _opened_holder(path)
    return opened is None or path.name not in opened.unannotated


def gone_in(path: Path) -> frozenset[int]:
    """Returns the objects that the file of a label map states, one by one, to be absent from its frame."""
    opened = _opened_holder(path)
    return frozenset() if opened is None else opened.gone.get(path.name, frozenset())


def interpolated_in(path: Path) -> frozenset[int]:
    """Returns the objects of a label map that its tool interpolated there, while others were annotated."""
    opened = _opened_holder(path)
    return frozenset() if opened is None else opened.interpolated.get(path.name, frozenset())


def only_annotated(paths: list[Path]) -> list[Path]:
    """Returns the label maps that are annotated; logs a warning with their number if the file lists others."""
    said = [path for path in paths if is_annotated(path)]
    if len(said) < len(paths):
        log.warning(
            "%d of %d pictures in %s are annotated: the others are ignored, not taken to be empty",
            *(len(said), len(paths), paths[0].parent),
        )
    return said


def read_labels(path: Path | str) -> Labels:
    """Returns the label stored at each pixel: palette index, grey value or id, unchanged, upright.

    The values are uint8 if none is above 255, else uint16.

    Raises:
        MaskError: the file is missing, damaged or not a mask, or its colours do not determine the labels.
    """
    path = Path(path)
    if (holder := _holder(path)) is not None:
        return _narrow(_opened(holder).read(path.name))
    if path.suffix.lower() in HOLDERS and path.is_file():
        opened = _opened(path)
        return _narrow(opened.read(next(iter(opened.maps))))
    mode, pixels = load_stored(path)
    if mode == "P" and _is_painted(path):
        raise MaskError(
            f"{path} has a palette made for this file alone: index 0 is an object's colour, not the background's",
            "save all masks with one palette in which the background is 0",
        )
    if pixels.ndim == 3 and pixels.shape[2] >= 3 and (pixels[..., :3] == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    if pixels.ndim == 3 and pixels.dtype == np.uint8 and (indices := _davis_indices(pixels)) is not None:
        pixels = indices
    if pixels.ndim != 2 or pixels.dtype.kind not in "bui" or pixels.min() < 0 or pixels.max() > MAX_OBJECT_ID:
        raise MaskError(
            f"{path} is an image of mode {mode}, which does not determine the object at each pixel",
            f"save masks as palette or greyscale PNG with one value (0 to 255, in 16 bits to {MAX_OBJECT_ID}) per "
            "object; colours are read only if they are those of the DAVIS palette: #800000 for object 1, #008000 for "
            "object 2 and so on",
        )
    return _narrow(pixels)


def _davis_indices(pixels: UInt8[np.ndarray, "H W C"]) -> Labels | None:
    """Returns the index of each pixel's colour in the DAVIS palette; None if one has another colour or alpha."""
    if pixels.shape[2] != 3 and (pixels.shape[2] != 4 or (pixels[..., 3] != 255).any()):
        return None
    indices = _davis_index_of()[pixels[..., :3].astype(np.int32) @ (1 << 16, 1 << 8, 1)]
    return None if (indices < 0).any() else indices.astype(np.uint8)


@lru_cache(maxsize=1)
def _davis_index_of() -> Int16[np.ndarray, " N"]:
    """Returns the index in the DAVIS palette of each 24-bit colour; -1 for colours not in it."""
    index_of = np.full(1 << 24, -1, np.int16)
    palette = davis_palette().astype(np.int32) @ (1 << 16, 1 << 8, 1)
    index_of[palette[::-1]] = np.arange(len(palette) - 1, -1, -1)  # the first of equal colours
    return index_of


def _is_painted(path: Path) -> bool:
    with open_image(path, FORMATS_AND_GIF) as image:
        return is_picture_palette(image)


def load_stored(path: Path | str, mode: str | None = None) -> tuple[str, np.ndarray[Any, np.dtype[Any]]]:
    """Returns the mode in which an image is stored, and its upright pixels, as stored or converted to `mode`."""
    try:
        with open_image(path, FORMATS_AND_GIF) as image:
            check_size(image.width, image.height, str(path))
            pixels = np.asarray(image.convert(mode)) if mode else stored_values(image, path)
            return image.mode, turned(pixels, orientation_of(image))
    except FrameError as error:
        raise MaskError(error.problem, error.remedy) from error
    except FileNotFoundError:
        raise MaskError(f"there is no mask {path}", "check the path, or write it") from None
    except (*DAMAGED_IMAGE_ERRORS, *TOO_LARGE_ERRORS) as error:
        raise MaskError(f"{path} cannot be read as a mask ({error})", "copy or write it again") from error


def file_of(path: Path) -> Path:
    """Returns the file or folder that holds a label map: `masks.mkv` for `masks.mkv/00012`, else the path itself."""
    return _holder(path) or path


def holds_labels(path: Path) -> bool:
    """Returns whether a path is a label map inside a file, or a file that can hold several."""
    return _holder(path) is not None or (path.suffix.lower() in HOLDERS and path.is_file())


def states_ids(path: Path) -> bool:
    """Returns whether the values of such a map are certainly object ids: true for all files but label videos."""
    return file_of(path).suffix.lower() != VIDEO


@dataclass(frozen=True)
class _LabelFile:
    """The label maps of one file, by name, compressed: a one-megapixel map takes a few kilobytes."""

    path: Path
    maps: Mapping[str, bytes]
    shapes: Mapping[str, tuple[tuple[int, int], str]]
    files: Mapping[str, str]
    objects: Mapping[int, ObjectInfo]
    unannotated: frozenset[str] = frozenset()
    gone: Mapping[str, frozenset[int]] = field(default_factory=dict)
    interpolated: Mapping[str, frozenset[int]] = field(default_factory=dict)
    stamp: tuple[tuple[str, int, int], ...] = ()

    def read(self, name: str) -> Labels:
        if name not in self.maps:
            raise MaskError(
                f"{self.path} has no mask {name}",
                f"choose one of its {len(self.maps)}, such as {next(iter(self.maps))}",
            )
        shape, dtype = self.shapes[name]
        labels: Labels = np.frombuffer(zlib.decompress(self.maps[name]), dtype).reshape(shape)
        return labels

    @classmethod
    def from_file(cls, path: Path) -> "_LabelFile":
        stamp = _stamp(path) if path.is_dir() else ()
        annotations = None if path.suffix.lower() == VIDEO else Annotations(path)
        packed: dict[str, bytes] = {}
        shapes: dict[str, tuple[tuple[int, int], str]] = {}
        for name, labels in read_label_video(path) if annotations is None else annotations:
            labels = _narrow(labels)
            packed[name] = zlib.compress(labels.tobytes(), 1)
            shapes[name] = (labels.shape[0], labels.shape[1]), labels.dtype.str
        if not packed:
            raise MaskError(f"{path} holds no mask", "write it again")
        if annotations is None:
            return cls(path, packed, shapes, {}, {})
        said = annotations.files, annotations.objects, annotations.unannotated
        return cls(path, packed, shapes, *said, annotations.gone, annotations.interpolated, stamp)


def _holder(path: Path) -> Path | None:
    """Returns the file or folder of annotations that a path leads into; None if the path is a file itself."""
    parent = path.parent
    if parent.suffix.lower() in HOLDERS and parent.is_file():
        return parent
    missing = not path.exists() and path.suffix.lower() not in IMAGE_SUFFIXES
    return parent if missing and parent.is_dir() and _holds_annotations(parent) else None


def _holds_annotations(folder: Path) -> bool:
    """Returns whether a folder has labelme files or YOLO labels, one per frame."""
    return _has_tool_files(folder, folder.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _has_tool_files(folder: Path, modified: int) -> bool:
    """Returns whether a file in the folder begins like those of labelme or YOLO; cached by modification time."""
    jsons = (path for path in json_files(folder) if path.name not in _NAMES)
    return any(map(may_be_labelme, jsons)) or holds_yolo(folder)


def _inside(holder: Path) -> list[Path]:
    if holder.is_dir() and _stamp(holder) != getattr(_opened(holder), "stamp", ()):
        _read_file.cache_clear()  # a file was rewritten in place, which leaves the folder's modification time as it is
    return [holder / name for name in _opened(holder).maps]


def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Returns the name, modification time and size of each file in a folder, which tell when one was rewritten."""
    with os.scandir(folder) as entries:
        return tuple(sorted((each.name, each.stat().st_mtime_ns, each.stat().st_size) for each in entries))


def _opened(path: Path) -> _LabelFile | ParquetLabels:
    state = path.stat()
    return _read_file(path.resolve(), state.st_mtime_ns, state.st_size)


def _opened_holder(path: Path) -> _LabelFile | ParquetLabels | None:
    """Returns the file that a path leads into; None if the path is a file itself."""
    holder = _holder(path)
    return None if holder is None else _opened(holder)


@lru_cache(maxsize=64)
def _read_file(path: Path, modified: int, size: int) -> _LabelFile | ParquetLabels:
    """Returns the content of a file, cached until its size or modification time differs."""
    return ParquetLabels(path) if path.suffix.lower() == PARQUET else _LabelFile.from_file(path)


def _narrow(pixels: np.ndarray[Any, np.dtype[Any]]) -> Labels:
    labels: Labels = pixels.astype(np.uint8 if pixels.dtype == np.bool_ or pixels.max() <= 255 else np.uint16)
    return labels

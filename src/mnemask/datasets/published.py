"""DAVIS 2016 and 2017, YouTube-VOS 2018 and 2019, and the Long-time Video set, in their published layouts.

DAVIS::

    ROOT/JPEGImages/480p/SEQUENCE/00000.jpg …
    ROOT/Annotations/480p/SEQUENCE/00000.png …
    ROOT/ImageSets/2016/val.txt, ROOT/ImageSets/2017/val.txt or ROOT/ImageSets/480p/val.txt

YouTube-VOS::

    ROOT/train/JPEGImages/VIDEO/00000.jpg, 00005.jpg …
    ROOT/train/Annotations/VIDEO/00000.png …
    ROOT/train/meta.json       the objects, and the frames that show each
    ROOT/valid/…               the same; masks only of frames in which an object first appears

The Long-time Video set (Liang et al. 2020), videos of some minutes with masks of about twenty frames each::

    ROOT/JPEGImages/VIDEO/*.jpg
    ROOT/Annotations/VIDEO/*.png      of the first frame and of some later ones
"""

import json
import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mnemask.datasets.annotated import AnnotatedVideo, incomplete, names_in, open_video
from mnemask.errors import InputError
from mnemask.io.images import IMAGE_SUFFIXES

DAVIS_PUBLISHED = "davischallenge.org (the archive named trainval-480p)"
YOUTUBE_VOS_PUBLISHED = "https://youtube-vos.org/dataset/vos"
LONG_VIDEO_PUBLISHED = "https://github.com/xmlyqing00/AFB-URR"
logger = logging.getLogger(__name__)
_RESOLUTION = "480p"
_WHERE = f"download DAVIS from {DAVIS_PUBLISHED}"


class DavisSequences:
    """The sequences of one subset of DAVIS, checked for completeness when opened.

    If masks opened as 2016 show several objects, they are followed as one and a warning is logged.

    Args:
        root: the folder that contains JPEGImages, Annotations and ImageSets.
        year: 2016 (one object per sequence) or 2017 (several).
        subset: name of a list in ImageSets, such as "train" or "val".

    Raises:
        InputError: a part is missing, or the folder contains DAVIS of the other year; the message states what was
            expected and where.

    Example:
        for sequence in DavisSequences("DAVIS", year=2016):
            print(sequence.name, len(sequence.frames))
    """

    def __init__(self, root: Path | str, year: int = 2017, subset: str = "val") -> None:
        root = Path(root)
        if year not in (2016, 2017):
            raise InputError(f"DAVIS {year} is not supported", "use 2016 or 2017")
        for folder in (root / "JPEGImages" / _RESOLUTION, root / "Annotations" / _RESOLUTION):
            if not folder.is_dir():
                raise InputError(f"{root} is not DAVIS at {_RESOLUTION}: there is no folder {folder}", _WHERE)
        self._sequences = {
            name: _open_sequence(root, name, year == 2016, every_frame=not subset.startswith("test"))
            for name in _sequence_names(root, year, subset)
        }
        _check_year(root, year, self._sequences)

    @property
    def names(self) -> tuple[str, ...]:
        """The sequences' names, in the order of the subset's list."""
        return tuple(self._sequences)

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[AnnotatedVideo]:
        return iter(self._sequences.values())

    def __getitem__(self, name: str) -> AnnotatedVideo:
        if name not in self._sequences:
            raise InputError(
                f"there is no sequence {name!r} in this subset", f"use one of {', '.join(self._sequences)}"
            )
        return self._sequences[name]


def _sequence_names(root: Path, year: int, subset: str) -> list[str]:
    lists = [root / "ImageSets" / folder / f"{subset}.txt" for folder in (str(year), _RESOLUTION)]
    found = next((path for path in lists if path.is_file()), None)
    if found is None:
        other = 4033 - year
        if (root / "ImageSets" / str(other) / f"{subset}.txt").is_file():
            raise InputError(
                f"{root} is DAVIS {other} and has no list of the {year} sequences in {subset!r} ({lists[0]})",
                f"use year {other} (--dataset davis{other}), or add that list",
            )
        raise InputError(
            f"{root} has no list of the sequences in {subset!r}: expected {lists[0]} or {lists[1]}", _WHERE
        )
    try:
        text = found.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{found} is not UTF-8 text", "save it as UTF-8") from error
    lines = [line.strip().rstrip("/") for line in text.splitlines() if line.strip() and line.strip()[0] != "#"]
    # A line is a sequence's name or, in DAVIS 2016, the paths of a frame and its annotation.
    names = list(dict.fromkeys(Path(line.split()[0]).parent.name if "/" in line else line for line in lines))
    if not names:
        raise InputError(f"{found} is empty; expected the name of a sequence on each line", _WHERE)
    return names


def _open_sequence(root: Path, name: str, single_object: bool, every_frame: bool) -> AnnotatedVideo:
    frames, masks = (root / kind / _RESOLUTION / name for kind in ("JPEGImages", "Annotations"))
    sequence = open_video(name, frames, masks, single_object, every_frame=every_frame, published=DAVIS_PUBLISHED)
    if 0 not in sequence.masks:
        raise InputError(f"{name} has no mask of its first frame {sequence.frames[0].stem} in {masks}", _WHERE)
    return sequence


def _check_year(root: Path, year: int, sequences: Mapping[str, AnnotatedVideo]) -> None:
    """Raises InputError for 0/255 masks opened as 2017, where 255 is void; warns about several objects in 2016."""
    values = {}
    for name, sequence in sequences.items():
        try:
            with Image.open(sequence.masks[0]) as mask:
                labels = np.asarray(mask)
        except (OSError, ValueError, Image.DecompressionBombError):  # reported when the mask is read
            continue
        if labels.ndim == 2:
            values[name] = set(np.unique(labels).tolist()) - {0}
    if year == 2017 and values and all(found <= {255} for found in values.values()):
        raise InputError(
            f"{root} is DAVIS 2016: the first masks of all {len(values)} sequences contain only 0 and 255, and "
            "255 is void in 2017",
            f"use year 2016 (--dataset davis2016), or download DAVIS 2017 from {DAVIS_PUBLISHED}",
        )
    several = [name for name, found in values.items() if len(found - {255}) > 1]
    if year == 2016 and several:
        logger.warning(
            "%d of %d sequences in %s show several objects in their first mask (such as %s), which davis2016 follows "
            "as one; use davis2017 to follow each",
            len(several), len(values), root, several[0],
        )  # fmt: skip


def open_youtube_vos(root: Path | str, subset: str = "train", all_frames: bool = False) -> list[AnnotatedVideo]:
    """Returns the videos of one subset, checked against its meta.json and sorted by name.

    Args:
        root: the folder that contains the subset's folder.
        subset: "train", "valid" or the name of another folder with the same layout, such as a resized copy; if it
            begins with "valid" or "test", each object needs a mask only where it first appears.
        all_frames: whether to read the frames from the folder `{subset}_all_frames`, which has 30 per second instead
            of 6.

    Raises:
        InputError: a part is missing; the message states what was expected and where.
    """
    folder = Path(root) / subset
    masks = folder / "Annotations"
    frames = (folder.with_name(f"{subset}_all_frames") if all_frames else folder) / "JPEGImages"
    objects = read_meta(folder / "meta.json")
    for place in (frames, masks):
        present = frozenset(names_in(place))
        if missing := [place / name for name in objects if name not in present]:
            raise incomplete(f"YouTube-VOS {subset}", missing, len(objects), YOUTUBE_VOS_PUBLISHED)
    only_first = subset.startswith(("valid", "test"))
    videos = []
    for name in sorted(objects):
        video = open_video(name, frames / name, masks / name, single_object=False, published=YOUTUBE_VOS_PUBLISHED)
        shown = {stem for thing in objects[name].values() for stem in thing.stems}
        marked = {thing.stems[0] for thing in objects[name].values()} if only_first else shown
        _check_video(video, frames / name, shown, masks / name, marked)
        videos.append(video)
    return videos


def _check_video(
    video: AnnotatedVideo, frames: Path, shown: Collection[str], masks: Path, marked: Collection[str]
) -> None:
    """Raises InputError unless the video has the frames `shown` and the masks `marked`."""
    known = {path.stem: index for index, path in enumerate(video.frames)}
    missing = [frames / f"{stem}.jpg" for stem in sorted(shown) if stem not in known]
    missing += [masks / f"{stem}.png" for stem in sorted(marked) if known.get(stem, -1) not in video.masks]
    if missing:
        raise incomplete(video.name, missing, len(shown) + len(marked), YOUTUBE_VOS_PUBLISHED)


class ObjectMeta(NamedTuple):
    """An object's entry in meta.json.

    Attributes:
        stems: names of the frames that show the object, in order; at least one.
        category: the object's category, None if not given.
    """

    stems: tuple[str, ...]
    category: str | None


def read_meta(path: Path) -> dict[str, dict[int, ObjectMeta]]:
    """Returns the objects of each video of YouTube-VOS, by id, from meta.json, without objects that have no frame.

    Raises:
        InputError: there is no such file, or it lists no videos.
    """
    try:
        objects = {
            name: {
                int(key): ObjectMeta(
                    tuple(sorted(map(str, thing["frames"]))),
                    None if thing.get("category") is None else str(thing["category"]),
                )
                for key, thing in video["objects"].items()
                if thing["frames"]
            }
            for name, video in json.loads(path.read_text(encoding="utf-8"))["videos"].items()
        }
    except FileNotFoundError:
        raise InputError(
            f"there is no {path}, which lists the videos of YouTube-VOS",
            f"download it from {YOUTUBE_VOS_PUBLISHED}; for a resized copy, use the file of the original",
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} does not list the videos of YouTube-VOS ({type(error).__name__}: {error})",
            f"download it again from {YOUTUBE_VOS_PUBLISHED}",
        ) from error
    if not objects:
        raise InputError(f"{path} lists no video", f"download it again from {YOUTUBE_VOS_PUBLISHED}")
    return objects


def open_long_video(root: Path | str) -> list[AnnotatedVideo]:
    """Returns the videos of the Long-time Video set, or of a set with the same layout, sorted by name.

    Raises:
        InputError: a part is missing; the message states what was expected and where.
    """
    frames, masks = Path(root) / "JPEGImages", Path(root) / "Annotations"
    names, with_frames = names_in(masks), frozenset(names_in(frames))
    if not names:
        raise InputError(
            f"there are no long videos in {root}",
            f"expected {frames}/VIDEO/*.jpg and {masks}/VIDEO/*.png, as published at {LONG_VIDEO_PUBLISHED}",
        )
    if missing := [frames / name for name in names if name not in with_frames]:
        raise incomplete("the Long-time Video set", missing, len(names), LONG_VIDEO_PUBLISHED)
    return [
        open_video(name, frames / name, masks / name, False, IMAGE_SUFFIXES, published=LONG_VIDEO_PUBLISHED)
        for name in names
    ]

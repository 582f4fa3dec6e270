"""Assigns masks to frames: those of an image, of a folder, or of an annotation tool's file."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemask.errors import MaskError, counted, listed
from mnemask.io.annotation_formats import AT
from mnemask.io.frame_files import like_labels, masks_among
from mnemask.io.images import IMAGE_SUFFIXES, is_unread_picture
from mnemask.io.label_files import (
    LABEL_VIDEO,
    annotated_frames,
    file_names_of,
    file_of,
    holds_labels,
    is_annotated,
    map_name,
    objects_of,
)
from mnemask.io.name_order import composed
from mnemask.io.written import INDEX, Written
from mnemask.io.yolo import refuse_nearly_yolo
from mnemask.prompts.parse import FIRST_READ, At, typed
from mnemask.types import ObjectInfo, check_object_id

log = logging.getLogger(__name__)

_SHOWN = 5
_SUFFIXES = (*IMAGE_SUFFIXES, ".gif")
_WORD = r"(?:masks?|labels?|labelids|seg|segmentation|gt|annotations?|instances?|instanceids|matte|alpha)"
_AFTER = re.compile(rf"[_\-. ]+{_WORD}$|(?<=\d){_WORD}$", re.IGNORECASE)
_BEFORE = re.compile(rf"^{_WORD}[_\-. ]+", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")
_LONG_NUMBER = re.compile(r"\d{3,6}")  # longer ones are dates, or numbers of pictures in a data set
# Roboflow renames 00012.jpg to 00012_jpg.rf.3fa8b1c2.
_ROBOFLOW = re.compile(r"_(?:jpe?g|png|bmp|webp|tiff?)\.rf\.[0-9a-z]+$", re.IGNORECASE)
_THING = r"(?:obj|object|id|inst|instance)?"
_NUMBERED = re.compile(rf"(?P<frame>.*\d)[_\-. ]+{_THING}[_\-. ]*(?P<number>\d{{1,3}})", re.IGNORECASE)
_FRAMES_RATHER = 10  # masks with the same prefix are hardly that many objects of one frame
# A number that means a frame: the whole name, after a word for frames, or written with many digits.
_FRAME_NUMBER = re.compile(r"(?:.*(?:frame|img|image|pic)[_\-. ]*)?\d+|.*\d{3,}", re.IGNORECASE)


def folders_of_objects(folder: Path) -> dict[int | None, Path]:
    """Returns the folders of masks in a folder: itself, or one for each object if its subfolders are named by ids.

    Raises:
        MaskError: only some of the subfolders are named by ids, or one by 0.
    """
    inside = _given_in(folder)
    by_id = {int(each.name): each for each in inside if each.is_dir() and re.fullmatch(r"\d{1,5}", each.name)}
    if not by_id or any(each.suffix.lower() in _SUFFIXES for each in inside):
        return {None: folder}
    if 0 in by_id:
        raise MaskError(
            f"folder {by_id[0]} is named by id 0, which is the background", "name the folders of objects from 1 on"
        )
    if others := [each.name for each in inside if each.is_dir() and each not in by_id.values()]:
        raise MaskError(
            f"folder {folder} holds folders of objects ({', '.join(each.name for each in by_id.values())[:60]}) and "
            f"{others[0]!r}, which is not an id",
            "name each folder by the id of its object, or move it elsewhere",
        )
    return {check_object_id(object_id): each for object_id, each in sorted(by_id.items())}


def _given_in(folder: Path) -> list[Path]:
    """Returns the entries of a folder of masks, sorted by name, without hidden files and those that runs wrote."""
    written = Written(folder)
    of_runs = {folder / path.relative_to(folder).parts[0] for path in written.files()}
    return [
        path
        for path in sorted(folder.iterdir())
        if path.name[0] != "." and path not in of_runs and not written.claims(path) and not (path / INDEX).exists()
    ]


def mask_files(folder: Path) -> list[Path]:
    """Returns the files in a folder of masks that `MaskPlaces` reads, sorted by name.

    Raises:
        MaskError: as raised by `given_masks` and `folders_of_objects`.
    """
    holders = list(dict.fromkeys(path.parent for path in annotated_frames(folder)))
    if holders == [folder]:  # a text file for each picture, perhaps in labels/, and one for the class names
        # Files of an export count like any others, but not the report of a run into this folder.
        report = Written(folder).owns(folder / "report.json")
        texts = sorted(path for place in (folder.glob("*"), (folder / "labels").rglob("*")) for path in place)
        texts = [path for path in texts if path.suffix.lower() in (".json", ".txt", ".yaml") and path.name[0] != "."]
        return [path for path in texts if path.is_file() and not (report and path == folder / "report.json")]
    return holders or [path for each in folders_of_objects(folder).values() for path in given_masks(each)[0]]


def given_masks(folder: Path) -> tuple[list[Path], int]:
    """Returns the masks that `list_masks` finds in a folder, without the frames beside them, and how many these are.

    Raises:
        MaskError: as raised by `list_masks`, or the images are frames and their masks are in an annotation file.
    """
    masks = list_masks(folder)
    if any(file_of(path) != path for path in masks):
        return masks, 0
    if among := masks_among(masks):
        return sorted(among), len(masks) - len(among)
    if annotations := _annotations_of(masks, folder):
        raise MaskError(
            f"the pictures in {folder} are frames, and {annotations.name} there holds their masks",
            f"give {annotations}",
        )
    return masks, 0


def _annotations_of(images: Sequence[Path], folder: Path) -> Path | None:
    """Returns the only file of an annotation tool in a folder, if it lists one of these images, which are no masks."""
    files = [path for path in _given_in(folder) if path.is_file() and path.suffix.lower() in (".json", ".xml")]
    if len(files) != 1 or like_labels(images):
        return None
    try:
        inside = annotated_frames(files[0])
    except MaskError:
        return None
    listed_names = file_names_of(files[0]).values() if inside else ()
    return files[0] if {path.name for path in images} & {*listed_names} else None


def list_masks(folder: Path) -> list[Path]:
    """Returns the images in a folder, sorted by name, or the label maps of annotation files there or of one such file.

    Raises:
        MaskError: there is none, a file is damaged, or `folder` is a single image, which names no frame.
    """
    if folder.exists() and (inside := annotated_frames(folder)):
        return inside
    if not folder.is_dir():
        what = "is not a file of an annotation tool" if folder.exists() else "does not exist"
        raise MaskError(
            f"{folder} {what}", "give such a file or a folder of masks, or a single image as --at FRAME=FILE"
        )
    files = [path for path in _given_in(folder) if path.is_file()]
    masks = [path for path in files if path.suffix.lower() in _SUFFIXES]
    if not masks:
        if unread := [path.name for path in files if is_unread_picture(path)]:
            raise MaskError(
                f"folder {folder} holds images of an unsupported format ({listed(unread, 1)})",
                "convert them to PNG",
            )
        refuse_nearly_yolo(folder)
        raise MaskError(f"folder {folder} holds no mask ({', '.join(_SUFFIXES)})", _way_out(folder))
    return masks


def match_frames(
    masks: Sequence[Path], names: Sequence[str] | None, num_frames: int | None = None
) -> tuple[dict[int, Path], str]:
    """Returns the mask of each frame that has one, and a note on what was guessed.

    A mask has the name of its frame, with or without affixes that tools add: `00012.png`, `00012.jpg.png`,
    `00012_mask.png`, `label-00012.png`. If none has one, and for a video file, masks are matched by the last number in
    their names: it is the last number in the frame's name, or for a video the frame's index from 0.

    Args:
        masks: the mask files.
        names: names of all frames without extensions, if they are files; None for a video.
        num_frames: number of frames of the video, if known.

    Raises:
        MaskError: a mask has no frame, or a frame has two masks.
    """
    guessed = ""
    _refuse_numbered_objects(masks, names)
    places = [map_name(path) for path in masks]
    if all(place.startswith(AT) for place in places):
        last = num_frames if names is None else len(names)
        numbers = {path: int(place[1:]) for path, place in zip(masks, places, strict=True)}
        found = {path: None if last is not None and index >= last else index for path, index in numbers.items()}
    elif names is None:
        found = {path: _number(map_name(path)) for path in masks}
        if 1 in found.values() and 0 not in found.values():
            guessed = "masks are matched to frames by their numbers, counted from 0: the first frame has no mask"
        if num_frames is not None:
            found = {path: None if i is None or i >= num_frames else i for path, i in found.items()}
    else:
        found = _by_name(masks, names)
        if all(index is None for index in found.values()):
            found = _by_number(masks, names)
            path, index = next(iter(found.items()))
            if index is not None:
                guessed = f"masks are matched to frames by their numbers: {path.name} to {names[index]}"
    if lost := [path.name for path, index in found.items() if index is None]:
        raise _lost(lost, len(masks), masks[0].parent, names, num_frames)
    matched: dict[int, Path] = {}
    for path, index in found.items():
        assert index is not None
        if index in matched:
            raise MaskError(
                f"masks {matched[index].name} and {path.name} are both of frame {index}",
                "remove one of them, or put all objects of a frame into one file",
            )
        matched[index] = path
    return dict(sorted(matched.items())), guessed


def mask_of_first(masks: Sequence[Path], names: Sequence[str]) -> Path | None:
    """Returns the mask of the first of these frames, matched as by `match_frames`; None if it has none."""
    found = _by_name(masks, names)
    if all(index is None for index in found.values()):
        found = _by_number(masks, names)
    return next((path for path, index in found.items() if index == 0), None)


def match_one(path: Path, names: Sequence[str] | None, num_frames: int | None = None) -> int | None:
    """Returns the frame of the only map in an annotation tool's file; None if its name has no usable number.

    Raises:
        MaskError: its name has a number that no frame has.
    """
    name = map_name(path)
    if names is not None and (index := _by_name([path], names)[path]) is not None:
        return index
    if not _FRAME_NUMBER.fullmatch(_without_endings(name)):
        return None
    try:
        return next(iter(match_frames([path], names, num_frames)[0]))
    except MaskError as error:
        raise MaskError(
            f"the only picture in {path.parent} is called {name!r}, which is not the name or number of a frame",
            f"give its frame, such as --at 0={path.parent} for the first",
        ) from error


def named_otherwise(places: Iterable[At], names: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    """Yields a sentence and a remedy for each mask that is given to one frame and named after another.

    Only whole names count, perhaps with what tools append (00012.jpg.png, 00012_mask.png): the number in mask_12.png
    may be that of an object. The frames of a video file have no names; of one, an image without a frame is compared.

    Args:
        places: masks that were given one by one, each with its frame.
        names: names of all frames, if they are files.
    """
    places = [at for at in places if file_of(at.path) == at.path and at.path.stem != str(at.object_id)]
    found = _by_name((at.path for at in places), names or ())
    for at in places:
        meant = found[at.path]
        if names is None or meant in (None, at.frame):
            continue
        assert meant is not None
        if composed(map_name(at.path)).startswith(composed(names[meant])):
            yield _other_frame(at, meant, f"is named after frame {meant} ({names[meant]})")


def numbered_otherwise(mask: Path, frame: int) -> Iterator[tuple[str, str]]:
    """Yields the same for an image called 00120.png that is given to the first frame read of a video file."""
    number = int(mask.stem) if _LONG_NUMBER.fullmatch(mask.stem) else frame
    if number not in (frame, frame + 1):  # programs that save the frames of a video count from 0 or from 1
        yield _other_frame(At(frame, None, mask), number, f"has the number of frame {number} (counted from 0)")


def _other_frame(at: At, meant: int, how: str) -> tuple[str, str]:
    where = at._replace(frame=meant).where
    return (
        f"mask {at.path} {how}, but is given to frame {at.frame}",
        f"if it shows frame {meant}, give --at {where}={at.path} instead",
    )


def never_annotated(marked: Sequence[bool]) -> bool:
    """Returns whether empty masks mean frames that nobody annotated, instead of frames where the objects are gone.

    That is so for tools that write a mask for every frame: each mask that shows something, unless it is the very last
    mask, is followed by several empty ones.

    Args:
        marked: whether each mask shows anything, in frame order.
    """
    shown = [at for at, shows in enumerate(marked) if shows]
    ends = [*shown[1:], len(marked)][: len(shown)]
    empty = [end - at - 1 for at, end in zip(shown, ends, strict=True) if at < len(marked) - 1]
    return bool(empty) and min(empty) > 1


def _lost(
    lost: Sequence[str], total: int, folder: Path, names: Sequence[str] | None, num_frames: int | None
) -> MaskError:
    which = listed(lost, _SHOWN)
    if names is not None:
        expected = f"the names of frames, from {names[0]} to {names[-1]}"
    else:
        until = "" if num_frames is None else f" to {num_frames - 1}"
        expected = f"the number of a frame, from 0{until}"
    give = _way_out(folder, f"rename them (expected {expected}) or remove them")
    return MaskError(f"{len(lost)} of {total} masks in {folder} match no frame: {which}", give)


def _way_out(folder: Path, else_: str = "give the folder that the masks are in") -> str:
    """Returns the remedy for a folder without masks, which may be the folder of a run."""
    run = folder / "masks"
    if video := next((each / LABEL_VIDEO for each in (folder, run) if (each / LABEL_VIDEO).is_file()), None):
        return (
            f"of the label video {video} give single maps, such as --at 12={video}/00012, or make images of it: "
            "mnemask export RUN --to davis -o NEW, and give the folder in NEW/Annotations/480p"
        )
    return f"give {run}, which a run wrote" if run.is_dir() else else_


def _refuse_numbered_objects(masks: Sequence[Path], names: Sequence[str] | None) -> None:
    """Raises MaskError if masks are named after a frame and a number, as in 00012_2: the number may be an object's id.

    For a video, the number counts frames if many masks share the prefix, or if it has leading zeros.
    """
    known, asked = set(map(composed, names or ())), {}
    for path in (path for path in masks if not holds_labels(path)):
        stem = _without_endings(composed(path.stem))
        if stem in known:
            continue
        while (bare := _BEFORE.sub("", _AFTER.sub("", stem))) not in ("", stem):
            stem = bare
        parts = _NUMBERED.fullmatch(stem)
        if parts and (parts["frame"] in known or (names is None and _looks_like_a_frame(parts))):
            asked[path] = parts
    fronts = {parts["frame"] for parts in asked.values()}
    if not asked or (names is None and len(fronts) == 1 and len(asked) >= _FRAMES_RATHER):
        return
    path, parts = next(iter(asked.items()))
    frame, number = parts["frame"], parts["number"]
    raise MaskError(
        f"mask {path.name} is named after frame {frame} and a number, {number}: object {number} of that frame, or "
        "another frame?",
        f"put the masks of each object into a folder named by its id ({number}/{frame}.png), or all objects of a "
        "frame into one file; name the mask of another frame after that frame alone",
    )


def _looks_like_a_frame(parts: re.Match[str]) -> bool:
    """Returns whether the first of two numbers is written like a frame's, with leading zeros, and the second is not."""
    digits, number = _NUMBER.findall(parts["frame"])[-1], parts["number"]
    padded = digits[0] == "0" or parts["frame"].isdecimal()
    return padded and len(digits) > 2 and number[0] != "0" and len(number) < 3


def _by_name(masks: Iterable[Path], names: Sequence[str]) -> dict[Path, int | None]:
    index_of = {composed(name): index for index, name in enumerate(names)}
    found = {}
    for path in masks:
        stem = composed(map_name(path))
        while True:
            plain = _without_endings(stem)
            index = next((index_of[each] for each in (stem, plain) if each in index_of), None)
            bare = _BEFORE.sub("", _AFTER.sub("", plain))
            if index is not None or bare in ("", stem):
                break
            stem = bare
        found[path] = index
    return found


def _by_number(masks: Iterable[Path], names: Sequence[str]) -> dict[Path, int | None]:
    numbers = [_number(name) for name in names]
    times = Counter(numbers)
    index_of = {number: index for index, number in enumerate(numbers) if times[number] == 1}
    found = {path: _number(map_name(path)) for path in masks}
    return {path: None if number is None else index_of.get(number) for path, number in found.items()}


def _number(name: str) -> int | None:
    """Returns the last number in a mask's name; None if there is none, or it is too large for a frame."""
    digits = _NUMBER.findall(_without_endings(name))
    return int(digits[-1]) if digits and len(digits[-1]) < 10 else None


def _without_endings(stem: str) -> str:
    """Returns 00012 for 00012.jpg (the stem of 00012.jpg.png) and for 00012_jpg.rf.3fa8b1c2."""
    while Path(stem).suffix.lower() in _SUFFIXES:
        stem = Path(stem).stem
    return _ROBOFLOW.sub("", stem)


@dataclass(slots=True)
class MaskPlaces:
    """The masks given by `--mask`.

    Attributes:
        places: the masks, each with its frame.
        objects: classes and names of objects by id, if a file has them.
        notes: sentences that say how the masks were understood and what was guessed.
    """

    places: list[At] = field(default_factory=list)
    objects: Mapping[int, ObjectInfo] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, mask: Path, names: Sequence[str] | None, num_frames: int | None) -> "MaskPlaces":
        """Returns the masks of an image, of a folder, of one folder for each object, or of an annotation tool's file.

        Args:
            mask: the path as given; an image need not exist.
            names: names of all frames, if they are files.
            num_frames: number of frames of the video, if known.

        Raises:
            MaskError: masks cannot be read, mark nothing, or match no frame.
        """
        inside = annotated_frames(mask) if mask.exists() else []
        found = cls(objects=dict(objects_of(inside[0].parent)) if inside else {})
        if inside and mask.is_file() and len(inside) == 1:
            found._add_only(inside[0], match_one(inside[0], names, num_frames))
        elif inside:
            found._add_folder(mask, None, names, num_frames)
        elif mask.is_dir():
            for object_id, folder in folders_of_objects(mask).items():
                found._add_folder(folder, object_id, names, num_frames)
        else:
            found.places.append(At(FIRST_READ, None, mask))
        return found

    def _add_only(self, path: Path, frame: int | None) -> None:
        if frame:
            log.warning(
                "the picture in %s is called %s: its masks are given to frame %s (counted from 0)",
                *(path.parent.name, map_name(path), frame),
            )
        self.places.append(At(FIRST_READ if frame is None else frame, None, path))

    def _add_folder(
        self, folder: Path, object_id: int | None, names: Sequence[str] | None, num_frames: int | None
    ) -> None:
        """Adds the masks in a folder, or in a file that holds several."""
        masks_here, frames_beside = given_masks(folder)
        empty = [path for path in masks_here if not is_annotated(path)]
        if len(empty) == len(masks_here):
            raise MaskError(
                f"{folder} lists {counted(len(masks_here), 'picture')} but marks no object in any",
                "annotate at least one",
            )
        if empty:
            say_not_annotated(folder, empty, len(masks_here))
        left_out = set(empty)
        masks = [path for path in masks_here if path not in left_out]
        matched, guessed = match_frames(masks, names, num_frames)
        self.notes += [guessed] if guessed else []
        if frames_beside:
            self.notes.append(f"{counted(frames_beside, 'picture')} in {folder} beside their masks: left out")
        frames = ", ".join(map(str, list(matched)[:_SHOWN])) + (", ..." if len(matched) > _SHOWN else "")
        which = f"frame {frames}" if len(matched) == 1 else f"frames {frames}"
        of_object = "" if object_id is None else f" of object {object_id}"
        self.notes.append(f"{counted(len(matched), 'mask')}{of_object} in {folder}, for {which}")
        self.places += [At(frame, object_id, path) for frame, path in matched.items()]


def refuse_several(at: At) -> None:
    """Raises MaskError if the mask of one frame is a tool's file of several pictures, of which any may be meant."""
    pictures = annotated_frames(at.path) if at.path.is_file() else []
    if len(pictures) > 1:
        raise MaskError(
            f"{at.path} has {len(pictures)} pictures, but --at takes the mask of one frame",
            f"name the picture, such as --at {typed(at.frame)}={pictures[0]}, or give the file with --mask",
        )


def say_not_annotated(folder: Path, empty: Sequence[Path], total: int) -> None:
    """Warns that empty masks are not taken to mean that objects are gone."""
    names = [map_name(path) for path in empty]
    which = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    log.warning(
        "%s of %s masks in %s are empty (%s): they are taken for frames that nobody annotated, so objects are "
        "tracked through them; where objects are gone, give --remove FRAME:ID",
        *(len(empty), total, folder, which),
    )

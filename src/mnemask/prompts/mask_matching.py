"""Matches masks to frames by names and numbers, and says where these leave doubts."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mnemask.errors import MaskError, listed
from mnemask.io.annotation_formats import AT
from mnemask.io.label_files import file_of, holds_labels, map_name
from mnemask.io.name_order import composed
from mnemask.prompts.mask_folder import MASK_SUFFIXES, way_out
from mnemask.prompts.parse import At

_SHOWN = 5
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
    places = {path: map_name(path) for path in masks}
    found: dict[Path, int | None]
    if all(place.startswith(AT) for place in places.values()):
        found = {path: int(place[1:]) for path, place in places.items()}
    elif names is None:
        found = {path: _number(place) for path, place in places.items()}
        if 1 in found.values() and 0 not in found.values():
            guessed = "masks are matched to frames by their numbers, counted from 0: the first frame has no mask"
    else:
        found = _by_name(masks, names)
        if all(index is None for index in found.values()):
            found = _by_number(masks, names)
            path, index = next(iter(found.items()))
            if index is not None:
                guessed = f"masks are matched to frames by their numbers: {path.name} to {names[index]}"
    last = num_frames if names is None else len(names)
    if lost := [path.name for path, index in found.items() if index is None or (last is not None and index >= last)]:
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


def _lost(
    lost: Sequence[str], total: int, folder: Path, names: Sequence[str] | None, num_frames: int | None
) -> MaskError:
    which = listed(lost, _SHOWN)
    if names is not None:
        expected = f"the names of frames, from {names[0]} to {names[-1]}"
    else:
        until = "" if num_frames is None else f" to {num_frames - 1}"
        expected = f"the number of a frame, from 0{until}"
    give = way_out(folder, f"rename them (expected {expected}) or remove them")
    return MaskError(f"{len(lost)} of {total} masks in {folder} match no frame: {which}", give)


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
    while Path(stem).suffix.lower() in MASK_SUFFIXES:
        stem = Path(stem).stem
    return _ROBOFLOW.sub("", stem)

"""Which images of a folder are the frames of its video, and in which order.

Annotation tools leave masks beside their frames: `00000_mask.png`, or `00000.png` beside `00000.jpg`. Read as frames,
they would be tracked through, so they are left out and a note states that.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations, islice, permutations
from pathlib import Path

import numpy as np

from mnemask.errors import FrameError, listed
from mnemask.io.images import (
    DAMAGED_IMAGE_ERRORS,
    IMAGE_SUFFIXES,
    RARE_SUFFIXES,
    TOO_LARGE_ERRORS,
    is_unread_picture,
    open_image,
)
from mnemask.io.name_order import NameOrder, composed, numbers_of
from mnemask.io.name_rewrites import HALF_DAY_AFTER, HALF_DAY_BEFORE
from mnemask.io.pictures import MAX_IMAGES, MAX_PIXELS
from mnemask.io.written import is_preview

# A drawing may have few colours too, so names or numbers must also pair such images with frames.
_MOST_LABELS = 64
# With more series, since each pair would have to be compared, masks are recognized by their names only.
_MOST_SERIES = 20
# A camera number before or after the frame number, but not the year of a date.
_CAMERA = re.compile(
    r"(?<![a-z])(?:cam|camera|view|angle|stream|channel|ch|sensor|eye|rig)[_\-. ]?"
    r"(?!(?:19|20)\d\d[_\-. ]?\d\d)\d+(?=[_\-. ]|$)",
    re.IGNORECASE,
)
_MASK_WORDS = re.compile(
    r"(?<![a-z])(masks?|masked|gt|gtfine|groundtruth|truth|labels?|labelids|labeltrainids|instances?|instanceids|"
    r"seg|segs|segm|segmentation|annots?|annotations?|mattes?|alpha|silhouettes?|trimaps?)(?![a-z])",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class FrameFiles:
    """The files of a video's frames, in order, and notes on what was left out or is ambiguous.

    Attributes:
        paths: the files.
        notes: the sentences.
        topics: what each of the notes from the frames' names is about, the same however many files there are by now.
    """

    paths: Sequence[Path]
    notes: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()


def find_frames(source: Path, masks: Collection[Path] = ()) -> FrameFiles:
    """Returns the frames of a folder or a glob pattern in the order of the numbers in their names.

    Other files, hidden ones, masks beside their frames and the preview of a run are left out, and so are pipes and
    devices, whatever their names. `**` does not follow links to folders.

    Args:
        source: the folder or pattern.
        masks: files that are known to be masks, in any folder.

    Raises:
        FrameError: there is no image, there are more than a million files, two share a name without suffix, so that
            their masks would overwrite each other, a name is not UTF-8, or the pattern is invalid.
    """
    found = frames_among(image_files(source), masks)
    if not found.paths:
        files = list(_files(source))
        others = sorted({path.suffix.lower() for path in files} - set(IMAGE_SUFFIXES))
        kinds = (
            f" (it holds {', '.join(others[:5])})"
            if others
            else "".join(f" ({note})" for note in (*_lost(source), *_hidden(source)))
        )
        project = "; to repeat a studio project, use `mnemask project`" * (source / "project.json").is_file()
        convert = "convert its pictures to PNG" if any(map(is_unread_picture, files)) else ""
        if not files and source.is_dir() and (inside := _folder_of_frames(source)) is not None:
            raise FrameError(f"{str(source)!r} holds folders, but no image itself", f"give {str(inside)!r}")
        way_out = convert or f"expected {', '.join(IMAGE_SUFFIXES)}{project}"
        raise FrameError(f"{str(source)!r} holds no image in a readable format{kinds}", way_out)
    _refuse_names(found.paths)
    return replace(found, notes=(*found.notes, *notes_on_others(source, masks)))


def _folder_of_frames(source: Path) -> Path | None:
    """Returns the first folder in a folder that holds images other than masks; None if there is none."""
    for folder in sorted(_files(source, Path.is_dir)):
        with suppress(FrameError):  # it cannot be listed
            if (images := image_files(folder)) and not like_labels(images):
                return folder
    return None


def notes_on_others(source: Path, masks: Collection[Path] = ()) -> Iterator[str]:
    """Yields sentences on files of a folder or pattern that may be meant as frames, but are not."""
    yield from _unread(source, masks)
    yield from _lost(source)
    yield from _hidden(source)


def _lost(source: Path) -> Iterator[str]:
    """Yields a sentence if links to images lead to no file."""
    links = _files(source, lambda path: path.suffix.lower() in IMAGE_SUFFIXES and path.is_symlink())
    if lost := sorted(path.name for path in links if not os.path.exists(path)):  # noqa: PTH110 - circular links
        yield f"{listed(lost, 1)}: left out, since the target of the link does not exist"


def _hidden(source: Path) -> Iterator[str]:
    """Yields a sentence if names of images are decimals without the 0 in front, as some programs print them."""
    names = (path.name for path in _files(source, hidden=True) if path.suffix.lower() in IMAGE_SUFFIXES)
    if decimals := sorted(name for name in names if _BARE_DECIMAL.fullmatch(Path(name).stem)):
        yield (
            f"{listed(decimals, 1)}: left out, since names that begin with a dot are hidden: rename them, such as "
            f"{decimals[0]} to 0{decimals[0]}"
        )


def _unread(source: Path, masks: Collection[Path]) -> Iterator[str]:
    """Yields a sentence if there are pictures in formats that are not read but that may be frames."""
    given = {os.path.realpath(path) for path in masks}  # Path.resolve raises on circular links
    files = (path for path in _files(source) if is_unread_picture(path))
    if unread := sorted(path.name for path in files if os.path.realpath(path) not in given):
        what = f"{unread[0]} and {len(unread) - 1} more are" if len(unread) > 1 else f"{unread[0]} is"
        yield f"{what} left out, since the format is not read: convert frames among such files to PNG"


def image_files(source: Path) -> list[Path]:
    """Returns the files with an image suffix in a folder or pattern; raises FrameError past a million files."""
    files = list(islice(_files(source), MAX_IMAGES + 1))
    if len(files) > MAX_IMAGES:
        raise FrameError(f"{str(source)!r} holds more than {MAX_IMAGES} files", "split them into several folders")
    return [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]


def frames_among(images: Sequence[Path], masks: Collection[Path] = ()) -> FrameFiles:
    """Returns the images that are frames, in order."""
    given = {os.path.realpath(path) for path in masks}
    # A link among the frames has another name than its target, and so has a file to which a given link leads.
    names = {Path(path).name for path in given} | {path.name for path in masks}
    is_given = {path for path in images if path.name in names and os.path.realpath(path) in given}
    series = _series(images)
    notes: list[tuple[str, str]] = []
    out = set(is_given)
    mask_series = _mask_series(series, is_given)
    for shape in sorted(mask_series):
        members = series[shape]
        out.update(members)
        if len(members) > 1:
            note = f"{len(members)} files like {members[0].name} are masks of the frames beside them: left out"
        else:
            note = f"{members[0].name} is a mask: left out of the frames"
        notes.append((shape, note))
    alone = is_given.difference(*(series[shape] for shape in mask_series))
    notes += [(path.name, f"{path.name} was given as a mask: left out of the frames") for path in sorted(alone)]
    seconds = _second_pictures([path for path in images if path not in out])
    out.update(seconds)
    if seconds:
        note = (
            f"{listed((path.name for path in seconds), 1)}: left out, since the pictures of the same names in "
            "more common formats are the frames"
        )
        notes.append(("second pictures", note))
    kept = [path for path in images if path not in out]
    order = NameOrder.of([path.stem for path in kept])
    notes += [(_QUOTED.sub("", doubt), doubt) for doubt in order.doubts]
    doubles = [] if order.hexadecimal else _doubles(_series(kept, order))  # 000a and 000b are one series
    notes += [("series", note) for note in doubles]
    kept = sorted(kept, key=order.key)
    strangers = [] if order.hexadecimal else _strangers(kept)
    notes += [("names", note) for note in (strangers if strangers or doubles else _copies(kept))]
    return FrameFiles(kept, tuple(note for _, note in notes), tuple(topic for topic, _ in notes))


def masks_among(images: Sequence[Path]) -> list[Path]:
    """Returns the images that are masks of the others; none if the others may be masks too."""
    series = _series(images)
    shapes = _mask_series(series, ())
    frames = [path for shape, members in series.items() if shape not in shapes for path in members]
    return [] if not shapes or like_labels(frames) else [path for shape in sorted(shapes) for path in series[shape]]


def _second_pictures(images: Sequence[Path]) -> list[Path]:
    """Returns the images in rare formats that share a name with a photograph, such as a depth camera's depth maps."""
    rare = [path for path in images if path.suffix.lower() in RARE_SUFFIXES]
    if not rare:
        return []
    usual = {path.with_suffix(""): path for path in images if path.suffix.lower() not in RARE_SUFFIXES}
    seconds = sorted(path for path in rare if path.with_suffix("") in usual)
    beside = [usual[path.with_suffix("")] for path in seconds]
    return [] if not seconds or like_labels(beside) else seconds


def _is_wanted(path: Path) -> bool:
    return path.is_file() and not is_preview(path)


def _files(source: Path, wanted: Callable[[Path], bool] = _is_wanted, *, hidden: bool = False) -> Iterator[Path]:
    """Yields the wanted files of a folder or pattern, only hidden ones or only others.

    Raises:
        FrameError: it cannot be listed.
    """
    try:
        if source.is_dir():
            found = source.iterdir()
        else:
            # Names of existing folders are taken literally: brackets in them are not a pattern.
            root = next((folder for folder in source.parents if folder.is_dir()), Path(source.anchor))
            # Unlike the glob module, this does not loop on circular links.
            found = root.glob(str(source.relative_to(root)))
        yield from (path for path in found if path.name.startswith(".") == hidden and wanted(path))
    except (OSError, ValueError) as error:
        raise FrameError(f"{str(source)!r} cannot be listed ({error})", "expected a folder or a pattern") from error


def _refuse_names(images: Iterable[Path]) -> None:
    by_name: dict[str, Path] = {}
    for path in images:
        if any("\ud800" <= character <= "\udfff" for character in path.name):
            raise FrameError(
                f"the name of {str(path)!r} is not UTF-8, so tables and labels cannot hold it",
                "rename such files, for names in Latin-1 with `convmv -f latin1 -t utf-8 --notest *`",
            )
        other = by_name.setdefault(path.stem.casefold(), path)
        if other is not path:
            raise FrameError(
                f"{str(other)!r} and {str(path)!r} have the same name without suffix, so their masks would "
                "overwrite each other",
                "rename one or give a narrower pattern",
            )


Series = Mapping[str, Sequence[Path]]
_FEW = 0.25  # of the other frames
_BARE_DECIMAL = re.compile(r"\.\d+")
_SIGNED_DECIMAL = re.compile(r"[-+\u2212]?\d+(?:[.,]\d+)?")
# How browsers and file managers name a second file of the same name.
_COPY = re.compile(r"(.+?)(?: ?\(\d+\)| - (?:Copy|Kopie)(?: \(\d+\))?| (?:copy|Kopie)(?: \d+)?)", re.IGNORECASE)
_QUOTED = re.compile(r"(['\"]).*\1")
_HALF_DAY = re.compile(rf"(?<=#)\s*{HALF_DAY_AFTER}|{HALF_DAY_BEFORE}\s?(?=#)", re.IGNORECASE)


def _series(images: Sequence[Path], order: NameOrder | None = None) -> Series:
    """Returns the images grouped by their names without the numbers, and without the signs that an order has found."""
    series: dict[str, list[Path]] = defaultdict(list)
    for path in images:
        shape = re.sub(r"\d+", "#", order.unsigned(path.stem) if order else path.stem)
        series[f"{path.parent}/{shape}{path.suffix.lower()}"].append(path)
    return {shape: sorted(members) for shape, members in series.items()}


def _copies(frames: Sequence[Path]) -> list[str]:
    """Returns a sentence if frames are named as copies of others: `frame_002 (1)` beside `frame_002`."""
    by_name = {(path.parent, path.stem): path for path in frames}
    called = [(path, _COPY.fullmatch(path.stem)) for path in frames]
    originals = [(path, by_name.get((path.parent, name[1]))) for path, name in called if name]
    copies = [(path, original) for path, original in originals if original and numbers_of(original.stem)]
    if not copies:
        return []
    (copy, original), more = copies[0], f", and so are {len(copies) - 1} more" if len(copies) > 1 else ""
    return [f"{copy.name} is named as a copy of {original.name}, but is read as a frame{more}"]


def _strangers(frames: Sequence[Path]) -> list[str]:
    """Returns a sentence if a few frames are not named like the others, such as a cover among numbered files."""
    shapes = [_HALF_DAY.sub("", _SIGNED_DECIMAL.sub("#", composed(path.stem))) for path in frames]
    (usual, count), *others = Counter(shapes).most_common() or [("", 0)]
    odd = [(at, path) for at, (path, shape) in enumerate(zip(frames, shapes, strict=True)) if shape != usual]
    if not others or "#" not in usual or len(odd) > count * _FEW:
        return []
    (at, first), more = odd[0], f" and {len(odd) - 1} more are" if len(odd) > 1 else " is"
    return [
        f"{first.name}{more} not named like the other {count} pictures, but still read among the frames, "
        f"{first.name} as number {at}: move files that are not frames elsewhere"
    ]


def _mask_series(series: Series, given: Collection[Path]) -> set[str]:
    """Returns the series that are masks of the others: by their names, as a lone label map, or by their pixels."""
    others = {shape: members for shape, members in series.items() if not _MASK_WORDS.search(Path(shape).stem)}
    if not others:
        return set()  # a folder of masks, or of frames with such names
    named = {shape: members for shape, members in series.items() if shape not in others}
    return _named_masks(named, others) | _lone_masks(others) | _paired_masks(others, given)


def _named_masks(named: Series, others: Series) -> set[str]:
    """`7_mask.png` of `7.jpg`, and one mask.png beside numbered frames."""
    if not named:
        return set()
    frames = [path for members in others.values() for path in members]
    keys = {key for path in frames for key in _keys(path)}
    # For `ulm_000019_leftImg8bit`, which has one number more than its mask.
    keys.update(name for path in frames for name in _beginnings(path.stem.casefold()) if numbers_of(name))
    return {
        shape
        for shape, members in named.items()
        if all(keys & _keys(path) for path in members)
        or (len(members) == 1 and (like_labels(members) or _is_black_and_white(members[0])))
    }


def _lone_masks(others: Series) -> set[str]:
    """One `first.png` with few values beside numbered frames with many."""
    frames = max(others.values(), key=len)
    lone = {shape for shape, members in others.items() if len(members) == 1 and "#" not in Path(shape).stem}
    masks = {shape for shape in lone if len(frames) > 1 and _is_like_labels(others[shape][0], least=2)}
    return set() if masks and like_labels(frames) else masks


def _paired_masks(others: Series, given: Collection[Path]) -> set[str]:
    """`7.png` of `7.jpg`, and `7_1.png` of `7.png`: series with few values, or of which some were given as masks."""
    masks: set[str] = set()
    if len(others) > _MOST_SERIES:
        return masks
    for shape, other in permutations(others, 2):
        if other in masks or not _belong_together(others[shape], others[other]):
            continue
        if not set(given).isdisjoint(others[shape]) or _more_like_labels(others[shape], others[other]):
            masks.add(shape)
    return masks


def _keys(path: Path) -> set[tuple[int, ...] | str]:
    """Returns the keys that a mask may share with its frame: numbers, or the name, without a word such as mask."""
    stem = path.stem.casefold()
    plain = _MASK_WORDS.sub("", re.sub(r"(?<=[a-z])\d+$", "", stem)).strip("_-. ")
    word = _MASK_WORDS.search(stem)
    before = stem[: word.start()].strip("_-. ") if word else ""  # after the word may come an object's number
    return {key for key in (stem, plain, numbers_of(stem), before, numbers_of(before)) if key}


def _belong_together(some: Sequence[Path], others: Sequence[Path]) -> bool:
    """Returns whether each of some images matches one of the others: by its numbers, or by a prefix of its name."""
    names = {path.stem for path in others}
    if all(any(name in names for name in _beginnings(path.stem)) for path in some):
        return True
    numbers = {numbers_of(path.stem) for path in others}
    return () not in numbers and all(numbers_of(path.stem) in numbers for path in some)


def _beginnings(stem: str, separator: str = r"[\W_]") -> Iterator[str]:
    """Yields a name, and its part before each character other than a letter or digit: 7 for `7_1` and `7 (1)`."""
    yield stem
    yield from (stem[: sign.start()] for sign in re.finditer(separator, stem))


def _doubles(series: Series) -> list[str]:
    """Returns a sentence if several series of frames have the same numbers, as cameras, copies and overlays do."""
    several = [each for paths in series.values() for each in _cameras(paths) or [paths] if len(each) > 1]
    several.sort(key=lambda paths: len(paths[0].name))
    for one, other in combinations(several[:_MOST_SERIES], 2):
        more, fewer = sorted((one, other), key=len, reverse=True)  # if equal, the one with longer names is second
        alike = _belong_together(fewer, more) or _counted_alike(fewer, more)
        if (alike and 2 * len(fewer) >= len(more)) or _are_companions(more, fewer):
            return [
                f"{one[0].name} and {other[0].name} begin two series with the same numbers, which are read as one "
                "video; to read one of them, give a pattern or a folder of its files alone"
            ]
    return []


def _cameras(paths: Sequence[Path]) -> list[Sequence[Path]]:
    """Returns the series of each camera, if all names have a word such as "cam" and a number; else none."""
    series: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        if not (named := _CAMERA.search(path.stem)):
            return []
        series[named[0]].append(path)
    several = sum(len(each) > 1 for each in series.values()) > 1  # in view_0001 and view_0002, the frames are numbered
    return [sorted(each) for each in series.values()] if several else []


def _counted_alike(some: Sequence[Path], others: Sequence[Path]) -> bool:
    """Returns whether the frames of two cameras have the same numbers apart from the camera number."""
    if not all(_CAMERA.search(path.stem) for path in (some[0], others[0])):
        return False
    counted, also = ({numbers_of(_CAMERA.sub("", path.stem, count=1)) for path in each} for each in (some, others))
    return counted <= also


def _are_companions(some: Sequence[Path], others: Sequence[Path]) -> bool:
    """Returns whether others have about as many images of some each, called as they are with more behind: `7_1` of `7`.

    What is behind a decimal point is no companion.
    """
    if all(_COPY.fullmatch(path.stem) for path in some):
        return False  # `_copies` names them
    names = {path.stem for path in others}
    called = Counter(name for path in some for name in _beginnings(path.stem, r"[^\w.,]|_") if name in names)
    return called.total() == len(some) and called.keys() == names and 2 * min(called.values()) >= max(called.values())


def _more_like_labels(some: Sequence[Path], others: Sequence[Path]) -> bool:
    return like_labels(some) and not like_labels(others)


def like_labels(images: Sequence[Path]) -> bool:
    """Returns whether the first, the middle and the last image have few distinct values, as label maps do."""
    return all(_is_like_labels(images[at]) for at in {0, len(images) // 2, len(images) - 1})


def _is_like_labels(path: Path, least: int = 1) -> bool:
    try:
        with open_image(path) as image:
            if image.format == "JPEG" or image.width * image.height > MAX_PIXELS:
                return False
            if image.mode.startswith("I"):
                return least <= len(np.unique(np.asarray(image))) <= _MOST_LABELS
            return len(image.convert("RGB").getcolors(_MOST_LABELS) or ()) >= least
    except (*DAMAGED_IMAGE_ERRORS, *TOO_LARGE_ERRORS):
        return False


def _is_black_and_white(path: Path) -> bool:
    """Returns whether nearly all pixels are close to black or white, with some of each, as in a mask saved as JPEG."""
    try:
        with open_image(path) as image:
            if image.width * image.height > MAX_PIXELS:
                return False
            grey = np.asarray(image.convert("L"))
    except (*DAMAGED_IMAGE_ERRORS, *TOO_LARGE_ERRORS):
        return False
    dark, bright = float((grey < 32).mean()), float((grey > 223).mean())
    return dark + bright > 0.95 and min(dark, bright) > 0

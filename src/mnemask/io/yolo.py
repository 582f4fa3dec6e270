"""Masks in folders of YOLO: outlines in fractions of pictures, and class names."""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from mnemask.errors import MaskError, printable
from mnemask.io.annotation_formats import AnnotatedFrame, Shape, class_of, naming_damage, points_of
from mnemask.io.frame_files import like_labels
from mnemask.io.images import FORMATS_AND_GIF, IMAGE_SUFFIXES, open_image, shown_size
from mnemask.io.name_order import natural_order
from mnemask.io.shapes import filled
from mnemask.types import check_object_id

log = logging.getLogger(__name__)

# A fraction of a picture is at most 1, or a little more in a shape that extends beyond the edge.
_LARGEST_FRACTION = 2.0
_LABELS, _IMAGES = "labels", "images"
_CLASSES = "classes.txt"  # one name per line, as labelImg and Label Studio write it
_LINE = re.compile(rb"\d{1,6}( +(-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|-?inf|nan)){4,}", re.IGNORECASE)
_NEARLY = re.compile(r"\s*\d{1,6}(?:[.,]0*)?(?:\s+-?(?:\d+[.,]?\d*|[.,]\d+)(?:e[+-]?\d+)?){4,}\s*", re.IGNORECASE)
_MARK = b"\xef\xbb\xbf"  # byte order mark that some editors write
# A data.yaml lists names, or maps numbers to them, on one line or one per line.
_ON_ONE_LINE = re.compile(r"^names:\s*(?:\[(.*?)\]|\{(.*?)\})", re.MULTILINE | re.DOTALL)
_ITEM = re.compile(r"""\s*(?:['"]?(\d{1,6})['"]?\s*:\s+)?("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,]*?)\s*(?:,|$)""")
_LINE_EACH = re.compile(
    r"""^names:[ \t]*(?:#.*)?\n((?:[ \t]*-[ \t].*\n?|[ \t]+['"]?\d{1,6}['"]?:.*\n?|[ \t]*(?:#.*)?\n)+)""", re.MULTILINE
)
_ROW = re.compile(r"""^[ \t]*(?:-|['"]?(\d{1,6})['"]?:)[ \t]+(.*)$""", re.MULTILINE)


def holds_yolo(folder: Path) -> bool:
    """Returns whether a folder, or its labels/ if it has one, contains a text file with a line of YOLO.

    Text files that are named like none of the pictures are something else, such as camera poses. If the pictures beside
    the text files are label maps, a warning states that these are read.
    """
    labels = _labels_in(folder)
    if not (texts := _texts(labels)):
        return False
    pictures = _pictures_of(labels)
    texts = [path for path in texts if path.stem in pictures or not pictures]
    first = next((path for path in texts if _LINE.match(_beginning(path))), None)
    if first is None:
        return False
    beside = [path for path in pictures.values() if path.parent == labels]
    if beside and like_labels(beside):
        log.warning(
            "%s holds label maps beside text files like %s: the maps are read, not the texts", folder, first.name
        )
        return False
    return True


def refuse_nearly_yolo(folder: Path) -> None:
    """Raises MaskError if a text file in a folder without masks is YOLO but for decimal commas or a class like 0.0."""
    for path in natural_order(_texts(_labels_in(folder))):
        _refuse_nearly(path, 1, (_beginning(path).decode(errors="replace").splitlines() or [""])[0])


def _refuse_nearly(path: Path, number: int, line: str) -> None:
    kind, *numbers = line.split() or [""]
    if _NEARLY.fullmatch(line) and not (kind.isdecimal() and all("," not in each for each in numbers)):
        raise MaskError(
            f"line {number} of {path} begins {printable(line, 30)!r}, but YOLO needs a whole number for the class and "
            "fractions with decimal points",
            "write it as '0 0.1 0.1 0.4 0.1 0.4 0.9'",
        )


def read_yolo(folder: Path, skipped: Counter[str]) -> list[AnnotatedFrame]:
    """Returns the annotations of each frame in a folder; pictures are beside the labels or where YOLO has them."""
    labels = _labels_in(folder)
    names = _names_of(labels)
    images = _pictures_of(labels)
    pictures = []
    lines: list[tuple[AnnotatedFrame, Path, int, list[str]]] = []
    for path in natural_order(_texts(labels)):
        if path.stem not in images:
            places = [place for place in _places_of_pictures(labels)[1:] if place.is_dir()]
            raise MaskError(
                f"{path} gives fractions of a picture that is missing",
                f"put {path.stem}.jpg into {places[-1] if places else labels.parent / _IMAGES}",
            )
        with naming_damage(images[path.stem]), open_image(images[path.stem], FORMATS_AND_GIF) as image:
            width, height = shown_size(image)
        picture = AnnotatedFrame(path.stem, images[path.stem].name, (height, width))
        with naming_damage(path):
            for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
                _refuse_nearly(path, number, line)
                if line.strip():
                    lines.append((picture, path, number, line.split()))
        pictures.append(picture)
    with_ids = _end_with_ids([numbers for *_, (_, *numbers) in lines])
    for picture, path, number, parts in lines:
        with naming_damage(path):
            if shape := _shape_of(parts, with_ids, names, f"line {number} of {path}", picture, skipped):
                picture.shapes.append(shape)
    if not names and any(picture.shapes for picture in pictures):
        log.warning(
            "%s has no data.yaml or %s that names its classes: they are named by their number", folder, _CLASSES
        )
    return pictures


def _places_of_pictures(labels: Path) -> list[Path]:
    """Returns where pictures of labels may be: beside them, in a/images for a/labels, a/images/b for a/labels/b."""
    parts = list(labels.parts)
    if _LABELS in parts:
        parts[len(parts) - 1 - parts[::-1].index(_LABELS)] = _IMAGES
    return list(dict.fromkeys((labels, labels.parent / _IMAGES, Path(*parts))))


def _pictures_of(labels: Path) -> dict[str, Path]:
    """Returns the pictures that labels may belong to, by name."""
    return {
        path.stem: path
        for place in _places_of_pictures(labels)
        for path in (natural_order(list(place.iterdir())) if place.is_dir() else ())
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    }


def _end_with_ids(lines: Iterable[Sequence[str]]) -> bool:
    """Returns whether lines end with the ids of objects, which `yolo track` adds, and not with the last corner's y.

    That is certain with an id above 1; a single object has id 1 in every line.
    """
    shapes = [numbers for numbers in lines if len(numbers) > 4 and not _are_keypoints(numbers)]
    if not all(_is_fraction(each) for numbers in shapes for each in numbers[:-1]):
        return False
    lasts = [int(numbers[-1]) if _is_id(numbers[-1]) else 0 for numbers in shapes]
    return any(last > 1 for last in lasts) or (len(lasts) > 2 and all(lasts))


def _is_fraction(text: str) -> bool:
    """Returns whether a text may be a fraction of a picture; what is no number is refused where its line is read."""
    try:
        return abs(float(text)) <= _LARGEST_FRACTION
    except ValueError:
        return False


def _is_id(text: str) -> bool:
    return text.isdecimal() and int(text) >= 1


def _shape_of(
    parts: Sequence[str],
    with_ids: bool,
    names: Mapping[int, str],
    place: str,
    picture: AnnotatedFrame,
    skipped: Counter[str],
) -> Shape | None:
    """Returns the outline in the parts of a line; None if they are a box or keypoints."""
    kind, *numbers = parts
    object_id = None
    if with_ids and len(numbers) > 4 and not _are_keypoints(numbers) and _is_id(numbers[-1]):
        object_id = check_object_id(int(numbers.pop()))
    if len(numbers) in (4, 5):  # the fifth is a network's confidence
        skipped["boxes"] += 1
        return None
    if _are_keypoints(numbers):
        skipped["keypoints"] += 1
        return None
    if len(numbers) % 2 and len(numbers) > 6:
        numbers.pop()  # likewise
    corners = points_of(numbers)
    if len(corners) < 3:
        raise MaskError(f"{place} has {len(corners)} corners", "a mask needs 3 or more")
    if (np.abs(corners) > _LARGEST_FRACTION).any():
        raise MaskError(
            f"{place} has a corner at {np.abs(corners).max():g}, but YOLO needs fractions of the picture, from 0 to 1",
            "divide x by the picture's width and y by its height, or export it again",
        )
    mask = partial(filled, [np.round(corners * picture.size[::-1], 2)])
    return Shape(class_of(names.get(int(kind), f"class {kind}")), object_id, mask)


def _are_keypoints(numbers: Sequence[str]) -> bool:
    """Returns whether numbers are a box and keypoints (x, y, visibility); an outline too may have 0 or 1 at an edge."""
    seen = numbers[6::3]
    odd = len(numbers) % 2 == 1 or "2" in seen
    return len(numbers) > 10 and (len(numbers) - 4) % 3 == 0 and odd and set(seen) <= {"0", "1", "2"}


def _labels_in(folder: Path) -> Path:
    return folder / _LABELS if (folder / _LABELS).is_dir() else folder


def _texts(labels: Path) -> list[Path]:
    """Returns the text files in a folder; names with a leading dot are files of other systems, such as macOS."""
    texts = (path for path in labels.glob("*.txt") if path.is_file() and path.name != _CLASSES)
    return [path for path in texts if not path.name.startswith(".")]


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(200).removeprefix(_MARK)


def _names_of(labels: Path) -> dict[int, str]:
    """Returns the class names from a data.yaml beside or above the labels, or else from a classes.txt."""
    for path in (place / "data.yaml" for place in (labels, *labels.parents[:2])):  # for labels/train
        if path.is_file():
            with naming_damage(path):
                names = _names_in(path.read_text(encoding="utf-8-sig"))
            if names:
                return names
    for path in (labels / _CLASSES, *([labels.parent / _CLASSES] if labels.name == _LABELS else [])):
        if path.is_file():
            with naming_damage(path):
                return dict(enumerate(map(str.strip, path.read_text(encoding="utf-8-sig").splitlines())))
    return {}


def _names_in(text: str) -> dict[int, str]:
    """Returns the class names in a data.yaml; empty if there are none."""
    found: list[tuple[str, str]] = []
    if flow := _ON_ONE_LINE.search(text):
        found = [(item[1], item[2]) for item in _ITEM.finditer(flow[1] or flow[2] or "") if item[0].strip()]
    elif block := _LINE_EACH.search(text):
        found = _ROW.findall(block[1])
    return {int(number or place): _plain(name) for place, (number, name) in enumerate(found)}


def _plain(name: str) -> str:
    """Returns a YAML name without its quotes, or without the comment after it."""
    if quoted := re.match(r'"(?:[^"\\]|\\.)*"', name):
        # YAML has \x41 in addition to the escapes of JSON.
        text = re.sub(r"\\(?:x([0-9A-Fa-f]{2})|.)", lambda part: f"\\u00{part[1]}" if part[1] else part[0], quoted[0])
        return str(json.loads(text))
    if quoted := re.match(r"'((?:[^']|'')*)'", name):
        return quoted[1].replace("''", "'")
    return re.sub(r"\s#.*", "", name).strip()

"""What folders of YOLO say of masks: outlines in fractions of pictures, and the names of their classes."""

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from mnemask.errors import MaskError
from mnemask.io.annotation_formats import AnnotatedFrame, Shape, class_of, points_of
from mnemask.io.images import FORMATS_AND_GIF, IMAGE_SUFFIXES, orientation_of
from mnemask.io.name_order import natural_order
from mnemask.io.shapes import filled

log = logging.getLogger(__name__)

# A fraction of a picture is at most 1, and of a shape beyond the edge a little more.
_LARGEST_FRACTION = 2.0
_CLASSES = "classes.txt"  # names, a line each, as labelImg and Label Studio write them
_LINE = re.compile(rb"\d{1,6}( +(-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|-?inf|nan)){4,}", re.IGNORECASE)
_MARK = b"\xef\xbb\xbf"  # with which some editors begin a file
# A data.yaml lists names, or maps numbers to them, on one line or a line each.
_ON_ONE_LINE = re.compile(r"^names:\s*(?:\[(.*?)\]|\{(.*?)\})", re.MULTILINE | re.DOTALL)
_ITEM = re.compile(r"""\s*(?:['"]?(\d{1,6})['"]?\s*:\s+)?("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,]*?)\s*(?:,|$)""")
_LINE_EACH = re.compile(
    r"""^names:[ \t]*(?:#.*)?\n((?:[ \t]*-[ \t].*\n?|[ \t]+['"]?\d{1,6}['"]?:.*\n?|[ \t]*(?:#.*)?\n)+)""", re.MULTILINE
)
_ROW = re.compile(r"""^[ \t]*(?:-|['"]?(\d{1,6})['"]?:)[ \t]+(.*)$""", re.MULTILINE)


def holds_yolo(folder: Path) -> bool:
    """Returns whether a folder has a text with a line of YOLO, in labels/ where there is one."""
    return any(_LINE.match(_beginning(path)) for path in _texts(_labels_in(folder)))


def read_yolo(folder: Path, skipped: Counter[str]) -> list[AnnotatedFrame]:
    """Returns what the labels in a folder say of each frame; their pictures are beside them or in images/."""
    labels = _labels_in(folder)
    names = _names_of(labels)
    images = {
        path.stem: path
        for place in (labels, labels.parent / "images")
        for path in (natural_order(list(place.iterdir())) if place.is_dir() else ())
        if path.suffix.lower() in IMAGE_SUFFIXES
    }
    pictures = []
    for path in natural_order(_texts(labels)):
        if path.stem not in images:
            raise MaskError(
                f"{path} gives fractions of a picture that is not there",
                f"put {path.stem}.jpg into {labels.parent / 'images'}",
            )
        with Image.open(images[path.stem], formats=FORMATS_AND_GIF) as image:
            height, width = (image.width, image.height) if orientation_of(image) >= 5 else (image.height, image.width)
        picture = AnnotatedFrame(path.stem, images[path.stem].name, (height, width))
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
            said = f"line {number} of {path}"
            if line.strip() and (shape := _shape_of(line.split(), names, said, picture, skipped)):
                picture.shapes.append(shape)
        pictures.append(picture)
    if not names and any(picture.shapes for picture in pictures):
        log.warning("%s has no data.yaml or %s that names its classes: they are called by number", folder, _CLASSES)
    return pictures


def _shape_of(
    parts: Sequence[str], names: Mapping[int, str], place: str, picture: AnnotatedFrame, skipped: Counter[str]
) -> Shape | None:
    """Returns the outline that the parts of a line say; None where it is none."""
    kind, *numbers = parts
    if len(numbers) in (4, 5):  # the fifth is how sure a network was
        skipped["boxes"] += 1
        return None
    if _are_keypoints(numbers):
        skipped["keypoints"] += 1
        return None
    if len(numbers) % 2 and len(numbers) > 6:
        numbers.pop()  # likewise
    corners = points_of(numbers)
    if len(corners) < 3:
        raise MaskError(f"{place} has {len(corners)} corners", "a mask has 3 or more")
    if (np.abs(corners) > _LARGEST_FRACTION).any():
        raise MaskError(
            f"{place} has a corner at {np.abs(corners).max():g}, and YOLO's are fractions of the picture, from 0 to 1",
            "divide x by the picture's width and y by its height, or export it again",
        )
    mask = partial(filled, [np.round(corners * picture.size[::-1], 2)])
    return Shape(class_of(names.get(int(kind), f"class {kind}")), None, mask)


def _are_keypoints(numbers: Sequence[str]) -> bool:
    """Returns whether a line's numbers are a box and x, y, visibility of points; an outline may touch an edge at 0."""
    seen = numbers[6::3]
    odd = len(numbers) % 2 == 1 or "2" in seen
    return len(numbers) > 10 and (len(numbers) - 4) % 3 == 0 and odd and set(seen) <= {"0", "1", "2"}


def _labels_in(folder: Path) -> Path:
    return folder / "labels" if (folder / "labels").is_dir() else folder


def _texts(labels: Path) -> list[Path]:
    return [path for path in labels.glob("*.txt") if path.is_file() and path.name != _CLASSES]


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(200).removeprefix(_MARK)


def _names_of(labels: Path) -> dict[int, str]:
    """Returns the names of classes in a data.yaml beside the labels or above them, or else in a classes.txt."""
    for path in (labels / "data.yaml", labels.parent / "data.yaml"):
        if path.is_file() and (names := _names_in(path.read_text(encoding="utf-8-sig"))):
            return names
    for path in (labels / _CLASSES, *([labels.parent / _CLASSES] if labels.name == "labels" else [])):
        if path.is_file():
            return dict(enumerate(map(str.strip, path.read_text(encoding="utf-8-sig").splitlines())))
    return {}


def _names_in(text: str) -> dict[int, str]:
    """Returns the names of classes in a data.yaml, empty where none is."""
    found: list[tuple[str, str]] = []
    if flow := _ON_ONE_LINE.search(text):
        found = [(item[1], item[2]) for item in _ITEM.finditer(flow[1] or flow[2] or "") if item[0].strip()]
    elif block := _LINE_EACH.search(text):
        found = _ROW.findall(block[1])
    return {int(number or place): _plain(name) for place, (number, name) in enumerate(found)}


def _plain(name: str) -> str:
    """Returns a name of YAML without its quotes, or without the comment behind it."""
    if quoted := re.match(r'"(?:[^"\\]|\\.)*"', name):
        return str(json.loads(quoted[0]))
    if quoted := re.match(r"'((?:[^']|'')*)'", name):
        return quoted[1].replace("''", "'")
    return re.sub(r"\s#.*", "", name).strip()

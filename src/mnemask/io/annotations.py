"""The masks in files of annotation tools: COCO, CVAT, Label Studio, labelme, MOTS, YOLO; what a file says, in one form.

Shapes without pixels of their own, such as boxes, are no masks: a file that has nothing else is refused.
"""

import base64
import io
import json
import logging
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Bool, UInt16
from PIL import Image

from mnemask.errors import InputError, MaskError, missing_extra
from mnemask.io.images import IMAGE_SUFFIXES
from mnemask.io.name_order import natural_order
from mnemask.io.pictures import check_size
from mnemask.io.shapes import filled, mask_of_brush, mask_of_runs
from mnemask.types import ObjectInfo, check_object_id

log = logging.getLogger(__name__)

Mask = Bool[np.ndarray, "H W"]
MaskOf = Callable[[int, int], Mask]  # of a height and a width
AT = "@"  # begins the name of a frame that a file knows by its place in the video alone, as @12

_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, ElementTree.ParseError)
_TRACK = re.compile(r"track_id=(\d{1,5})(?: name=(.*))?")


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape in a picture: its class, the object if the file says which it is, and its mask of height and width."""

    category: str
    object_id: int | None
    mask: MaskOf
    name: str = ""


@dataclass(slots=True)
class Picture:
    """What a file says of one frame: its name without a suffix, that of its picture, height and width, shapes."""

    name: str
    file_name: str
    size: tuple[int, int]
    shapes: list[Shape] = field(default_factory=list)


class Annotations:
    """The label maps of one file, or of a folder of one file for each frame.

    Args:
        path: of COCO, Label Studio or labelme (.json), CVAT (.xml), MOTS (.txt); or a folder of labelme's files, or of
            YOLO's labels with its images beside it.

    Attributes:
        objects: what the objects are called, by id.
        files: what the picture of each frame is called, by the frame's name.

    Raises:
        MaskError: the file is damaged, of another kind, holds no masks, or does not say which object is which.
        MissingExtraError: it needs pycocotools, which is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._skipped: Counter[str] = Counter()
        self._pictures = self._guarded(self._read)
        shapes = [shape for picture in self._pictures for shape in picture.shapes]
        if not shapes and self._skipped:
            raise MaskError(
                f"{path} holds no masks but {', '.join(self._skipped)}",
                "give boxes with --box, or convert them to masks",
            )
        if self._skipped:
            what = ", ".join(f"{count} {kind}" for kind, count in self._skipped.items())
            log.warning("%s: %s are no masks and are left out", path, what)
        self._ids = _identified(path, self._pictures)
        self.files = {picture.name: picture.file_name for picture in self._pictures if picture.file_name}
        self.objects = {self._ids[id(shape)]: ObjectInfo(shape.category, shape.name) for shape in shapes}
        if len(self.files) < len([picture for picture in self._pictures if picture.file_name]):
            raise MaskError(
                f"{path} has pictures that share a name", "give frames names of their own, or a file to each video"
            )

    def __iter__(self) -> Iterator[tuple[str, UInt16[np.ndarray, "H W"]]]:
        """Yields the name and the object id at each pixel of each frame."""
        for picture in self._pictures:
            yield picture.name, self._guarded(partial(self._labels, picture))

    def _labels(self, picture: Picture) -> UInt16[np.ndarray, "H W"]:
        height, width = picture.size
        check_size(width, height, str(self._path))
        labels = np.zeros(picture.size, np.uint16)
        for shape in picture.shapes:
            labels[shape.mask(height, width)] = self._ids[id(shape)]
        return labels

    def _guarded(self, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except InputError:
            raise
        except _DAMAGE as error:
            raise MaskError(
                f"{self._path} cannot be read as masks ({type(error).__name__}: {error})",
                "expected COCO, CVAT 1.1, Label Studio, labelme, MOTS or YOLO with masks; export it again",
            ) from error

    def _read(self) -> list[Picture]:
        path = self._path
        if path.is_dir():
            jsons = natural_order(list(path.glob("*.json")))
            if jsons:
                return [self._labelme(json.loads(each.read_text(encoding="utf-8")), each.stem) for each in jsons]
            return self._yolo(path)
        if path.suffix.lower() == ".xml":
            return self._cvat(path.read_bytes())
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".txt":
            return self._mots(text)
        content = json.loads(text)
        if isinstance(content, list):
            return [self._label_studio(task, place) for place, task in enumerate(content)]
        if "shapes" in content:
            return [self._labelme(content, path.stem)]
        return self._coco(content)

    def _coco(self, content: Mapping[str, Any]) -> list[Picture]:
        names = {int(each["id"]): str(each["name"]) for each in content.get("categories", [])}
        pictures = {int(each["id"]): _of_coco(each) for each in content["images"]}
        for each in content["annotations"]:
            said = each.get("attributes") or {}
            number = each.get("track_id", said.get("track_id"))
            category = names.get(int(each["category_id"]), str(each["category_id"]))
            if not (segmentation := each.get("segmentation")):
                self._skipped["boxes"] += 1
                continue
            pictures[int(each["image_id"])].shapes.append(
                Shape(
                    "" if category == "object" else category,
                    None if number is None else check_object_id(number),
                    partial(_of_coco_mask, segmentation),
                    str(said.get("name", "")),
                )
            )
        return list(pictures.values())

    def _cvat(self, data: bytes) -> list[Picture]:
        if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
            raise ValueError("a document type, which CVAT does not write")
        root = ElementTree.fromstring(data)
        size = root.find(".//original_size")
        whole = (0, 0) if size is None else (int(_text(size, "height")), int(_text(size, "width")))
        pictures: dict[int, Picture] = {}
        for image in root.iter("image"):
            name = PurePosixPath(image.attrib["name"])
            picture = Picture(name.stem, name.name, (int(image.attrib["height"]), int(image.attrib["width"])))
            pictures[int(image.attrib["id"])] = picture
            picture.shapes += [shape for each in image if (shape := self._cvat_shape(each, each.attrib.get("label")))]
        for track in root.iter("track"):
            for each in track:
                index = int(each.attrib["frame"])
                picture = pictures.setdefault(index, Picture(f"{AT}{index}", "", whole))
                if each.attrib.get("outside") == "1":
                    continue  # where all are outside, that says that they are gone
                if shape := self._cvat_shape(each, track.attrib["label"], int(track.attrib["id"]) + 1):
                    picture.shapes.append(shape)
        return [pictures[index] for index in sorted(pictures)]

    def _cvat_shape(self, each: ElementTree.Element, label: str | None, track: int | None = None) -> Shape | None:
        said = {part.attrib["name"]: part.text or "" for part in each.iter("attribute")}
        number = said.get("track_id", "")
        group = int(each.attrib.get("group_id", 0)) or None
        object_id = check_object_id(int(number)) if number.isdecimal() else track or group
        category = "" if label in (None, "object") else str(label)
        if each.tag == "mask":
            left, top, width, height = (int(each.attrib[name]) for name in ("left", "top", "width", "height"))
            runs = [int(part) for part in each.attrib["rle"].split(",")]
            cut = mask_of_runs(runs, height, width)
            return Shape(category, object_id, partial(_placed, cut, left, top), said.get("name", ""))
        if each.tag == "polygon":
            points = np.array([part.split(",") for part in each.attrib["points"].split(";")], float)
            return Shape(category, object_id, partial(filled, [points]), said.get("name", ""))
        self._skipped["boxes" if each.tag == "box" else f"shapes of type {each.tag}"] += each.tag != "tag"
        return None

    def _label_studio(self, task: Mapping[str, Any], place: int) -> Picture:
        data = task["data"]
        source = str(next((value for value in data.values() if str(value).lower().endswith(IMAGE_SUFFIXES)), ""))
        file_name = unquote(re.split(r"[/=\\]", source)[-1])
        answers = task.get("annotations") or task.get("completions") or task.get("predictions") or []
        results: list[Any] = next((each["result"] for each in answers if not each.get("was_cancelled")), [])
        size = next(
            ((each["original_height"], each["original_width"]) for each in results if "original_width" in each), None
        )
        size = size or (int(data["height"]), int(data["width"]))
        picture = Picture(str(data.get("name") or Path(file_name).stem or f"{AT}{place}"), file_name, size)
        for each in results:
            value = each["value"]
            labels = value.get("brushlabels") or value.get("polygonlabels") or value.get("labels") or [""]
            category = "" if labels[0] == "object" else str(labels[0])
            said = _TRACK.search(" ".join((each.get("meta") or {}).get("text") or []))
            object_id = None if said is None else check_object_id(int(said[1]))
            name = "" if said is None else said[2] or ""
            if value.get("format") == "rle":
                mask: MaskOf = partial(mask_of_brush, value["rle"])
            elif "points" in value:
                mask = partial(filled, [np.array(value["points"], float) / 100 * size[::-1]])
            else:
                self._skipped[f"shapes of type {each.get('type')}"] += 1
                continue
            picture.shapes.append(Shape(category, object_id, mask, name))
        return picture

    def _labelme(self, content: Mapping[str, Any], stem: str) -> Picture:
        size = int(content["imageHeight"]), int(content["imageWidth"])
        file_name = re.split(r"[/\\]", str(content.get("imagePath") or ""))[-1]
        picture = Picture(Path(file_name).stem or stem, file_name, size)
        for each in content["shapes"]:
            kind, points = each.get("shape_type") or "polygon", np.array(each["points"], float)
            if kind == "mask":
                with Image.open(io.BytesIO(base64.b64decode(each["mask"]))) as image:
                    cut = np.asarray(image) > 0
                left, top = np.floor(points[0] + 0.5).astype(int).tolist()
                mask: MaskOf = partial(_placed, cut, left, top)
            elif kind == "polygon":
                mask = partial(filled, [points])
            else:
                self._skipped[f"shapes of type {kind}"] += 1
                continue
            group = each.get("group_id")
            object_id = None if group is None else check_object_id(group)
            label = str(each["label"])
            name = str(each.get("description") or "")
            picture.shapes.append(Shape("" if label == "object" else label, object_id, mask, name))
        return picture

    def _mots(self, text: str) -> list[Picture]:
        rows = [line.split() for line in text.splitlines() if line.strip()]
        if all(len(row) == 1 and row[0].count(",") >= 5 for row in rows) and rows:
            self._skipped["boxes"] += len(rows)  # MOT's
            return []
        first = min((int(row[0]) for row in rows), default=1) and 1  # KITTI counts frames from 0
        listing = self._path.with_name("labels.txt")
        names = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
        pictures: dict[int, Picture] = {}
        for frame, number, kind, height, width, counts in rows:
            index, size = int(frame) - first, (int(height), int(width))
            picture = pictures.setdefault(index, Picture(f"{AT}{index}", "", size))
            category = names[int(kind) - 1] if 1 <= int(kind) <= len(names) else ""
            rle = {"size": list(size), "counts": counts}
            picture.shapes.append(
                Shape(
                    "" if category == "object" else category,
                    check_object_id(int(number)),
                    partial(_of_coco_mask, rle),
                )
            )
        return [pictures[index] for index in sorted(pictures)]

    def _yolo(self, folder: Path) -> list[Picture]:
        labels = folder / "labels" if (folder / "labels").is_dir() else folder
        names = _names_of_yolo(labels.parent / "data.yaml")
        pictures = []
        for path in natural_order(list(labels.glob("*.txt"))):
            beside = [*(labels.parent / "images").glob(f"{path.stem}.*"), *labels.glob(f"{path.stem}.*")]
            images = [each for each in beside if each.suffix.lower() in IMAGE_SUFFIXES]
            if not images:
                raise MaskError(
                    f"{path} gives fractions of a picture that is not there",
                    f"put {path.stem}.jpg into {labels.parent / 'images'}",
                )
            with Image.open(images[0]) as image:
                picture = Picture(path.stem, images[0].name, (image.height, image.width))
            for line in path.read_text(encoding="utf-8").splitlines():
                kind, *numbers = line.split()
                points = np.array(numbers, float)
                if len(points) < 6 or len(points) % 2:
                    self._skipped["boxes"] += 1
                    continue
                category = names.get(int(kind), f"class {kind}")
                corners = points.reshape(-1, 2) * picture.size[::-1]
                mask = partial(filled, [np.round(corners, 2)])
                picture.shapes.append(Shape("" if category == "object" else category, None, mask))
            pictures.append(picture)
        return pictures


def _identified(path: Path, pictures: Sequence[Picture]) -> dict[int, int]:
    """Returns the object id of each shape, by the shape's own id in memory.

    Shapes that say which object they are keep that. Of others one of a class in each picture is one object; several
    of a class are numbered where there is one picture.
    """
    unnamed = [shape for picture in pictures for shape in picture.shapes if shape.object_id is None]
    ids = {id(shape): shape.object_id for picture in pictures for shape in picture.shapes if shape.object_id}
    if not unnamed:
        return ids
    if ids:
        raise MaskError(f"{path} says of some masks which object they are, and of others not", "give all of them an id")
    shown = [picture for picture in pictures if picture.shapes]
    several = any(max(Counter(shape.category for shape in picture.shapes).values()) > 1 for picture in shown)
    if several and len(shown) > 1:
        raise MaskError(
            f"{path} has several masks of one class in a picture and does not say which object is which in the next",
            "give each object an id (track_id, group_id), or give one picture",
        )
    if several:
        return {id(shape): number for number, shape in enumerate(shown[0].shapes, 1)}
    classes = list(dict.fromkeys(shape.category for shape in unnamed))
    return {id(shape): classes.index(shape.category) + 1 for shape in unnamed}


def _of_coco(image: Mapping[str, Any]) -> Picture:
    name = str(image["file_name"])
    stem = Path(name).stem if name.lower().endswith(IMAGE_SUFFIXES) else name
    return Picture(stem, PurePosixPath(name).name, (int(image["height"]), int(image["width"])))


def _of_coco_mask(segmentation: Any, height: int, width: int) -> Mask:
    """Returns the mask of polygons, or of run lengths, compressed or not."""
    if isinstance(segmentation, list):
        return filled([np.array(each, float).reshape(-1, 2) for each in segmentation], height, width)
    if tuple(segmentation["size"]) != (height, width):
        raise ValueError(f"a mask of {segmentation['size']} in an image of {[height, width]}")
    counts = segmentation["counts"]
    if isinstance(counts, list):
        return mask_of_runs(counts, width, height).T
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise missing_extra("compressed run lengths need pycocotools", "rle") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools with NumPy 2
        return np.asarray(coco.decode(segmentation), bool)


def _placed(cut: Bool[np.ndarray, "h w"], left: int, top: int, height: int, width: int) -> Mask:
    """Returns a mask of the size of the picture, of a part of it."""
    if left < 0 or top < 0 or cut.ndim != 2 or top + cut.shape[0] > height or left + cut.shape[1] > width:
        raise ValueError(f"a mask of {cut.shape} at {left}, {top} in a picture of {width}x{height}")
    mask = np.zeros((height, width), bool)
    mask[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return mask


def _text(element: ElementTree.Element, name: str) -> str:
    found = element.find(name)
    if found is None or found.text is None:
        raise ValueError(f"no {name}")
    return found.text


def _names_of_yolo(path: Path) -> dict[int, str]:
    """Returns the names of classes in a data.yaml, in the two ways in which they are written; empty where none is."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    if listed := re.search(r"^names:\s*\[(.*?)\]", text, re.MULTILINE | re.DOTALL):
        return dict(enumerate(part.strip().strip("'\"") for part in listed[1].split(",")))
    rows = re.findall(r"^\s+(\d{1,6}):\s*(.+?)\s*$", text, re.MULTILINE)
    return {int(number): json.loads(name) if name.startswith('"') else name.strip("'") for number, name in rows}

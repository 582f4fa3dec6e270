"""What files of COCO, CVAT, Label Studio, labelme, MOTS and YOLO say of masks, in one form."""

import base64
import io
import json
import logging
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from mnemask.errors import MaskError, missing_extra
from mnemask.io.images import FORMATS_AND_GIF, IMAGE_SUFFIXES
from mnemask.io.name_order import natural_order
from mnemask.io.pictures import check_size
from mnemask.io.shapes import filled, mask_from_run_lengths, mask_of_brush
from mnemask.types import check_object_id

log = logging.getLogger(__name__)
Mask = Bool[np.ndarray, "H W"]
MaskOf = Callable[[int, int], Mask]  # of a height and a width
AT = "@"  # begins the name of a frame that a file knows by its place in the video alone, as @12
_NAMES_ITSELF = "mnemask"  # as the contributor of a COCO file: each frame without annotations was looked at

_TRACK = re.compile(r"track_id=(\d{1,5})(?: name=(.*))?")
# A fraction of a picture, as YOLO has them, is at most 1, and of a shape beyond the edge a little more.
_LARGEST_FRACTION = 2.0


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape in a picture.

    Attributes:
        category: the class of the object.
        object_id: which object it is, if the file says so.
        mask: of a height and a width.
        name: of the object.
        depth: of shapes in one place the one with the greatest is seen, and of equal ones the later.
    """

    category: str
    object_id: int | None
    mask: MaskOf
    name: str = ""
    depth: int = 0


@dataclass(slots=True)
class AnnotatedFrame:
    """What a file says of one frame.

    Attributes:
        name: of the frame, without a suffix.
        file_name: of its picture, "" where the file does not say.
        size: height and width.
        shapes: in the file's order.
        annotated: whether no shapes mean that nothing is there. Many tools list pictures that nobody has come to yet.
    """

    name: str
    file_name: str
    size: tuple[int, int]
    shapes: list[Shape] = field(default_factory=list)
    annotated: bool = False


def read_pictures(path: Path, skipped: Counter[str]) -> list[AnnotatedFrame]:
    """Returns what a file says of each frame, or a folder of one file for each.

    Args:
        path: of COCO, Label Studio or labelme (.json), CVAT (.xml), MOTS (.txt); or a folder of labelme's files, or of
            YOLO's labels with its images beside it.
        skipped: counts the shapes that are no masks, by what they are.

    Raises:
        MaskError: it contradicts itself.
        MissingExtraError: it needs pycocotools, which is not installed.
        ValueError, KeyError, TypeError and others: it is damaged, or of another kind.
    """
    if path.is_dir():
        if jsons := natural_order(list(path.glob("*.json"))):
            contents = [_json_of(each) for each in jsons]
            first = _first_group(contents, path.name)
            stems = [each.stem for each in jsons]
            return [_of_labelme(*each, skipped, first) for each in zip(contents, stems, strict=True)]
        return _of_yolo(path, skipped)
    if path.suffix.lower() == ".xml":
        return _of_cvat(path.read_bytes(), skipped)
    if path.suffix.lower() == ".txt":
        return _of_mots(path.read_text(encoding="utf-8-sig"), path.with_name("labels.txt"), skipped)
    content = _json_of(path)
    if isinstance(content, list):
        return _of_label_studio(content, skipped)
    if "shapes" in content:
        return [_of_labelme(content, path.stem, skipped, _first_group([content], path.name))]
    return _of_coco(content, path, skipped)


def _of_coco(content: Mapping[str, Any], path: Path, skipped: Counter[str]) -> list[AnnotatedFrame]:
    if missing := [part for part in ("images", "annotations") if part not in content]:
        raise MaskError(
            f"{path} has no {missing[0]!r}, so it is no COCO file",
            "expected COCO, Label Studio or labelme in a .json; export it again",
        )
    names = {int(each["id"]): str(each["name"]) for each in content.get("categories", [])}
    pictures = {int(each["id"]): _coco_picture(each) for each in content["images"]}
    if (content.get("info") or {}).get("contributor") == _NAMES_ITSELF:
        for picture in pictures.values():
            picture.annotated = True
    tracks = [_track_of(each) for each in content["annotations"]]
    first = int(0 in tracks)  # as CVAT exports them
    if first:
        log.warning("%s counts track_id from 0: its objects have ids that are one more", path.name)
    for number, (each, track) in enumerate(zip(content["annotations"], tracks, strict=True), 1):
        if missing := [part for part in ("image_id", "category_id") if part not in each]:
            raise MaskError(f"annotation {number} of {path} has no {missing[0]!r}", "export it again")
        if int(each["image_id"]) not in pictures:
            raise MaskError(
                f"annotation {number} of {path} is in image {each['image_id']}, which is not among its 'images'",
                "export it again with its images, or correct image_id",
            )
        said = each.get("attributes") or {}
        category = names.get(int(each["category_id"]), str(each["category_id"]))
        if not (segmentation := each.get("segmentation")):
            skipped["boxes"] += 1
            continue
        mask = partial(_coco_mask, segmentation)
        object_id = None if track is None else check_object_id(track + first if type(track) is int else track)
        pictures[int(each["image_id"])].shapes.append(Shape(_class(category), object_id, mask, said.get("name") or ""))
    return list(pictures.values())


def _json_of(path: Path) -> Any:
    """Returns what a JSON file holds, which may begin with the mark that some editors put there."""
    return json.loads(path.read_text(encoding="utf-8-sig"))


def _track_of(annotation: Mapping[str, Any]) -> Any:
    return annotation.get("track_id", (annotation.get("attributes") or {}).get("track_id"))


def _coco_picture(image: Mapping[str, Any]) -> AnnotatedFrame:
    name = str(image["file_name"])
    stem = Path(name).stem if name.lower().endswith(IMAGE_SUFFIXES) else name
    return AnnotatedFrame(stem, PurePosixPath(name).name, (int(image["height"]), int(image["width"])))


def _coco_mask(segmentation: Any, height: int, width: int) -> Mask:
    """Returns the mask of polygons, or of run lengths, compressed or not."""
    if isinstance(segmentation, list):
        return filled([_points(each) for each in segmentation], height, width)
    if tuple(segmentation["size"]) != (height, width):
        raise ValueError(f"a mask of {segmentation['size']} in an image of {[height, width]}")
    counts = segmentation["counts"]
    if isinstance(counts, list):
        return mask_from_run_lengths(counts, width, height).T
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise missing_extra("compressed run lengths need pycocotools", "rle") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools with NumPy 2
        return np.asarray(coco.decode(segmentation), bool)


def _of_cvat(data: bytes, skipped: Counter[str]) -> list[AnnotatedFrame]:
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ValueError("a document type, which CVAT does not write")
    root = ElementTree.fromstring(data)
    size = root.find(".//original_size")
    whole = (0, 0) if size is None else (int(_text(size, "height")), int(_text(size, "width")))
    pictures: dict[int, AnnotatedFrame] = {}
    for image in root.iter("image"):
        name = PurePosixPath(image.attrib["name"])
        picture = AnnotatedFrame(name.stem, name.name, (int(image.attrib["height"]), int(image.attrib["width"])))
        pictures[int(image.attrib["id"])] = picture
        for each in image:
            if shape := _cvat_shape(each, each.attrib.get("label"), None, skipped):
                picture.shapes.append(shape)
    for track in root.iter("track"):
        for each in track:
            index = int(each.attrib["frame"])
            picture = pictures.setdefault(index, AnnotatedFrame(f"{AT}{index}", "", whole))
            if each.attrib.get("outside") == "1":
                picture.annotated = True  # where all are outside, that says that they are gone
            elif shape := _cvat_shape(each, track.attrib["label"], int(track.attrib["id"]) + 1, skipped):
                picture.shapes.append(shape)
    return [pictures[index] for index in sorted(pictures)]


def _cvat_shape(each: ElementTree.Element, label: str | None, track: int | None, skipped: Counter[str]) -> Shape | None:
    said = {part.attrib["name"]: part.text or "" for part in each.iter("attribute")}
    number = said.get("track_id", "")
    group = int(each.attrib.get("group_id", 0)) or None
    object_id = check_object_id(int(number)) if number.isdecimal() else track or group
    category, name, depth = _class(label or ""), said.get("name", ""), int(each.attrib.get("z_order", 0))
    if each.tag == "mask":
        left, top, width, height = (int(each.attrib[key]) for key in ("left", "top", "width", "height"))
        cut = mask_from_run_lengths([int(part) for part in each.attrib["rle"].split(",")], height, width)
        return Shape(category, object_id, partial(_placed, cut, left, top), name, depth)
    if each.tag == "polygon":
        points = _points([part.split(",") for part in each.attrib["points"].split(";")])
        return Shape(category, object_id, partial(filled, [points]), name, depth)
    skipped["boxes" if each.tag == "box" else f"shapes of type {each.tag}"] += each.tag != "tag"
    return None


def _of_label_studio(tasks: Sequence[Mapping[str, Any]], skipped: Counter[str]) -> list[AnnotatedFrame]:
    """Returns what tasks say; one without shapes has the size of the first that says one."""
    answers = [_answer_of(task) for task in tasks]
    sizes = [_size_of_task(task, answer or ()) for task, answer in zip(tasks, answers, strict=True)]
    known = next((size for size in sizes if size), None)
    if known is None:
        raise ValueError("no task says the size of its picture")
    return [
        _of_task(task, answer, size or known, place, skipped)
        for place, (task, answer, size) in enumerate(zip(tasks, answers, sizes, strict=True))
    ]


def _answer_of(task: Mapping[str, Any]) -> Sequence[Any] | None:
    """Returns the regions that somebody submitted, perhaps none; None where nobody has come to the task."""
    answers = task.get("annotations") or task.get("completions") or task.get("predictions") or []
    return next((each["result"] for each in answers if not each.get("was_cancelled")), None)


def _size_of_task(task: Mapping[str, Any], results: Sequence[Any]) -> tuple[int, int] | None:
    data = task["data"]
    said = [(each["original_height"], each["original_width"]) for each in results if "original_width" in each]
    if said:
        return said[0]
    return (int(data["height"]), int(data["width"])) if "height" in data and "width" in data else None


def _of_task(
    task: Mapping[str, Any], answer: Sequence[Any] | None, size: tuple[int, int], place: int, skipped: Counter[str]
) -> AnnotatedFrame:
    data = task["data"]
    source = str(next((value for value in data.values() if str(value).lower().endswith(IMAGE_SUFFIXES)), ""))
    file_name = unquote(re.split(r"[/=\\]", source)[-1])
    name = str(data.get("name") or Path(file_name).stem or f"{AT}{place}")
    picture = AnnotatedFrame(name, file_name, size, annotated=answer is not None)
    for each in answer or ():
        value = each["value"]
        labels = value.get("brushlabels") or value.get("polygonlabels") or value.get("labels") or [""]
        said = _TRACK.search(" ".join((each.get("meta") or {}).get("text") or []))
        if value.get("format") == "rle":
            mask: MaskOf = partial(mask_of_brush, value["rle"])
        elif "points" in value:
            mask = partial(filled, [_points(value["points"]) / 100 * size[::-1]])
        else:
            skipped[f"shapes of type {each.get('type')}"] += 1
            continue
        object_id = None if said is None else check_object_id(int(said[1]))
        picture.shapes.append(Shape(_class(str(labels[0])), object_id, mask, "" if said is None else said[2] or ""))
    return picture


def _first_group(contents: Sequence[Mapping[str, Any]], name: str) -> int:
    """Returns what makes ids of labelme's groups, which people count from 0 or from 1."""
    first = int(any(each.get("group_id") == 0 for content in contents for each in content["shapes"]))
    if first:
        log.warning("%s counts group_id from 0: its objects have ids that are one more", name)
    return first


def _of_labelme(content: Mapping[str, Any], stem: str, skipped: Counter[str], first_group: int) -> AnnotatedFrame:
    if None in (content["imageHeight"], content["imageWidth"]):
        raise ValueError("imageHeight or imageWidth is null")
    size = int(content["imageHeight"]), int(content["imageWidth"])
    file_name = re.split(r"[/\\]", str(content.get("imagePath") or ""))[-1]
    # labelme writes a file when somebody saves what they see, so an empty one says that there is nothing.
    picture = AnnotatedFrame(Path(file_name).stem or stem, file_name, size, annotated=True)
    for each in content["shapes"]:
        kind, points = each.get("shape_type") or "polygon", _points(each["points"])
        if kind == "mask":
            with Image.open(io.BytesIO(base64.b64decode(each["mask"])), formats=FORMATS_AND_GIF) as image:
                check_size(image.width, image.height, f"a mask of {stem}")
                cut = np.asarray(image) > 0
            left, top = np.floor(points[0] + 0.5).astype(int).tolist()
            mask: MaskOf = partial(_placed, cut, left, top)
        elif kind == "polygon":
            mask = partial(filled, [points])
        else:
            skipped[f"shapes of type {kind}"] += 1
            continue
        group = each.get("group_id")
        object_id = None if group is None else check_object_id(group + first_group if type(group) is int else group)
        picture.shapes.append(Shape(_class(str(each["label"])), object_id, mask, str(each.get("description") or "")))
    return picture


def _of_mots(text: str, listing: Path, skipped: Counter[str]) -> list[AnnotatedFrame]:
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if all(len(row) == 1 and row[0].count(",") >= 5 for row in rows) and rows:
        skipped["boxes"] += len(rows)  # MOT's
        return []
    first = min((int(row[0]) for row in rows), default=1) and 1  # KITTI counts frames from 0
    names = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    pictures: dict[int, AnnotatedFrame] = {}
    for frame, number, kind, height, width, counts in rows:
        index, size = int(frame) - first, (int(height), int(width))
        picture = pictures.setdefault(index, AnnotatedFrame(f"{AT}{index}", "", size))
        category = names[int(kind) - 1] if 1 <= int(kind) <= len(names) else ""
        mask = partial(_coco_mask, {"size": list(size), "counts": counts})
        picture.shapes.append(Shape(_class(category), check_object_id(int(number)), mask))
    return [pictures[index] for index in sorted(pictures)]


def _of_yolo(folder: Path, skipped: Counter[str]) -> list[AnnotatedFrame]:
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
        with Image.open(images[0], formats=FORMATS_AND_GIF) as image:
            picture = AnnotatedFrame(path.stem, images[0].name, (image.height, image.width))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            kind, *numbers = line.split()
            if len(numbers) in (4, 5):  # the fifth is how sure a network was
                skipped["boxes"] += 1
                continue
            if _are_keypoints(numbers):
                skipped["keypoints"] += 1
                continue
            if len(numbers) % 2 and len(numbers) > 6:
                numbers.pop()  # likewise
            corners = _points(numbers)
            if len(corners) < 3:
                raise MaskError(f"line {number} of {path} has {len(corners)} corners", "a mask has 3 or more")
            if (np.abs(corners) > _LARGEST_FRACTION).any():
                raise MaskError(
                    f"line {number} of {path} has a corner at {np.abs(corners).max():g}, and YOLO's are fractions of "
                    "the picture, from 0 to 1",
                    "divide x by the picture's width and y by its height, or export it again",
                )
            mask = partial(filled, [np.round(corners * picture.size[::-1], 2)])
            picture.shapes.append(Shape(_class(names.get(int(kind), f"class {kind}")), None, mask))
        pictures.append(picture)
    return pictures


def _are_keypoints(numbers: Sequence[str]) -> bool:
    """Returns whether a line's numbers are a box and x, y, visibility of points; an outline may touch an edge at 0."""
    seen = numbers[6::3]
    odd = len(numbers) % 2 == 1 or "2" in seen
    return len(numbers) > 10 and (len(numbers) - 4) % 3 == 0 and odd and set(seen) <= {"0", "1", "2"}


def _names_of_yolo(path: Path) -> dict[int, str]:
    """Returns the names of classes in a data.yaml, in the three ways in which they are written; empty where none is."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    if listed := re.search(r"^names:\s*\[(.*?)\]", text, re.MULTILINE | re.DOTALL):
        return dict(enumerate(part.strip().strip("'\"") for part in listed[1].split(",")))
    if block := re.search(r"^names:[ \t]*\n((?:[ \t]*-[ \t].*\n?)+)", text, re.MULTILINE):
        items = re.findall(r"^[ \t]*-[ \t]+(.*?)[ \t]*$", block[1], re.MULTILINE)
        return dict(enumerate(item.strip("'\"") for item in items))
    rows = re.findall(r"^\s+(\d{1,6}):\s*(.+?)\s*$", text, re.MULTILINE)
    return {int(number): json.loads(name) if name.startswith('"') else name.strip("'") for number, name in rows}


def _class(label: str) -> str:
    """Returns the class that a label says: none where it is what `export` writes for an object without a class."""
    return "" if label == "object" else label


def _points(numbers: Sequence[Any]) -> Float[np.ndarray, "N 2"]:
    """Returns corners (x, y) of pairs, or of numbers in turns; raises ValueError where one is no number."""
    points: Float[np.ndarray, "N 2"] = np.array(numbers, float).reshape(-1, 2)
    if not math.isfinite(points.sum()):
        raise ValueError(f"a corner at {points[~np.isfinite(points).all(1)][0].tolist()}")
    return points


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

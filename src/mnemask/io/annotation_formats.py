"""Reads COCO, Label Studio, labelme and MOTS files into one form; `cvat` and `yolo` read the other formats."""

import base64
import io
import json
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from mnemask.errors import InputError, MaskError, ObjectIdError, counted
from mnemask.io.images import (
    DAMAGED_IMAGE_ERRORS,
    FORMATS_AND_GIF,
    IMAGE_SUFFIXES,
    TOO_LARGE_ERRORS,
    is_unread_picture,
)
from mnemask.io.name_order import natural_order
from mnemask.io.pictures import check_size
from mnemask.io.shapes import filled, mask_from_run_lengths, mask_of_brush, runs_of_text
from mnemask.types import check_object_id

log = logging.getLogger(__name__)
Mask = Bool[np.ndarray, "H W"]
MaskOf = Callable[[int, int], Mask]  # from height and width
AT = "@"  # prefix of a frame's name if a file gives only its position in the video, as in @12
TASK_BY_TASK = "export each task separately"
# In files that mnemask writes: the contributor of COCO, where frames without annotations are known to be empty, and the
# source of shapes for CVAT.
OWN_NAME = "mnemask"

_TRACK = re.compile(r"track_id=(\d{1,5})(?: name=(.*))?")
_IGNORED, _IGNORED_CLASS = 10_000, 10  # object and class of a region to ignore in MOTS


# What the readers raise on files that are damaged or of another kind; the tests cover both.
_DAMAGE = (
    *(KeyError, TypeError, AttributeError, RecursionError, ElementTree.ParseError),
    *(*DAMAGED_IMAGE_ERRORS, *TOO_LARGE_ERRORS),
)


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Turns errors that damaged files cause within the block into a MaskError that names the file or folder."""
    try:
        yield
    except ObjectIdError as error:
        raise MaskError(f"{path} has an impossible id: {error.problem}", error.remedy) from error
    except InputError:
        raise
    except _DAMAGE as error:
        raise MaskError(
            f"{path} cannot be read as masks ({type(error).__name__}: {error})",
            "expected COCO, CVAT 1.1, Label Studio, labelme, MOTS or YOLO with masks; export it again",
        ) from error


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape in a picture.

    Attributes:
        category: the class of the object.
        object_id: the id of the object; None if the file does not state it.
        mask: a function that returns the mask for a height and a width.
        name: the name of the object.
        depth: where shapes overlap, the one with the greatest depth is in front, and the last one of equal depths.
        interpolated: whether the tool computed it between two key frames, so that nobody annotated it there.
    """

    category: str
    object_id: int | None
    mask: MaskOf
    name: str = ""
    depth: int = 0
    interpolated: bool = False


@dataclass(slots=True)
class AnnotatedFrame:
    """The annotations of one frame.

    Attributes:
        name: the name of the frame, without a suffix.
        file_name: the name of its picture; "" if the file does not state it.
        size: height and width.
        shapes: the shapes in the file's order.
        annotated: whether a frame without shapes is known to be empty; many tools also list pictures that are not
            annotated yet.
        gone: the objects that the file states are absent, if it states that object by object.
        folder: the folder of its picture, as written in the file.
    """

    name: str
    file_name: str
    size: tuple[int, int]
    shapes: list[Shape] = field(default_factory=list)
    annotated: bool = False
    gone: set[int] = field(default_factory=set)
    folder: str = ""


def read_file(path: Path, skipped: Counter[str]) -> list[AnnotatedFrame]:
    """Returns the annotated frames of a COCO, Label Studio or labelme file (.json) or a MOTS file (.txt)."""
    if path.suffix.lower() == ".txt":
        return _of_mots(path, skipped)
    content = _json_of(path)
    if isinstance(content, list):
        return _of_label_studio(content, path, skipped)
    if "shapes" in content:
        return [_of_labelme(content, path.stem, skipped, _first_group([content], path.name))]
    return _of_coco(content, path, skipped)


def read_labelme(folder: Path, skipped: Counter[str]) -> list[AnnotatedFrame]:
    """Returns the annotated frames of a folder with one labelme file per frame; none if no JSON file is labelme's."""
    jsons = natural_order(json_files(folder))
    if not any(map(may_be_labelme, jsons)):
        return []
    found = {}
    for path in jsons:
        with naming_damage(path):
            found[path] = _json_of(path)
    contents = {path: each for path, each in found.items() if isinstance(each, dict) and "shapes" in each}
    if contents and len(contents) < len(found):
        others = [path.name for path in found if path not in contents]
        log.warning("%s: ignoring %d JSON files that are not labelme's, first %s", folder, len(others), others[0])
    first = _first_group(list(contents.values()), folder.name)
    pictures = []
    for path, each in contents.items():
        with naming_damage(path):
            pictures.append(_of_labelme(each, path.stem, skipped, first))
    return pictures


def json_files(folder: Path) -> list[Path]:
    """Returns the JSON files in a folder, without hidden ones such as those that macOS leaves."""
    return [path for path in folder.glob("*.json") if path.is_file() and not path.name.startswith(".")]


def may_be_labelme(path: Path) -> bool:
    """Returns whether the first 4096 bytes of a JSON file look like labelme's."""
    with path.open("rb") as file:
        return b'"shapes"' in file.read(4096)


def _of_coco(content: Mapping[str, Any], path: Path, skipped: Counter[str]) -> list[AnnotatedFrame]:
    if missing := [part for part in ("images", "annotations") if part not in content]:
        raise MaskError(
            f"{path} has no {missing[0]!r}, so it is not a COCO file",
            "expected COCO, Label Studio or labelme in a .json; export it again",
        )
    names = {int(each["id"]): str(each["name"]) for each in content.get("categories", [])}
    is_own = (content.get("info") or {}).get("contributor") == OWN_NAME
    pictures = {int(each["id"]): _coco_picture(each, is_own) for each in content["images"]}
    if len({(int(each["id"]), str(each["file_name"])) for each in content["images"]}) > len(pictures):
        raise MaskError(f"{path} has two images with the same id", f"give each its own id, or {TASK_BY_TASK}")
    if is_own:
        for picture in pictures.values():
            picture.annotated = True
    tracks = [_track_of(each) for each in content["annotations"]]
    first = int(0 in tracks)  # CVAT exports them from 0
    if first:
        log.warning("%s counts track_id from 0: object ids are track_id + 1", path.name)
    crowds = _crowds(content["annotations"])
    keyed = {track for each, track in zip(content["annotations"], tracks, strict=True) if _keyframe_of(each) is True}
    for number, (each, track) in enumerate(zip(content["annotations"], tracks, strict=True), 1):
        if missing := [part for part in ("image_id", "category_id") if part not in each]:
            raise MaskError(f"annotation {number} of {path} has no {missing[0]!r}", "export it again")
        if int(each["image_id"]) not in pictures:
            raise MaskError(
                f"annotation {number} of {path} is in image {each['image_id']}, which its 'images' do not list",
                "export it again with its images, or correct image_id",
            )
        said = each.get("attributes") or {}
        category = names.get(int(each["category_id"]), str(each["category_id"]))
        if not (segmentation := each.get("segmentation")):
            skipped["boxes"] += 1
            continue
        if isinstance(segmentation, list) and not (segmentation := [part for part in segmentation if len(part) >= 6]):
            skipped["outlines with fewer than 3 corners"] += 1
            continue
        if number in crowds:
            skipped["crowd regions (iscrowd) beside single objects of their class"] += 1
            continue
        mask = partial(_coco_mask, segmentation)
        object_id = None if track is None else check_object_id(track + first if type(track) is int else track)
        between = track is not None and _keyframe_of(each) is False and track in keyed  # CVAT states it
        shape = Shape(class_of(category), object_id, mask, said.get("name") or "", interpolated=between)
        pictures[int(each["image_id"])].shapes.append(shape)
    return without_interpolated(list(pictures.values()), path)


def without_interpolated(pictures: Sequence[AnnotatedFrame], path: Path) -> list[AnnotatedFrame]:
    """Returns the frames without those in which a tool interpolated every shape between key frames; warns of those."""
    between = [each for each in pictures if each.shapes and all(shape.interpolated for shape in each.shapes)]
    if between:
        log.warning(
            "%s: in %s, all shapes are interpolated between key frames: nobody annotated them, so they are left out; "
            "to use such a shape, make it a key frame",
            *(path, counted(len(between), "frame")),
        )
    left_out = {id(each) for each in between if not (each.annotated or each.gone)}
    for each in between:
        each.shapes.clear()
    return [each for each in pictures if id(each) not in left_out]


def _crowds(annotations: Sequence[Mapping[str, Any]]) -> set[int]:
    """Returns the numbers, from 1, of the `iscrowd` annotations that cover many objects.

    These are run lengths without a track id in an image that also has single objects of their class. Any other
    `iscrowd` annotation is read as one object, since some tools write objects painted with a brush that way.
    """
    masks = {number: each for number, each in enumerate(annotations, 1) if each.get("segmentation")}
    single = {(each.get("image_id"), each.get("category_id")) for each in masks.values() if not each.get("iscrowd")}
    return {
        number
        for number, each in masks.items()
        if each.get("iscrowd")
        and isinstance(each["segmentation"], dict)
        and _track_of(each) is None
        and (each.get("image_id"), each.get("category_id")) in single
    }


def _json_of(path: Path) -> Any:
    """Returns the content of a JSON file, which may begin with a byte order mark."""
    return json.loads(path.read_text(encoding="utf-8-sig"))


def _track_of(annotation: Mapping[str, Any]) -> Any:
    return _whole_if_meant(annotation.get("track_id", (annotation.get("attributes") or {}).get("track_id")))


def _whole_if_meant(number: Any) -> Any:
    """Returns an id that some tools write as text or with a decimal point, "1" or 1.0, as an int; others unchanged."""
    is_text = isinstance(number, str) and re.fullmatch(r"\d{1,9}", number, re.ASCII)
    return int(number) if is_text or (isinstance(number, float) and number.is_integer()) else number


def _keyframe_of(annotation: Mapping[str, Any]) -> Any:
    return (annotation.get("attributes") or {}).get("keyframe")


def _coco_picture(image: Mapping[str, Any], is_own: bool) -> AnnotatedFrame:
    place = str(image["file_name"])
    file_name, size = last_part(place, is_own), (int(image["height"]), int(image["width"]))
    return AnnotatedFrame(frame_of(file_name), file_name, size, folder=place.removesuffix(file_name))


def _coco_mask(segmentation: Any, height: int, width: int) -> Mask:
    """Returns the mask of polygons or of run lengths, compressed or not."""
    if isinstance(segmentation, list):
        return filled([points_of(each) for each in segmentation], height, width)
    if tuple(segmentation["size"]) != (height, width):
        raise ValueError(f"a mask of {segmentation['size']} in an image of {[height, width]}")
    counts = segmentation["counts"]
    if isinstance(counts, list):
        return mask_from_run_lengths(counts, width, height).T
    return mask_from_run_lengths(runs_of_text(counts), width, height).T


def _of_label_studio(tasks: Sequence[Mapping[str, Any]], path: Path, skipped: Counter[str]) -> list[AnnotatedFrame]:
    """Returns the frame of each task; a task without a stated size gets that of the first task that states one."""
    submitted = [_submitted(task) for task in tasks]
    answers = [each[0] if each else None for each in submitted]
    if several := sum(len(each) > 1 for each in submitted):
        log.warning(
            "%s has more than one submitted annotation in %d of %d tasks: only the first of each is read; to read "
            "another, mark it as ground truth or delete the rest",
            *(path, several, len(tasks)),
        )
    if len(tasks) > 1 and (unnamed := sum(not (_picture_of(task) or task["data"].get("name")) for task in tasks)):
        log.warning(
            "%s does not name the pictures of %d of its %d tasks: their frames are taken from the order of the tasks; "
            "to choose other frames, give each task a name in its data",
            *(path, unnamed, len(tasks)),
        )
    sizes = [_size_of_task(task, answer or ()) for task, answer in zip(tasks, answers, strict=True)]
    known = next((size for size in sizes if size), None)
    if known is None:
        raise ValueError("no task states the size of its picture")
    return [
        _of_task(task, answer, size or known, place, skipped)
        for place, (task, answer, size) in enumerate(zip(tasks, answers, sizes, strict=True))
    ]


def _submitted(task: Mapping[str, Any]) -> list[Sequence[Any]]:
    """Returns the regions of each annotation that was not cancelled; only of ground truths if there are any."""
    answers = task.get("annotations") or task.get("completions") or task.get("predictions") or []
    answers = [each for each in answers if not each.get("was_cancelled")]
    return [each["result"] for each in [each for each in answers if each.get("ground_truth")] or answers]


def _picture_of(task: Mapping[str, Any]) -> str:
    """Returns the file name of a task's picture, "" if none is named.

    It is the end of the address without its query, which may be a signature, or else the end of the whole address, as
    in `/data/local-files/?d=a/b.png`.
    """
    data = task["data"]
    for key in sorted(data, key=lambda key: (key != "image", "thumb" in key.lower())):  # a thumbnail is another file
        address = str(data[key])
        for place in (address.partition("?")[0], address):
            if place.lower().endswith(IMAGE_SUFFIXES):
                return unquote(re.split(r"[/=\\]", place)[-1])
    return ""


def _size_of_task(task: Mapping[str, Any], results: Sequence[Any]) -> tuple[int, int] | None:
    data = task["data"]
    said = [(each["original_height"], each["original_width"]) for each in results if "original_width" in each]
    if said:
        return said[0]
    return (int(data["height"]), int(data["width"])) if "height" in data and "width" in data else None


def _of_task(
    task: Mapping[str, Any], answer: Sequence[Any] | None, size: tuple[int, int], place: int, skipped: Counter[str]
) -> AnnotatedFrame:
    file_name = _picture_of(task)
    name = str(task["data"].get("name") or frame_of(file_name) or f"{AT}{place}")
    # A submitted task without a region means an empty frame; a box or a key point alone shows that something is there.
    is_placed = any({"x", "y"} <= (each.get("value") or {}).keys() for each in answer or ())
    picture = AnnotatedFrame(name, file_name, size, annotated=answer is not None and not is_placed)
    for each in answer or ():
        if (value := each.get("value")) is None:
            continue  # such as a relation between two regions
        labels = value.get("brushlabels") or value.get("polygonlabels") or value.get("labels") or [""]
        said = _TRACK.search(" ".join((each.get("meta") or {}).get("text") or []))
        if value.get("format") == "rle":
            mask: MaskOf = partial(mask_of_brush, value["rle"])
        elif "points" in value:
            mask = partial(filled, [points_of(value["points"]) / 100 * size[::-1]])
        else:
            skipped[f"shapes of type {each.get('type')}"] += 1
            continue
        object_id = None if said is None else check_object_id(int(said[1]))
        picture.shapes.append(Shape(class_of(str(labels[0])), object_id, mask, "" if said is None else said[2] or ""))
    return picture


def _first_group(contents: Sequence[Mapping[str, Any]], name: str) -> int:
    """Returns what to add to labelme's group_id for an object id: 1 if the groups count from 0, else 0."""
    first = int(any(_group_of(each) == 0 for content in contents for each in content["shapes"]))
    if first:
        log.warning("%s counts group_id from 0: object ids are group_id + 1", name)
    return first


def _group_of(shape: Mapping[str, Any]) -> Any:
    return _whole_if_meant(shape.get("group_id"))


def _of_labelme(content: Mapping[str, Any], stem: str, skipped: Counter[str], first_group: int) -> AnnotatedFrame:
    if None in (content["imageHeight"], content["imageWidth"]):
        raise ValueError("imageHeight or imageWidth is null")
    size = int(content["imageHeight"]), int(content["imageWidth"])
    place = str(content.get("imagePath") or "")
    file_name = last_part(place, is_posix=frame_of(place) == stem)
    # labelme writes a file only when the user saves a picture, so a file without shapes means an empty frame; boxes or
    # points alone show that something is there.
    picture = AnnotatedFrame(frame_of(file_name) or stem, file_name, size, annotated=not content["shapes"])
    for each in content["shapes"]:
        kind, points = each.get("shape_type") or "polygon", points_of(each["points"])
        if kind == "mask":
            with Image.open(io.BytesIO(base64.b64decode(each["mask"])), formats=FORMATS_AND_GIF) as image:
                check_size(image.width, image.height, f"a mask of {stem}")
                cut = np.asarray(image) > 0
            left, top = np.floor(points[0] + 0.5).astype(int).tolist()
            mask: MaskOf = partial(placed, cut, left, top)
        elif kind == "polygon":
            mask = partial(filled, [points])
        else:
            skipped[f"shapes of type {kind}"] += 1
            continue
        group = _group_of(each)
        object_id = None if group is None else check_object_id(group + first_group if type(group) is int else group)
        picture.shapes.append(Shape(class_of(str(each["label"])), object_id, mask, str(each.get("description") or "")))
    return picture


def _of_mots(path: Path, skipped: Counter[str]) -> list[AnnotatedFrame]:
    rows = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if all(len(row) == 1 and row[0].count(",") >= 5 for row in rows) and rows:
        skipped["boxes"] += len(rows)  # a MOT file, which holds boxes
        return []
    smallest = min((int(row[0]) for row in rows), default=1)
    if smallest > 1:
        log.warning("%s begins with frame %d; assuming that it counts frames from 1", path, smallest)
    first = smallest and 1  # KITTI counts frames from 0
    listing = path.with_name("labels.txt")
    names = listing.read_text(encoding="utf-8-sig").splitlines() if listing.is_file() else []
    pictures: dict[int, AnnotatedFrame] = {}
    for frame, number, kind, height, width, counts in rows:
        if (int(number), int(kind)) == (_IGNORED, _IGNORED_CLASS) and len(names) < _IGNORED_CLASS:
            skipped["regions to ignore"] += 1
            continue
        index, size = int(frame) - first, (int(height), int(width))
        picture = pictures.setdefault(index, AnnotatedFrame(f"{AT}{index}", "", size))
        category = names[int(kind) - 1] if 1 <= int(kind) <= len(names) else ""
        mask = partial(_coco_mask, {"size": list(size), "counts": counts})
        picture.shapes.append(Shape(class_of(category), check_object_id(int(number)), mask))
    return [pictures[index] for index in sorted(pictures)]


def last_part(path: str, is_posix: bool = False) -> str:
    r"""Returns the last part of a path of this or another system.

    Args:
        path: the path.
        is_posix: whether only a / is known to separate, so that a \ belongs to a name.
    """
    return re.split("/" if is_posix else r"[/\\]", path)[-1]


def frame_of(file_name: str) -> str:
    """Returns the name of a picture's frame: the file name without a picture's suffix, "t0.1" for "t0.1" itself."""
    path = Path(file_name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES or is_unread_picture(path) else file_name


def class_of(label: str) -> str:
    """Returns the class that a label states; "" for "object", which `export` writes for objects without a class."""
    return "" if label == "object" else label


def points_of(numbers: Sequence[Any]) -> Float[np.ndarray, "N 2"]:
    """Returns corners (x, y) from pairs or from alternating numbers; raises ValueError if one is not finite."""
    points: Float[np.ndarray, "N 2"] = np.array(numbers, float).reshape(-1, 2)
    if not math.isfinite(points.sum()):
        raise ValueError(f"a corner at {points[~np.isfinite(points).all(1)][0].tolist()}, which is not finite")
    return points


def placed(cut: Bool[np.ndarray, "h w"], left: int, top: int, height: int, width: int) -> Mask:
    """Returns a part's mask placed in a picture of this size; raises ValueError if it does not fit."""
    if left < 0 or top < 0 or cut.ndim != 2 or top + cut.shape[0] > height or left + cut.shape[1] > width:
        raise ValueError(f"a mask of {cut.shape} at {left}, {top} in a picture of {width}x{height}")
    mask = np.zeros((height, width), bool)
    mask[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return mask

"""Reads COCO files into the one form that the readers of the other formats share, each in a module of its own."""

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
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Bool, Float

from mnemask.errors import InputError, MaskError, ObjectIdError, counted
from mnemask.io.images import DAMAGED_IMAGE_ERRORS, IMAGE_SUFFIXES, TOO_LARGE_ERRORS, is_unread_picture
from mnemask.io.shapes import Mask, filled, mask_from_run_lengths, runs_of_text
from mnemask.types import check_object_id

log = logging.getLogger(__name__)
MaskOf = Callable[[int, int], Mask]  # from height and width
AT = "@"  # prefix of a frame's name if a file gives only its position in the video, as in @12
TASK_BY_TASK = "export each task separately"
# In files that mnemask writes: the contributor of COCO, where frames without annotations are known to be empty, and the
# source of shapes for CVAT.
OWN_NAME = "mnemask"

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


def json_files(folder: Path) -> list[Path]:
    """Returns the JSON files in a folder, without hidden ones such as those that macOS leaves."""
    return [path for path in folder.glob("*.json") if path.is_file() and not path.name.startswith(".")]


def read_coco(content: Mapping[str, Any], path: Path, skipped: Counter[str]) -> list[AnnotatedFrame]:
    """Returns the annotated frames of a COCO file with this content."""
    if missing := [part for part in ("images", "annotations") if part not in content]:
        raise MaskError(
            f"{path} has no {missing[0]!r}, so it is not a COCO file",
            "expected COCO, Label Studio or labelme in a .json; export it again",
        )
    for part, keys in (("categories", ("id",)), ("images", ("id", "width", "height"))):
        for each in content.get(part) or ():
            if odd := next((key for key in keys if type(whole_if_meant(each.get(key))) is not int), None):
                raise MaskError(
                    f"{path} has {part} whose {odd!r} is {each.get(odd)!r}, but COCO has a whole number there",
                    "export it again, or correct it",
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
        mask = partial(mask_of_coco, segmentation)
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


def json_of(path: Path) -> Any:
    """Returns the content of a JSON file, which may begin with a byte order mark.

    Raises:
        MaskError: it is not UTF-8.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise MaskError(f"{path} is not encoded in UTF-8, as JSON is", "save it as UTF-8") from error


def _track_of(annotation: Mapping[str, Any]) -> Any:
    return whole_if_meant(annotation.get("track_id", (annotation.get("attributes") or {}).get("track_id")))


def whole_if_meant(number: Any) -> Any:
    """Returns an id that some tools write as text or with a decimal point, "1" or 1.0, as an int; others unchanged."""
    is_text = isinstance(number, str) and re.fullmatch(r"\d{1,9}", number, re.ASCII)
    return int(number) if is_text or (isinstance(number, float) and number.is_integer()) else number


def _keyframe_of(annotation: Mapping[str, Any]) -> Any:
    return (annotation.get("attributes") or {}).get("keyframe")


def _coco_picture(image: Mapping[str, Any], is_own: bool) -> AnnotatedFrame:
    place = str(image["file_name"])
    file_name, size = last_part(place, is_own), (int(image["height"]), int(image["width"]))
    return AnnotatedFrame(frame_of(file_name), file_name, size, folder=place.removesuffix(file_name))


def mask_of_coco(segmentation: Any, height: int, width: int) -> Mask:
    """Returns the mask of polygons or of run lengths, compressed or not."""
    if isinstance(segmentation, list):
        return filled([points_of(each) for each in segmentation], height, width)
    if tuple(segmentation["size"]) != (height, width):
        raise ValueError(f"a mask of {segmentation['size']} in an image of {[height, width]}")
    counts = segmentation["counts"]
    if isinstance(counts, list):
        return mask_from_run_lengths(counts, width, height).T
    return mask_from_run_lengths(runs_of_text(counts), width, height).T


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

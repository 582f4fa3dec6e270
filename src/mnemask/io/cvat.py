"""Reads CVAT 1.1 files, for images or for video: the shapes of each frame, and the object of each shape."""

import re
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from mnemask.errors import MaskError
from mnemask.io.annotation_formats import (
    AT,
    OWN_NAME,
    TASK_BY_TASK,
    AnnotatedFrame,
    Shape,
    class_of,
    frame_of,
    last_part,
    placed,
    points_of,
    without_interpolated,
)
from mnemask.io.pictures import MAX_IMAGES
from mnemask.io.shapes import filled, mask_from_run_lengths
from mnemask.types import check_object_id


def read_cvat(path: Path, skipped: Counter[str]) -> list[AnnotatedFrame]:
    """Returns the annotated frames of a file, identified by image names, or by frame numbers in tracks.

    CVAT writes a shape of a video that is in no track as a track of one frame that ends in the next; its object is not
    gone there, nor is one whose track ends behind the last frame of the task. Frames in which CVAT interpolated every
    shape between key frames are left out.
    """
    data = path.read_bytes()
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ValueError("a document type, which CVAT does not write")
    root = ElementTree.fromstring(data)
    size = root.find(".//original_size")
    whole = (0, 0) if size is None else (int(_text(size, "height")), int(_text(size, "width")))
    images, tracks = list(root.iter("image")), list(root.iter("track"))
    if len({track.get("task_id") for track in tracks}) > 1:
        raise MaskError(f"{path} has tracks of several tasks, whose frame numbers overlap", TASK_BY_TASK)
    stated = {number for part in (*images, *tracks) for each in part if (number := _stated_id(each)) is not None}
    others = _groups_of_others(images, stated)
    pictures: dict[int, AnnotatedFrame] = {}
    is_own = any(each.get("source") == OWN_NAME for image in images for each in image)
    for image in images:
        index, place = int(image.attrib["id"]), image.attrib["name"]
        file_name = last_part(place, is_own)
        if index in pictures:
            both = f"{pictures[index].file_name} and {file_name}"
            raise MaskError(f"{path} has two images of id {index}, {both}", TASK_BY_TASK)
        frame_size = int(image.attrib["height"]), int(image.attrib["width"])
        pictures[index] = picture = AnnotatedFrame(frame_of(file_name), file_name, frame_size)
        picture.folder = place.removesuffix(file_name)
        for each in image:
            group = _group_of(each)
            if shape := _shape_of(each, each.attrib.get("label"), None if group in others else group, skipped):
                picture.shapes.append(shape)
    lone = {id(track) for track in tracks if _is_lone_shape(track, _step_of(root))}
    stop = root.findtext("meta/task/stop_frame") or ""
    last = int(stop) if stop.isdecimal() else None
    # A shape in the last frame is a track without an end.
    no_tracks = bool(lone) and all(id(track) in lone or len(track) < 2 for track in tracks)
    for track in tracks:
        track_id = _group_of(track) if no_tracks else _id_of_track(track, stated)
        interpolates = any(_is_shown(each) and each.get("keyframe") == "1" for each in track)
        for each in track[:1] if id(track) in lone else track:
            index = int(each.attrib["frame"])
            if last is not None and index > last and not _is_shown(each):
                continue
            picture = pictures.setdefault(index, AnnotatedFrame(f"{AT}{index}", "", whole))
            if not _is_shown(each):
                picture.annotated = True
                said = _stated_id(each) or track_id
                picture.gone |= {said} if said else set()
            elif shape := _shape_of(each, track.attrib["label"], track_id, skipped):
                between = interpolates and each.get("keyframe") == "0"
                picture.shapes.append(replace(shape, interpolated=between))
    return without_interpolated([pictures[index] for index in sorted(pictures)], path)


def empty_frames(path: Path) -> Set[int]:
    """Returns the frames of a readable file of tracks in which none has a shape, if it states which frames it has."""
    root = ElementTree.fromstring(path.read_bytes())
    start, stop, size = (root.findtext(f"meta/task/{name}") or "" for name in ("start_frame", "stop_frame", "size"))
    if root.find(".//image") is not None or not all(map(str.isdecimal, (start, stop, size))):
        return frozenset()
    frames = range(int(start), int(stop) + 1, _step_of(root))
    if len(frames) != int(size) or len(frames) > MAX_IMAGES:  # some were left out, nobody knows which
        return frozenset()
    return {*frames} - {int(each.attrib["frame"]) for track in root.iter("track") for each in track if _is_shown(each)}


def _step_of(root: ElementTree.Element) -> int:
    """Returns the number of frames of the video from one annotated frame to the next."""
    step = re.search(r"step *= *(\d+)", root.findtext(".//frame_filter") or "")
    return int(step[1]) if step else 1


def _is_shown(each: ElementTree.Element) -> bool:
    return each.get("outside") != "1"


def _is_lone_shape(track: ElementTree.Element, step: int) -> bool:
    """Returns whether a track is a shape that was in none: the shape, and a copy in the next frame that is outside.

    Args:
        track: the track.
        step: number of frames of the video from one annotated frame to the next.
    """
    if len(track) != 2 or not _is_shown(track[0]) or _is_shown(track[1]) or any(map(_stated_id, track)):
        return False
    shape, end = track
    same = all(shape.get(key) == end.get(key) for key in ("points", "rle", "left", "top"))
    return same and int(end.attrib["frame"]) - int(shape.attrib["frame"]) == step


def _stated_id(each: ElementTree.Element) -> int | None:
    """Returns the object id in a shape's `track_id` attribute, which mnemask's exports write; None if there is none."""
    number = next((part.text or "" for part in each.iter("attribute") if part.get("name") == "track_id"), "")
    return check_object_id(int(number)) if number.isdecimal() else None


def _group_of(each: ElementTree.Element) -> int | None:
    return int(each.attrib.get("group_id", 0)) or None


def _groups_of_others(images: Sequence[ElementTree.Element], stated: Set[int]) -> Set[int]:
    """Returns the groups whose number is stated as the id of another object, so that it cannot be theirs."""
    said: dict[int, set[int | None]] = {}
    for each in (each for image in images for each in image):
        if group := _group_of(each):
            said.setdefault(group, set()).add(_stated_id(each))
    return {group for group, ids in said.items() if group in stated and ids - {None} != {group}}


def _id_of_track(track: ElementTree.Element, stated: Set[int]) -> int | None:
    """Returns the object id for a track's shapes that state none: the one that its others state, else track id + 1.

    It is None if another shape already states track id + 1, as can happen for a track that was drawn later.
    """
    others = {number for each in track if (number := _stated_id(each)) is not None}
    own = int(track.attrib["id"]) + 1
    return others.pop() if len(others) == 1 else None if own in stated else check_object_id(own)


def _shape_of(each: ElementTree.Element, label: str | None, other: int | None, skipped: Counter[str]) -> Shape | None:
    """Returns a shape with the object id that it states, else with `other`; None if it is not a mask."""
    said = {part.attrib["name"]: part.text or "" for part in each.iter("attribute")}
    stated = _stated_id(each)
    object_id = other if stated is None else stated
    category, name, depth = class_of(label or ""), said.get("name", ""), int(each.attrib.get("z_order", 0))
    if each.tag == "mask":
        left, top, width, height = (int(each.attrib[key]) for key in ("left", "top", "width", "height"))
        cut = mask_from_run_lengths([int(part) for part in each.attrib["rle"].split(",")], height, width)
        return Shape(category, object_id, partial(placed, cut, left, top), name, depth)
    if each.tag == "polygon":
        points = points_of([part.split(",") for part in each.attrib["points"].split(";")])
        return Shape(category, object_id, partial(filled, [points]), name, depth)
    if each.tag != "tag":  # a tag belongs to the whole picture
        skipped["boxes" if each.tag == "box" else f"shapes of type {each.tag}"] += 1
    return None


def _text(element: ElementTree.Element, name: str) -> str:
    found = element.find(name)
    if found is None or found.text is None:
        raise ValueError(f"no {name}")
    return found.text

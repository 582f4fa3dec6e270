"""Reads the tasks of a Label Studio file."""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mnemask.io.annotation_formats import AT, AnnotatedFrame, MaskOf, Shape, class_of, frame_of, points_of
from mnemask.io.images import IMAGE_SUFFIXES
from mnemask.io.shapes import filled, mask_of_brush
from mnemask.types import check_object_id

log = logging.getLogger(__name__)
_TRACK = re.compile(r"track_id=(\d{1,5})(?: name=(.*))?")


def read_label_studio(tasks: Sequence[Mapping[str, Any]], path: Path, skipped: Counter[str]) -> list[AnnotatedFrame]:
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

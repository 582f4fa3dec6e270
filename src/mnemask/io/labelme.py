"""Reads labelme's files: one JSON file per frame."""

import base64
import io
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mnemask.io.annotation_formats import (
    AnnotatedFrame,
    MaskOf,
    Shape,
    class_of,
    frame_of,
    json_files,
    json_of,
    last_part,
    naming_damage,
    placed,
    points_of,
    whole_if_meant,
)
from mnemask.io.images import FORMATS_AND_GIF
from mnemask.io.name_order import natural_order
from mnemask.io.pictures import check_size
from mnemask.io.shapes import filled
from mnemask.types import check_object_id

log = logging.getLogger(__name__)


def read_labelme(folder: Path, skipped: Counter[str]) -> list[AnnotatedFrame]:
    """Returns the annotated frames of a folder with one labelme file per frame; none if no JSON file is labelme's."""
    jsons = natural_order(json_files(folder))
    if not any(map(may_be_labelme, jsons)):
        return []
    found = {}
    for path in jsons:
        with naming_damage(path):
            found[path] = json_of(path)
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


def read_labelme_file(content: Mapping[str, Any], path: Path, skipped: Counter[str]) -> list[AnnotatedFrame]:
    """Returns the one annotated frame of a labelme file with this content."""
    return [_of_labelme(content, path.stem, skipped, _first_group([content], path.name))]


def may_be_labelme(path: Path) -> bool:
    """Returns whether the first 4096 bytes of a JSON file look like labelme's."""
    with path.open("rb") as file:
        return b'"shapes"' in file.read(4096)


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


def _first_group(contents: Sequence[Mapping[str, Any]], name: str) -> int:
    """Returns what to add to labelme's group_id for an object id: 1 if the groups count from 0, else 0."""
    first = int(any(_group_of(each) == 0 for content in contents for each in content["shapes"]))
    if first:
        log.warning("%s counts group_id from 0: object ids are group_id + 1", name)
    return first


def _group_of(shape: Mapping[str, Any]) -> Any:
    return whole_if_meant(shape.get("group_id"))

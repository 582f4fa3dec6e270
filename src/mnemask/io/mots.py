"""Reads MOTS files: a line of text for each mask."""

import logging
from collections import Counter
from functools import partial
from pathlib import Path

from mnemask.io.annotation_formats import AT, AnnotatedFrame, Shape, class_of, mask_of_coco
from mnemask.types import check_object_id

log = logging.getLogger(__name__)
_IGNORED, _IGNORED_CLASS = 10_000, 10  # object and class of a region to ignore


def read_mots(path: Path, skipped: Counter[str]) -> list[AnnotatedFrame]:
    """Returns the annotated frames of a MOTS file."""
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
        mask = partial(mask_of_coco, {"size": list(size), "counts": counts})
        picture.shapes.append(Shape(class_of(category), check_object_id(int(number)), mask))
    return [pictures[index] for index in sorted(pictures)]

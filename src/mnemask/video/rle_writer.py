"""Masks as COCO run-length JSON."""

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from mnemask.errors import MissingExtraError
from mnemask.types import Frame, Masks
from mnemask.video.files import partial_file, target_file
from mnemask.video.image_writers import name_of
from mnemask.video.journal import Mark, TextJournal


class CocoRle:
    """OUT/masks.json in COCO form: an image for each frame, an annotation for each object seen in it.

    `image_id` is the frame's index, `category_id` and `track_id` are the object's id, `segmentation` is compressed RLE.
    Entries go to disk as they come, so a long video needs no more memory than a short one; an interrupted one is left
    readable as masks.partial.json.

    Raises:
        MissingExtraError: pycocotools is not installed.
    """

    stretch = 1

    def __init__(
        self, out: Path, frames_per_second: float, journal: Path | None = None, mark: Mark | None = None
    ) -> None:
        try:
            from pycocotools import mask
        except ImportError as error:
            raise MissingExtraError("the rle format needs pycocotools; pip install 'mnemask[rle]'") from error
        self._rle = mask
        self._target = target_file(out, "masks.json")
        self._is_temporary = journal is None
        begun = mark or {"annotations": 0, "images": 0, "count": 0, "object_ids": []}
        beside = partial_file((journal or self._target.parent) / self._target.name)
        self._annotations = TextJournal(beside.with_suffix(".annotations"), int(begun["annotations"]))
        self._images = TextJournal(beside.with_suffix(".images"), int(begun["images"]))
        self._num_annotations = int(begun["count"])
        self._object_ids = {int(object_id): None for object_id in begun["object_ids"]}

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Writes the entries of one frame."""
        labels = masks.labels.cpu().numpy()
        height, width = labels.shape
        image = {"id": masks.index, "file_name": name_of(masks, frame), "height": height, "width": width}
        self._images.add(f"{', ' if self._images.length else ''}{json.dumps(image)}\n")
        for object_id in masks.object_ids:
            self._object_ids[object_id] = None
            rle = self._rle.encode(np.asfortranarray(labels == object_id, np.uint8))
            area = int(self._rle.area(rle))
            if area:
                self._write_annotation(masks.index, object_id, rle, area)

    def _write_annotation(self, image_id: int, object_id: int, rle: dict[str, Any], area: int) -> None:
        self._num_annotations += 1
        annotation = {
            "id": self._num_annotations,
            "image_id": image_id,
            "category_id": object_id,
            "track_id": object_id,
            "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
            "area": area,
            "bbox": self._rle.toBbox(rle).tolist(),
            "iscrowd": 0,
        }
        self._annotations.add(f"{', ' if self._num_annotations > 1 else ''}{json.dumps(annotation)}\n")

    def mark(self) -> Mark:
        """Returns how long the journals are, and what cannot be read off them at once."""
        return {
            "annotations": self._annotations.length,
            "images": self._images.length,
            "count": self._num_annotations,
            "object_ids": list(self._object_ids),
        }

    def sync(self) -> None:
        """Makes the entries so far durable."""
        self._annotations.sync()
        self._images.sync()

    def finish(self, *, complete: bool) -> None:
        """Joins annotations, images and categories and, if complete, gives the file its name."""
        with closing(self._images), closing(self._annotations):
            pass  # a full disk may refuse what is left of one; the other is closed all the same
        categories = [{"id": object_id, "name": str(object_id)} for object_id in self._object_ids]
        partial = partial_file(self._target)
        with partial.open("wb") as out:
            for name, journal in (("annotations", self._annotations), ("images", self._images)):
                out.write(b'{"annotations": [' if name == "annotations" else b'], "images": [')
                with journal.path.open("rb") as entries:
                    shutil.copyfileobj(entries, out)
            out.write(f'], "categories": {json.dumps(categories)}}}\n'.encode("ascii"))
        if complete:
            partial.replace(self._target)
        if self._is_temporary:
            self._annotations.path.unlink()
            self._images.path.unlink()

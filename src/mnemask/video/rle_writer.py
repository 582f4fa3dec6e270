"""Masks as COCO run-length JSON."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from mnemask.errors import MissingExtraError
from mnemask.types import Frame, Masks
from mnemask.video.files import partial_file, target_file
from mnemask.video.image_writers import name_of


class CocoRle:
    """OUT/masks.json in COCO form: an image for each frame, an annotation for each object seen in it.

    `image_id` is the frame's index, `category_id` and `track_id` are the object's id, `segmentation` is compressed RLE.
    Entries go to disk as they come, so a long video needs no more memory than a short one; an interrupted one is left
    readable as masks.partial.json.

    Raises:
        MissingExtraError: pycocotools is not installed.
    """

    def __init__(self, out: Path, frames_per_second: float) -> None:
        try:
            from pycocotools import mask
        except ImportError as error:
            raise MissingExtraError("the rle format needs pycocotools; pip install 'mnemask[rle]'") from error
        self._rle = mask
        self._target = target_file(out, "masks.json")
        self._annotations = partial_file(self._target).open("w", encoding="ascii")
        self._images = tempfile.TemporaryFile("w+", encoding="ascii", dir=self._target.parent)  # noqa: SIM115
        self._annotations.write('{"annotations": [')
        self._num_annotations = 0
        self._object_ids: dict[int, None] = {}

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Writes the entries of one frame."""
        labels = masks.labels.cpu().numpy()
        height, width = labels.shape
        image = {"id": masks.index, "file_name": name_of(masks, frame), "height": height, "width": width}
        self._images.write(f"{', ' if self._images.tell() else ''}{json.dumps(image)}\n")
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
        self._annotations.write(f"{', ' if self._num_annotations > 1 else ''}{json.dumps(annotation)}\n")

    def finish(self, *, complete: bool) -> None:
        """Adds images and categories and, if complete, gives the file its name."""
        with self._annotations as out, self._images as images:
            out.write('], "images": [')
            images.seek(0)
            shutil.copyfileobj(images, out)
            categories = [{"id": object_id, "name": str(object_id)} for object_id in self._object_ids]
            out.write(f'], "categories": {json.dumps(categories)}}}\n')
        if complete:
            partial_file(self._target).replace(self._target)

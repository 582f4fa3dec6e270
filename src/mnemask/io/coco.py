"""Writes masks as COCO run-length JSON; `label_files` reads such files, also those of other programs."""

import json
import shutil
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool

from mnemask.errors import missing_extra
from mnemask.io.atomic import (
    ResumeState,
    TextJournal,
    Writing,
    partial_file,
    target_file,
    unfinished,
)
from mnemask.io.image_formats import name_of
from mnemask.types import Frame, Masks, ObjectInfo
from mnemask.version import __version__

OBJECT = "object"
"""The class of objects without a stated class; `track_id` tells them apart."""

_INFO = {
    "description": "Objects tracked through a video; annotations of one track_id are one object",
    "contributor": "mnemask",
    "version": __version__,
    "url": "",
}
_LICENSE = {"id": 1, "name": "not stated", "url": ""}
_NAME_OF_A_VIDEO_FRAME = ".jpg"


def require_pycocotools() -> Any:
    """Returns pycocotools.mask; raises MissingExtraError if it is not installed."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise missing_extra("compressed run lengths need pycocotools", "rle") from error
    return mask


class Categories:
    """The classes of objects as numbers from 1, in the order of the object ids; "object" comes last, if needed.

    Args:
        objects: the classes and names of the objects, by id.
        names: the classes that an earlier run used.
    """

    def __init__(self, objects: Mapping[int, ObjectInfo], names: Iterable[str] = ()) -> None:
        known = (info.category for _, info in sorted(objects.items()) if info.category)
        self.names = list(dict.fromkeys((*names, *known)))

    def id_of(self, info: ObjectInfo) -> int:
        """Returns the number of an object's class."""
        name = info.category or OBJECT
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name) + 1

    def entries(self) -> list[dict[str, Any]]:
        """Returns the classes as COCO lists them."""
        return [
            {"id": number, "name": name, "supercategory": ""} for number, name in enumerate(self.names or [OBJECT], 1)
        ]


class CocoRle:
    """OUT/masks.json in COCO format: an image for each frame, an annotation for each object seen in it.

    * `images`: `id` and `frame_index` are the frame's index, `file_name` is the name of the frame's file. Frames of a
      video, which have no files, are named as if they were extracted: 00000.jpg.
    * `annotations`: `track_id` is the object's id (also under `attributes`, where CVAT looks for it), `segmentation` is
      compressed RLE.
    * `categories`: the classes of `Writing.objects`, in the order of the ids; "object" for all others. The name
      of an object is under `attributes`.

    Entries are written to disk as they come, so a long video needs no more memory than a short one; an interrupted run
    leaves a readable masks.partial.json.

    Raises:
        MissingExtraError: pycocotools is not installed.
    """

    stretch = 1
    single_file: ClassVar[str | None] = "masks.json"
    per_object: ClassVar[bool] = True
    bytes_per_pixel: ClassVar[float] = 1 / 4000

    @classmethod
    def check(cls) -> None:
        """Raises MissingExtraError if pycocotools is not installed."""
        require_pycocotools()

    def __init__(self, out: Path, how: Writing) -> None:
        self._rle, self._how = require_pycocotools(), how
        self._target = target_file(out, "masks.json")
        how.files.refuse_foreign(self._target, partial_file(self._target))
        begun = how.resume_state or {"annotations": 0, "images": 0, "count": 0, "categories": []}
        beside = partial_file((how.journal or self._target.parent) / self._target.name)
        paths = beside.with_suffix(".annotations"), beside.with_suffix(".images")
        for path in paths:
            how.begin(path)
        self._annotations, self._images = (
            TextJournal(path, int(begun[part])) for path, part in zip(paths, ("annotations", "images"), strict=True)
        )
        self._num_annotations = int(begun["count"])
        self._categories = Categories(how.objects, begun["categories"])

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Writes the entries of one frame."""
        labels = masks.labels.cpu().numpy()
        height, width = labels.shape
        image = {
            "id": masks.index,
            "file_name": self.file_name(masks, frame),
            "height": height,
            "width": width,
            "frame_index": masks.index,
            "license": _LICENSE["id"],
            **self.more_of_image(),
        }
        self._images.add(f"{', ' if self._images.length else ''}{json.dumps(image)}\n")
        for object_id in masks.object_ids:
            mask = labels == object_id
            rle = self._rle.encode(np.asfortranarray(mask, np.uint8))
            if int(self._rle.area(rle)):
                rle["counts"] = rle["counts"].decode("ascii")
                self._write_annotation(masks.index, object_id, mask, rle)

    def more_of_image(self) -> dict[str, Any]:
        """Returns additional fields of a frame's entry."""
        return {}

    def more_of_head(self) -> dict[str, Any]:
        """Returns additional top-level fields of the file."""
        return {}

    def info_of(self, object_id: int) -> ObjectInfo:
        """Returns the class and name of an object."""
        return self._how.objects.get(object_id, ObjectInfo())

    def segmentation(self, mask: Bool[np.ndarray, "H W"], rle: dict[str, Any]) -> Any:
        """Returns the `segmentation` of an annotation, from a mask and its run lengths: here the run lengths."""
        return {"size": rle["size"], "counts": rle["counts"]}

    def file_name(self, masks: Masks, frame: Frame | None) -> str:
        """Returns the file name under which a tool finds the frame's picture."""
        name, names = name_of(masks, frame), self._how.file_names
        if names is not None and masks.index < len(names) and Path(names[masks.index]).stem == name:
            return names[masks.index]
        return f"{name}{_NAME_OF_A_VIDEO_FRAME}"

    def _write_annotation(
        self, image_id: int, object_id: int, mask: Bool[np.ndarray, "H W"], rle: dict[str, Any]
    ) -> None:
        self._num_annotations += 1
        info = self.info_of(object_id)
        annotation = {
            "id": self._num_annotations,
            "image_id": image_id,
            "category_id": self._categories.id_of(info),
            "track_id": object_id,
            "segmentation": self.segmentation(mask, rle),
            "area": int(self._rle.area(rle)),
            "bbox": self._rle.toBbox(rle).tolist(),
            "iscrowd": 0,
            "attributes": {"track_id": object_id, **({"name": info.name} if info.name else {})},
        }
        self._annotations.add(f"{', ' if self._num_annotations > 1 else ''}{json.dumps(annotation)}\n")

    def resume_state(self) -> ResumeState:
        """Returns the lengths of the journals, and what cannot be read from them quickly."""
        return {
            "annotations": self._annotations.length,
            "images": self._images.length,
            "count": self._num_annotations,
            "categories": self._categories.names,
        }

    def sync(self) -> None:
        """Makes the entries so far durable."""
        self._annotations.sync()
        self._images.sync()

    def close(self) -> None:
        """Closes both journals, even if a full disk refuses the rest of one."""
        with closing(self._images), closing(self._annotations):
            pass

    def finish(self, *, complete: bool) -> None:
        """Joins the entries into one file; it gets its final name if complete, else that of an unfinished file."""
        self.close()
        categories = self._categories.entries()
        head = {"info": _INFO, "licenses": [_LICENSE], "categories": categories, **self.more_of_head()}
        with unfinished(self._target) as partial:
            with partial.open("wb") as out:
                out.write(json.dumps(head).encode("ascii").removesuffix(b"}"))
                for name, journal in (("images", self._images), ("annotations", self._annotations)):
                    out.write(f', "{name}": ['.encode("ascii"))
                    with journal.path.open("rb") as entries:
                        shutil.copyfileobj(entries, out)
                    out.write(b"]")
                out.write(b"}\n")
            self._how.finish(partial, self._target, complete=complete)
        if self._how.journal is None:
            self._annotations.path.unlink()
            self._images.path.unlink()

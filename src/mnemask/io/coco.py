"""Masks as COCO run-length JSON: the writer, and the reader that takes other programs' files too."""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt16

from mnemask.errors import MaskError
from mnemask.extras import missing_extra
from mnemask.io.atomic import (
    ResumeState,
    TextJournal,
    Writing,
    partial_file,
    target_file,
    temporary_file,
)
from mnemask.io.image_formats import name_of
from mnemask.io.pictures import check_size
from mnemask.types import MAX_OBJECT_ID, Frame, Masks
from mnemask.version import __version__

CATEGORY = {"id": 1, "name": "object", "supercategory": ""}
"""What every tracked object is: nobody said more of it. Which object it is, `track_id` says."""

_INFO = {
    "description": "Objects tracked through a video; annotations of one track_id are one object",
    "contributor": "mnemask",
    "version": __version__,
    "url": "",
}
_LICENSE = {"id": 1, "name": "not stated", "url": ""}
_NAME_OF_A_VIDEO_FRAME = ".jpg"


class CocoRle:
    """OUT/masks.json in COCO form: an image for each frame, an annotation for each object seen in it.

    * `images`: `id` and `frame_index` are the frame's index, `file_name` is what the frame's file is called. Frames of
      a video, which have no files, are called as extracted ones would be, 00000.jpg.
    * `annotations`: `track_id` is the object's id (under `attributes` too, where CVAT looks for it), `segmentation` is
      compressed RLE.
    * `categories`: one, "object".

    Entries go to disk as they come, so a long video needs no more memory than a short one; an interrupted one is left
    readable as masks.partial.json.

    Raises:
        MissingExtraError: pycocotools is not installed.
    """

    stretch = 1
    single_file: ClassVar[str | None] = "masks.json"
    per_object: ClassVar[bool] = True
    bytes_per_pixel: ClassVar[float] = 1 / 4000

    def __init__(self, out: Path, how: Writing) -> None:
        try:
            from pycocotools import mask
        except ImportError as error:
            raise missing_extra("the rle format needs pycocotools", "rle") from error
        self._rle, self._how = mask, how
        self._target = target_file(out, "masks.json")
        how.files.refuse_foreign(self._target, partial_file(self._target))
        begun = how.resume_state or {"annotations": 0, "images": 0, "count": 0}
        beside = partial_file((how.journal or self._target.parent) / self._target.name)
        paths = beside.with_suffix(".annotations"), beside.with_suffix(".images")
        for path in paths:
            how.begin(path)
        self._annotations, self._images = (
            TextJournal(path, int(begun[part])) for path, part in zip(paths, ("annotations", "images"), strict=True)
        )
        self._num_annotations = int(begun["count"])

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Writes the entries of one frame."""
        labels = masks.labels.cpu().numpy()
        height, width = labels.shape
        image = {
            "id": masks.index,
            "file_name": self._file_name(masks, frame),
            "height": height,
            "width": width,
            "frame_index": masks.index,
            "license": _LICENSE["id"],
        }
        self._images.add(f"{', ' if self._images.length else ''}{json.dumps(image)}\n")
        for object_id in masks.object_ids:
            rle = self._rle.encode(np.asfortranarray(labels == object_id, np.uint8))
            area = int(self._rle.area(rle))
            if area:
                self._write_annotation(masks.index, object_id, rle, area)

    def _file_name(self, masks: Masks, frame: Frame | None) -> str:
        """Returns the file name under which a tool finds the frame's picture."""
        name, names = name_of(masks, frame), self._how.file_names
        if names is not None and masks.index < len(names) and Path(names[masks.index]).stem == name:
            return names[masks.index]
        return f"{name}{_NAME_OF_A_VIDEO_FRAME}"

    def _write_annotation(self, image_id: int, object_id: int, rle: dict[str, Any], area: int) -> None:
        self._num_annotations += 1
        annotation = {
            "id": self._num_annotations,
            "image_id": image_id,
            "category_id": CATEGORY["id"],
            "track_id": object_id,
            "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
            "area": area,
            "bbox": self._rle.toBbox(rle).tolist(),
            "iscrowd": 0,
            "attributes": {"track_id": object_id},
        }
        self._annotations.add(f"{', ' if self._num_annotations > 1 else ''}{json.dumps(annotation)}\n")

    def resume_state(self) -> ResumeState:
        """Returns how long the journals are, and what cannot be read off them at once."""
        return {
            "annotations": self._annotations.length,
            "images": self._images.length,
            "count": self._num_annotations,
        }

    def sync(self) -> None:
        """Makes the entries so far durable."""
        self._annotations.sync()
        self._images.sync()

    def finish(self, *, complete: bool) -> None:
        """Joins the entries into one file and, if complete, gives it its name."""
        with closing(self._images), closing(self._annotations):
            pass  # a full disk may refuse what is left of one; the other is closed all the same
        head = {"info": _INFO, "licenses": [_LICENSE], "categories": [CATEGORY]}
        partial = temporary_file(self._target)
        try:
            with partial.open("wb") as out:
                out.write(json.dumps(head).encode("ascii").removesuffix(b"}"))
                for name, journal in (("images", self._images), ("annotations", self._annotations)):
                    out.write(f', "{name}": ['.encode("ascii"))
                    with journal.path.open("rb") as entries:
                        shutil.copyfileobj(entries, out)
                    out.write(b"]")
                out.write(b"}\n")
            self._how.finish(partial, self._target, complete=complete)
        finally:
            partial.unlink(missing_ok=True)
        if self._how.journal is None:
            self._annotations.path.unlink()
            self._images.path.unlink()


class CocoMasks:
    """The masks in a COCO file: of one that `CocoRle` wrote, or of another whose annotations have track ids.

    Example:
        >>> masks = CocoMasks("out/masks/masks.json")  # doctest: +SKIP
        >>> for name in masks:  # doctest: +SKIP
        ...     labels = masks.labels(name)

    Args:
        path: of the file.

    Raises:
        MaskError: the file is missing, damaged or no such file, or two of its images share a name.
        MissingExtraError: pycocotools is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            from pycocotools import mask
        except ImportError as error:
            raise missing_extra("COCO masks need pycocotools", "rle") from error
        self._rle, self._path = mask, Path(path)
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            images = {int(image["id"]): image for image in content["images"]}
            self._images = {Path(str(image["file_name"])).stem: image for image in images.values()}
            self._annotations: dict[int, list[dict[str, Any]]] = {}
            for annotation in content["annotations"]:
                self._annotations.setdefault(int(annotation["image_id"]), []).append(annotation)
            unknown = self._annotations.keys() - images.keys()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._unreadable(error) from error
        if unknown or len(self._images) < len(images):
            raise self._unreadable(ValueError("images without names of their own, or none for an annotation"))

    def __len__(self) -> int:
        """How many frames it holds."""
        return len(self._images)

    def __iter__(self) -> Iterator[str]:
        """Yields the frames' names, without suffix, in the order of the file."""
        return iter(self._images)

    def labels(self, name: str) -> UInt16[np.ndarray, "H W"]:
        """Returns the object id at each pixel of a frame; raises MaskError where an entry is damaged."""
        image = self._images[name]
        try:
            size = int(image["height"]), int(image["width"])
            check_size(size[1], size[0], str(self._path))
            labels = np.zeros(size, np.uint16)
            for annotation in self._annotations.get(int(image["id"]), ()):
                labels[self._mask(annotation, size)] = self._id(annotation)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._unreadable(error) from error
        return labels

    def _mask(self, annotation: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
        counts = annotation["segmentation"]
        if isinstance(counts, dict) and tuple(counts["size"]) != size:
            raise ValueError(f"a mask of {counts['size']} in an image of {list(size)}")
        if isinstance(counts, list):  # polygons
            counts = self._rle.merge(self._rle.frPyObjects(counts, *size))
        elif isinstance(counts["counts"], list):
            counts = self._rle.frPyObjects(counts, *size)
        return np.asarray(self._rle.decode(counts), bool)

    def _id(self, annotation: dict[str, Any]) -> int:
        object_id = annotation.get("track_id", annotation.get("attributes", {}).get("track_id"))
        if not isinstance(object_id, int) or not 1 <= object_id <= MAX_OBJECT_ID:
            raise ValueError(f"track_id {object_id!r}")
        return object_id

    def _unreadable(self, error: Exception) -> MaskError:
        return MaskError(
            f"{str(self._path)!r} cannot be read as COCO masks ({type(error).__name__}: {error})",
            "expected a file of segment --format rle",
        )

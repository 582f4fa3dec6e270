"""COCO run-length JSON read as label images."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt16

from mnemask.errors import MaskError
from mnemask.extras import missing_extra
from mnemask.io.pictures import check_size
from mnemask.types import MAX_OBJECT_ID


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

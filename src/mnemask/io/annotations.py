"""Label maps from the files of annotation tools: which object each shape belongs to, and which is in front.

Shapes without pixels of their own, such as boxes, are not masks: a file that holds nothing else is refused.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt16

from mnemask.errors import MaskError, listed
from mnemask.io.annotation_formats import AnnotatedFrame, Shape, json_of, naming_damage, read_coco
from mnemask.io.cvat import read_cvat
from mnemask.io.label_studio import read_label_studio
from mnemask.io.labelme import read_labelme, read_labelme_file
from mnemask.io.mots import read_mots
from mnemask.io.pictures import check_size
from mnemask.io.yolo import read_yolo
from mnemask.types import ObjectInfo

log = logging.getLogger(__name__)


class Annotations:
    """The label maps of one file, or of a folder with one file per frame.

    Args:
        path: a file of COCO, Label Studio or labelme (.json), CVAT (.xml) or MOTS (.txt), or a folder of labelme files
            or of YOLO labels with their images beside it.

    Attributes:
        objects: the classes and names of the objects, by id.
        files: the name of each frame's picture, by the frame's name.
        unannotated: the names of frames that are listed but may not be annotated yet: they have no shapes, and the
            file does not state that they are empty.
        gone: the objects that the file states are absent, as with CVAT's `outside`, by the frame's name; in such a
            frame, other objects without a shape may be present.
        interpolated: likewise, the objects that the tool interpolated there between key frames, if others are
            annotated in that frame.

    Raises:
        MaskError: the file is damaged, of another kind, holds no masks, contradicts itself, or does not state which
            object is which; or, while the maps are read, no object has a visible pixel in any of them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        skipped: Counter[str] = Counter()
        with naming_damage(path):
            self._pictures = _read(path, skipped)
        shapes = [shape for picture in self._pictures for shape in picture.shapes]
        if not shapes and skipped:
            raise MaskError(
                f"{path} holds no masks, only {', '.join(skipped)}",
                "give boxes with --box, or convert them to masks",
            )
        if skipped:
            what = ", ".join(f"{count} {kind}" for kind, count in skipped.items())
            log.warning("%s: ignoring %s, which are not masks", path, what)
        self._ids = _identified(path, self._pictures)
        self.files = {picture.name: picture.file_name for picture in self._pictures if picture.file_name}
        self.objects = self._infos(shapes)
        self.unannotated = frozenset(
            picture.name for picture in self._pictures if not picture.shapes and not picture.annotated
        )
        self.gone = {
            picture.name: frozenset(picture.gone - {self._ids[id(shape)] for shape in picture.shapes})
            for picture in self._pictures
            if picture.gone
        }
        self.interpolated = {
            picture.name: frozenset(self._ids[id(shape)] for shape in picture.shapes if shape.interpolated)
            for picture in self._pictures
            if any(shape.interpolated for shape in picture.shapes)
        }
        folders = dict.fromkeys(picture.folder for picture in self._pictures if picture.shapes)
        if len(folders) > 1:
            raise MaskError(
                f"{path} has masks of pictures in several folders ({listed(map(repr, folders), 3)}), which may belong "
                "to several videos",
                "export each video separately, or remove the folders from the names of the pictures",
            )
        if len(self.files) < len([picture for picture in self._pictures if picture.file_name]):
            raise MaskError(
                f"{path} has pictures that share a name", "give each frame its own name, or each video its own file"
            )

    def _infos(self, shapes: Iterable[Shape]) -> dict[int, ObjectInfo]:
        """Returns the class and name of each object: the last that its shapes state.

        Raises:
            MaskError: an object has two classes.
        """
        infos: dict[int, ObjectInfo] = {}
        for shape in shapes:
            object_id = self._ids[id(shape)]
            info = infos.get(object_id, ObjectInfo())
            category, name = shape.category or info.category, shape.name or info.name
            if category != info.category and info.category:
                raise MaskError(
                    f"{self._path} calls object {object_id} {info.category!r} and {category!r}",
                    "give objects of different classes different ids",
                )
            infos[object_id] = ObjectInfo(category, name)
        return infos

    def __iter__(self) -> Iterator[tuple[str, UInt16[np.ndarray, "H W"]]]:
        """Yields the name and the object id at each pixel of each frame."""
        hidden = set(self.objects)
        for picture in self._pictures:
            with naming_damage(self._path):
                labels = self._labels(picture)
            hidden -= set(np.unique(labels).tolist())
            yield picture.name, labels
        if hidden:
            first = min(hidden)
            name = str(self.objects[first])
            what = (
                f"object {first}{f' ({name})' if name else ''} of {self._path} has no pixel: later shapes cover it, or "
                "it lies outside the picture"
            )
            if len(hidden) == len(self.objects):
                raise MaskError(what, "bring it to the front, correct its corners, or delete it")
            log.warning("%s; it is left out", what)

    def _labels(self, picture: AnnotatedFrame) -> UInt16[np.ndarray, "H W"]:
        height, width = picture.size
        check_size(width, height, str(self._path))
        labels = np.zeros(picture.size, np.uint16)
        for shape in sorted(picture.shapes, key=lambda shape: shape.depth):
            labels[shape.mask(height, width)] = self._ids[id(shape)]
        return labels


def _read(path: Path, skipped: Counter[str]) -> list[AnnotatedFrame]:
    """Returns the annotated frames of a file, or of a folder with one file per frame; counts shapes without masks."""
    if path.is_dir():
        return read_labelme(path, skipped) or read_yolo(path, skipped)
    suffix = path.suffix.lower()
    if suffix in (".xml", ".txt"):
        return read_cvat(path, skipped) if suffix == ".xml" else read_mots(path, skipped)
    content = json_of(path)
    if isinstance(content, list):
        if content and all(isinstance(each, dict) and {"counts", "segmentation"} & each.keys() for each in content):
            raise MaskError(
                f"{path} is a list of masks that states neither their picture nor their objects",
                "write them as COCO, with 'images' and 'annotations', or as a PNG of ids",
            )
        return read_label_studio(content, path, skipped)
    if "shapes" in content:
        return read_labelme_file(content, path, skipped)
    return read_coco(content, path, skipped)


def _identified(path: Path, pictures: Sequence[AnnotatedFrame]) -> dict[int, int]:
    """Returns the object id of each shape, by the shape's own id in memory.

    Shapes that state their object keep it. Otherwise each class is one object, if no picture has several shapes of a
    class; and if only one picture has shapes, each shape is an object.
    """
    unnamed = [shape for picture in pictures for shape in picture.shapes if shape.object_id is None]
    ids = {id(shape): shape.object_id for picture in pictures for shape in picture.shapes if shape.object_id}
    if not unnamed:
        return ids
    if ids:
        raise MaskError(f"{path} states the object of some masks but not of others", "give all of them an id")
    shown = [picture for picture in pictures if picture.shapes]
    several = any(max(Counter(shape.category for shape in picture.shapes).values()) > 1 for picture in shown)
    if several and len(shown) > 1:
        raise MaskError(
            f"{path} has several masks of one class in a picture and does not state which object is which in the next",
            "give each object an id (track_id, group_id), or give a single picture",
        )
    if several:
        return {id(shape): number for number, shape in enumerate(shown[0].shapes, 1)}
    classes = list(dict.fromkeys(shape.category for shape in unnamed))
    return {id(shape): classes.index(shape.category) + 1 for shape in unnamed}

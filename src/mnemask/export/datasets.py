"""Masks as data sets keep them: COCO, YOLO, MOTS and MOT texts, DAVIS and YouTube-VOS folders."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool

from mnemask.errors import InputError, missing_extra
from mnemask.export.source import Exporting, Moment
from mnemask.io.atomic import Writing
from mnemask.io.coco import CocoRle
from mnemask.io.image_formats import label_png
from mnemask.io.shapes import box_of, joined, outlines_of
from mnemask.io.written import Unlisted
from mnemask.types import Masks, ObjectInfo


class _Names(Sequence[str]):
    """The names of pictures by frame, of which each is known when it is asked for."""

    def __init__(self) -> None:
        self.latest = ""

    def __len__(self) -> int:
        return 1 << 31

    def __getitem__(self, index: Any) -> Any:
        return self.latest


class CocoRuns:
    """annotations.json of COCO with a class for each object, the names of the pictures, track ids and run lengths."""

    pictures: str | None = "images"
    polygons = False

    def __init__(self, how: Exporting) -> None:
        self._names = _Names()
        where = Writing(Unlisted(False), file_names=self._names, objects=how.source.objects)
        self._file = _CocoFile(how.out / "annotations.json", where)
        self._file.tolerance = how.tolerance if self.polygons else None
        how.stack.callback(self._file.close)

    def add(self, moment: Moment) -> None:
        self._names.latest = moment.file_name
        ids = tuple(object_id for object_id, _ in moment.masks())
        labels = torch.from_numpy(moment.labels.astype(np.int32))
        probs = torch.empty(len(ids) + 1, *moment.size)
        self._file.write(Masks(labels, probs, ids, moment.index, Path(moment.file_name).stem), None)

    def finish(self) -> None:
        self._file.finish(complete=True)


class CocoPolygons(CocoRuns):
    """The same with an outline for each piece, its holes joined to it by cuts."""

    polygons = True


class _CocoFile(CocoRle):
    """A COCO file whose masks may be outlines."""

    tolerance: float | None = None

    def segmentation(self, mask: Bool[np.ndarray, "H W"], rle: dict[str, Any]) -> Any:
        if self.tolerance is None:
            return super().segmentation(mask, rle)
        outlines = [outline.ravel().tolist() for outline in outlines_of(mask, self.tolerance)]
        return outlines or super().segmentation(mask, rle)


class YoloSegments:
    """labels/NAME.txt and data.yaml of YOLO: a line an object, its class and an outline, its pieces joined by cuts."""

    pictures: str | None = "images"

    def __init__(self, how: Exporting) -> None:
        self._how, self._classes = how, how.classes()
        (how.out / "labels").mkdir()

    def add(self, moment: Moment) -> None:
        height, width = moment.size
        lines = []
        for object_id, mask in moment.masks():
            if outlines := outlines_of(mask, self._how.tolerance):
                points = (joined(outlines) / (width, height)).ravel()
                place = self._classes.id_of(object_id) - 1
                lines.append(" ".join([str(place), *(f"{value:.6f}" for value in points.tolist())]))
        name = Path(moment.file_name).stem
        (self._how.out / f"labels/{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="ascii")

    def finish(self) -> None:
        names = "".join(f"  {place}: {json.dumps(name)}\n" for place, name in enumerate(self._classes.names))
        text = f"path: .\ntrain: images\nval: images\nnames:\n{names}"
        (self._how.out / "data.yaml").write_text(text, encoding="utf-8")


class MotsText:
    """gt/gt.txt of MOTS, "frame id class height width rle", frames from 1; labels.txt names the classes."""

    pictures: str | None = "img1"

    def __init__(self, how: Exporting) -> None:
        try:
            from pycocotools import mask
        except ImportError as error:
            raise missing_extra("MOTS needs pycocotools", "rle") from error
        self._rle, self._how, self._classes = mask, how, how.classes()
        self._rows = how.open("gt/gt.txt")

    def add(self, moment: Moment) -> None:
        height, width = moment.size
        for object_id, mask in moment.masks():
            counts = self._rle.encode(np.asfortranarray(mask, np.uint8))["counts"].decode("ascii")
            place = self._classes.id_of(object_id)
            self._rows.write(f"{moment.index + 1} {object_id} {place} {height} {width} {counts}\n")

    def finish(self) -> None:
        self._rows.close()
        self._how.open("gt/labels.txt").write("".join(f"{name}\n" for name in self._classes.names))


class MotBoxes:
    """gt/gt.txt of MOT, "frame,id,left,top,width,height,1,class,1", frames from 1; seqinfo.ini and gt/labels.txt."""

    pictures: str | None = "img1"

    def __init__(self, how: Exporting) -> None:
        self._how, self._classes = how, how.classes()
        self._rows = how.open("gt/gt.txt")
        self._size, self._count, self._suffix = (0, 0), 0, ".jpg"

    def add(self, moment: Moment) -> None:
        self._size, self._count = moment.size, moment.index + 1
        self._suffix = Path(moment.file_name).suffix
        for object_id, mask in moment.masks():
            box = ",".join(map(str, box_of(mask)))
            self._rows.write(f"{moment.index + 1},{object_id},{box},1,{self._classes.id_of(object_id)},1\n")

    def finish(self) -> None:
        self._rows.close()
        self._how.open("gt/labels.txt").write("".join(f"{name}\n" for name in self._classes.names))
        about = {
            "name": self._how.source.name,
            "imDir": "img1",
            "frameRate": round(self._how.source.frames_per_second or 25),
            "seqLength": self._count,
            "imWidth": self._size[1],
            "imHeight": self._size[0],
            "imExt": self._suffix,
        }
        rows = "".join(f"{name}={value}\n" for name, value in about.items())
        self._how.open("seqinfo.ini").write(f"[Sequence]\n{rows}")


class DavisFolder:
    """Annotations/480p/VIDEO/NAME.png of DAVIS 2017, JPEGImages beside it, and the list of videos."""

    layout: ClassVar[str] = "Annotations/480p"
    images: ClassVar[str] = "JPEGImages/480p"

    def __init__(self, how: Exporting) -> None:
        self._how, self._name = how, how.source.name
        if max(how.source.object_ids, default=0) > 255:
            raise InputError(
                f"object {max(how.source.object_ids)} has an id above 255, which a palette does not hold",
                "give it a smaller id, or export to npz, coco or mots",
            )
        self._folder = how.out / self.layout / self._name
        self._folder.mkdir(parents=True)

    @property
    def pictures(self) -> str | None:
        return f"{self.images}/{self._name}"

    def add(self, moment: Moment) -> None:
        data = label_png(moment.labels.astype(np.uint8))
        (self._folder / f"{Path(moment.file_name).stem}.png").write_bytes(data)

    def finish(self) -> None:
        self._how.open("ImageSets/2017/val.txt").write(f"{self._name}\n")


class YoutubeVosFolder(DavisFolder):
    """Annotations/VIDEO/NAME.png of YouTube-VOS, JPEGImages beside it, and meta.json with class and frames of each."""

    layout = "Annotations"
    images = "JPEGImages"

    def __init__(self, how: Exporting) -> None:
        super().__init__(how)
        self._frames: dict[int, list[str]] = {}

    def add(self, moment: Moment) -> None:
        super().add(moment)
        for object_id, _ in moment.masks():
            self._frames.setdefault(object_id, []).append(Path(moment.file_name).stem)

    def finish(self) -> None:
        infos = self._how.source.objects
        objects = {
            str(object_id): {"category": infos.get(object_id, ObjectInfo()).category or "object", "frames": frames}
            for object_id, frames in sorted(self._frames.items())
        }
        content = {"videos": {self._name: {"objects": objects}}}
        self._how.open("meta.json").write(json.dumps(content, ensure_ascii=False, indent=1) + "\n")

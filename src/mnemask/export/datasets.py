"""Masks in the formats of data sets: COCO, YOLO, MOTS and MOT text, DAVIS and YouTube-VOS folders."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool

from mnemask.errors import InputError
from mnemask.export.source import Exporting, FrameMasks, OfBatch
from mnemask.io.atomic import Writing
from mnemask.io.coco import CocoRle, require_pycocotools
from mnemask.io.image_formats import label_png
from mnemask.io.shapes import box_of, joined, outlines_of
from mnemask.io.written import Unlisted
from mnemask.metrics.davis import VOID
from mnemask.types import Frame, Masks, ObjectInfo

log = logging.getLogger(__name__)


class CocoRuns:
    """annotations.json of COCO with image file names, and class, track id and run lengths of each object."""

    pictures: str | None = "images"
    polygons = False

    def __init__(self, how: Exporting) -> None:
        where = Writing(Unlisted(False))
        self._file = _CocoFile(how.out / "annotations.json", where, how, polygons=self.polygons)
        how.stack.callback(self._file.close)

    def add(self, frame: FrameMasks) -> None:
        self._file.current = frame
        ids = tuple(object_id for object_id, _ in frame.masks())
        labels = torch.from_numpy(frame.labels.astype(np.int32))
        probs = torch.empty(len(ids) + 1, *frame.size)
        self._file.write(Masks(labels, probs, ids, frame.number, Path(frame.file_name).stem), None)

    def finish(self) -> None:
        self._file.finish(complete=True)


class CocoPolygons(CocoRuns):
    """The same with an outline for each piece, joined to its holes by cuts."""

    polygons = True


class _CocoFile(CocoRle):
    """A COCO file with masks as runs or outlines, of one or several videos."""

    current: FrameMasks

    def __init__(self, out: Path, where: Writing, how: Exporting, *, polygons: bool) -> None:
        super().__init__(out, where)
        self._categories = how.classes()
        self._tolerance = how.tolerance if polygons else None
        self._videos: dict[str, int] = {}

    def info_of(self, object_id: int) -> ObjectInfo:
        return self.current.info(object_id)

    def more_of_image(self) -> dict[str, Any]:
        if not self.current.clip:
            return {}
        number = self._videos.setdefault(self.current.clip, len(self._videos) + 1)
        return {"frame_index": self.current.index, "video_id": number}

    def more_of_head(self) -> dict[str, Any]:
        return (
            {"videos": [{"id": number, "name": name} for name, number in self._videos.items()]} if self._videos else {}
        )

    def file_name(self, masks: Masks, frame: Frame | None) -> str:
        return self.current.file_name

    def segmentation(self, mask: Bool[np.ndarray, "H W"], rle: dict[str, Any]) -> Any:
        if self._tolerance is None:
            return super().segmentation(mask, rle)
        outlines = [outline.ravel().tolist() for outline in outlines_of(mask, self._tolerance)]
        return outlines or super().segmentation(mask, rle)


class YoloSegments:
    """labels/NAME.txt and data.yaml of YOLO: a line per object, its class and an outline of pieces joined by cuts.

    Frames of several videos are in one folder, because some readers of YOLO look for all of them there.
    """

    pictures: str | None = "images"

    def __init__(self, how: Exporting) -> None:
        self._how, self._classes = how, how.classes()
        (how.out / "labels").mkdir()

    def add(self, frame: FrameMasks) -> None:
        height, width = frame.size
        lines = []
        for object_id, mask in frame.masks():
            if outlines := outlines_of(mask, self._how.tolerance):
                points = (joined(outlines) / (width, height)).ravel()
                place = self._classes.id_of(frame.info(object_id)) - 1
                lines.append(" ".join([str(place), *(f"{value:.6f}" for value in points.tolist())]))
        name = Path(frame.file_name).stem
        path = self._how.out / f"labels/{name}.txt"
        if path.exists():
            raise InputError(f"two frames are named {name!r}", "rename one of their clips")
        path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")

    def finish(self) -> None:
        names = "".join(
            f"  {place}: {json.dumps(name, ensure_ascii=False)}\n" for place, name in enumerate(self._classes.names)
        )
        # Without "path", the folder of this file is meant; "path: ." would be the working directory of YOLO.
        text = f"train: images\nval: images\nnames:\n{names}"
        (self._how.out / "data.yaml").write_text(text, encoding="utf-8")


class MotsText:
    """gt/gt.txt of MOTS, "frame id class height width rle", frames from 1; gt/labels.txt names the classes."""

    pictures: str | None = "img1"

    def __init__(self, how: Exporting) -> None:
        self._rle, self._how, self._classes = require_pycocotools(), how, how.classes()
        self._rows = how.open("gt/gt.txt")

    def add(self, frame: FrameMasks) -> None:
        height, width = frame.size
        for object_id, mask in frame.masks():
            counts = self._rle.encode(np.asfortranarray(mask, np.uint8))["counts"].decode("ascii")
            place = self._classes.id_of(frame.info(object_id))
            self._rows.write(f"{frame.index + 1} {object_id} {place} {height} {width} {counts}\n")

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

    def add(self, frame: FrameMasks) -> None:
        self._size, self._count = frame.size, frame.index + 1
        self._suffix = Path(frame.file_name).suffix
        for object_id, mask in frame.masks():
            box = ",".join(map(str, box_of(mask)))
            place = self._classes.id_of(frame.info(object_id))
            self._rows.write(f"{frame.index + 1},{object_id},{box},1,{place},1\n")

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
    """Annotations/480p/VIDEO/NAME.png of DAVIS 2017, JPEGImages next to it, and the list of videos.

    255 is void in DAVIS. If it is the only id of a video, as from a black and white mask, it becomes 1.
    """

    layout: ClassVar[str] = "Annotations/480p"
    images: ClassVar[str] = "JPEGImages/480p"

    def __init__(self, how: Exporting) -> None:
        self._how, self._alone = how, "" if isinstance(how.source, OfBatch) else how.source.name
        self._videos: dict[str, None] = {}
        source = how.source
        ids = source.ids_by_clip if isinstance(source, OfBatch) else {source.name: source.object_ids}
        self._white = {name for name, known in ids.items() if known == (VOID,)}
        for name, known in ids.items():
            if name not in self._white and max(known, default=0) >= VOID:
                raise InputError(
                    f"object {max(known)} of {name} has an id above {VOID - 1}, and {VOID} is void in this format",
                    "give it a smaller id, or export to npz, coco or mots",
                )
            if name in self._white:
                log.warning("object %d of %s is object 1 in the export: %d is void in this format", VOID, name, VOID)

    @property
    def pictures(self) -> str | None:
        return f"{self.images}/{self._alone}"

    def add(self, frame: FrameMasks) -> None:
        video = frame.clip or self._alone
        if video in self._white:
            frame = replace(frame, labels=frame.labels.astype(bool).astype(np.uint8), objects={1: frame.info(VOID)})
        self._add(video, frame)

    def _add(self, video: str, frame: FrameMasks) -> None:
        self._videos[video] = None
        path = self._how.out / self.layout / video / f"{Path(frame.file_name).stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(label_png(frame.labels.astype(np.uint8)))

    def finish(self) -> None:
        self._how.open("ImageSets/2017/val.txt").write("".join(f"{video}\n" for video in self._videos))


class YoutubeVosFolder(DavisFolder):
    """Annotations/VIDEO/NAME.png of YouTube-VOS, JPEGImages next to it, and meta.json: objects' classes and frames."""

    layout = "Annotations"
    images = "JPEGImages"

    def __init__(self, how: Exporting) -> None:
        super().__init__(how)
        self._objects: dict[str, dict[int, dict[str, Any]]] = {}

    def _add(self, video: str, frame: FrameMasks) -> None:
        super()._add(video, frame)
        objects = self._objects.setdefault(video, {})
        for object_id, _ in frame.masks():
            about = objects.setdefault(object_id, {"category": frame.class_of(object_id), "frames": []})
            about["frames"].append(Path(frame.file_name).stem)

    def finish(self) -> None:
        content = {"videos": {name: {"objects": dict(sorted(each.items()))} for name, each in self._objects.items()}}
        self._how.open("meta.json").write(json.dumps(content, ensure_ascii=False, indent=1) + "\n")

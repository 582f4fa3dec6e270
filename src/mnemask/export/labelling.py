"""Masks in the formats of labelling tools: CVAT, Label Studio, labelme."""

import base64
import colorsys
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from mnemask.export.source import Exporting, Finished, FrameMasks
from mnemask.io.coco import Categories
from mnemask.io.shapes import box_of, brush_of, joined, outlines_of, run_lengths
from mnemask.io.visualize import davis_palette, encode_image
from mnemask.types import MAX_OBJECT_ID

log = logging.getLogger(__name__)


class _Labels:
    """What the formats of labelling tools share: the classes, and the attributes of objects."""

    def __init__(self, how: Exporting) -> None:
        self._how, self._out, self._source, self._classes = how, how.out, how.source, how.classes()

    pictures: str | None = "images"

    def _attributes(self, frame: FrameMasks, object_id: int) -> dict[str, str]:
        name = frame.info(object_id).name
        return {"track_id": str(object_id), **({"name": name} if name else {})}


class CvatImages(_Labels):
    """annotations.xml, "CVAT for images 1.1": exact masks, with the object's id as `track_id` and as the group."""

    def __init__(self, how: Exporting) -> None:
        super().__init__(how)
        self._file = how.open("annotations.xml")
        self._begun = False

    def add(self, frame: FrameMasks) -> None:
        height, width = frame.size
        if not self._begun:
            self._file.write(cvat_head(self._source, self._classes, frame.size, mode="annotation"))
            self._begun = True
        image = {"id": frame.number, "name": frame.file_name, "width": width, "height": height}
        self._file.write(f"  <image {_attributes(image)}>\n")
        for object_id, mask in frame.masks():
            left, top, w, h = box_of(mask)
            shape = {
                "label": frame.class_of(object_id),
                "source": "mnemask",
                "occluded": 0,
                "rle": ", ".join(map(str, run_lengths(mask[top : top + h, left : left + w]).tolist())),
                "left": left,
                "top": top,
                "width": w,
                "height": h,
                "z_order": 0,
                "group_id": object_id,
            }
            said = "".join(_attribute(*each) for each in self._attributes(frame, object_id).items())
            self._file.write(f"    <mask {_attributes(shape)}>{said}</mask>\n")
        self._file.write("  </image>\n")

    def finish(self) -> None:
        self._file.write("</annotations>\n")
        self._file.close()


class CvatTracks(_Labels):
    """annotations.xml, "CVAT for video 1.1": a track of outlines for each object, pieces and holes joined by cuts.

    CVAT imports only the first frame of a track of masks, so that tracks have to consist of outlines.
    """

    def __init__(self, how: Exporting) -> None:
        super().__init__(how)
        self._tracks: dict[int, IO[str]] = {}
        self._classes_of: dict[int, str] = {}
        self._last: dict[int, tuple[int, str]] = {}  # frame and outline where an object was last seen
        self._indices: list[int] = []
        self._frame: FrameMasks | None = None

    def add(self, frame: FrameMasks) -> None:
        if frame.after_gap:
            self._end_tracks_after_last()
        self._frame = frame
        self._indices.append(frame.index)
        for object_id, mask in frame.masks():
            if not (outlines := outlines_of(mask, self._how.tolerance)):
                continue
            if object_id not in self._tracks:
                self._tracks[object_id] = self._how.open(f"track-{object_id}")
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in joined(outlines).tolist())
            self._classes_of[object_id] = frame.class_of(object_id)
            self._tracks[object_id].write(self._polygon(frame, object_id, points, outside=False))
            self._last[object_id] = frame.index, points
        self._end_tracks(frame)

    def _end_tracks(self, frame: FrameMasks) -> None:
        """Ends in this frame the tracks of the objects that were last seen before it."""
        for object_id, (index, points) in list(self._last.items()):
            if index < frame.index:
                self._tracks[object_id].write(self._polygon(frame, object_id, points, outside=True))
                del self._last[object_id]

    def _end_tracks_after_last(self) -> None:
        """Ends the tracks in the frame after the last one so far."""
        if self._frame is not None:
            self._end_tracks(replace(self._frame, index=self._frame.index + 1))

    def _polygon(self, frame: FrameMasks, object_id: int, points: str, *, outside: bool) -> str:
        shape = {"frame": frame.index, "keyframe": 1, "outside": int(outside), "occluded": 0, "points": points}
        shape["z_order"] = 0
        said = "".join(_attribute(*each) for each in self._attributes(frame, object_id).items())
        return f"    <polygon {_attributes(shape)}>{said}</polygon>\n"

    def finish(self) -> None:
        fits_pictures = self._how.with_pictures and self._indices == list(range(len(self._indices)))
        if self._how.with_pictures and not fits_pictures:
            log.warning(
                "%s: annotations.xml numbers frames as the video does, from %d to %d, so it fits a task of the whole "
                "video, but not one of the pictures in images; for these, export with --to cvat",
                *(self._source.name, self._indices[0], self._indices[-1]),
            )
        # In a task of the whole video, CVAT would keep the last outlines through all frames to come. A task of the
        # pictures has no frame after the last, and CVAT refuses a file that names one.
        if not self._source.reaches_end and not fits_pictures:
            self._end_tracks_after_last()
        size = (0, 0) if self._frame is None else self._frame.size
        with (self._out / "annotations.xml").open("w", encoding="utf-8") as file:
            frames = (self._indices[0], self._indices[-1]) if self._indices else None
            file.write(cvat_head(self._source, self._classes, size, mode="interpolation", frames=frames))
            for object_id, track in sorted(self._tracks.items()):
                about = {"id": object_id, "label": self._classes_of[object_id], "source": "mnemask"}
                file.write(f"  <track {_attributes(about)}>\n")
                track.close()
                path = Path(track.name)
                with path.open(encoding="utf-8") as shapes:
                    file.writelines(shapes)
                path.unlink()
                file.write("  </track>\n")
            file.write("</annotations>\n")


class CvatMasks(_Labels):
    """CVAT's "Segmentation mask 1.1", the layout of PASCAL VOC: one colour per class, and one per object."""

    pictures: str | None = "JPEGImages"

    def __init__(self, how: Exporting) -> None:
        super().__init__(how)
        for folder in ("SegmentationClass", "SegmentationObject"):
            (how.out / folder).mkdir(parents=True)
        self._names: list[str] = []
        self._palette = davis_palette(MAX_OBJECT_ID + 1)

    def add(self, frame: FrameMasks) -> None:
        classes = np.zeros(frame.size, np.uint16)
        for object_id, mask in frame.masks():
            classes[mask] = self._classes.id_of(frame.info(object_id))
        self._write("SegmentationClass", frame.name, self._palette[classes])
        self._write("SegmentationObject", frame.name, self._palette[frame.labels])
        self._names.append(frame.name)

    def _write(self, folder: str, name: str, rgb: UInt8[np.ndarray, "H W 3"]) -> None:
        _place(self._out / folder / f"{name}.png").write_bytes(encode_image(rgb, ".png"))

    def finish(self) -> None:
        rows = [("background", 0), *((name, place) for place, name in enumerate(self._classes.names, 1))]
        lines = [f"{name}:{','.join(map(str, self._palette[place].tolist()))}::" for name, place in rows]
        head = "# label:color_rgb:parts:actions\n"
        self._how.open("labelmap.txt").write(head + "\n".join(lines) + "\n")
        self._how.open("ImageSets/Segmentation/default.txt").write("".join(f"{name}\n" for name in self._names))


class LabelStudioTasks(_Labels):
    """tasks.json and config.xml of Label Studio: a task per frame, a brush region per object, with its id as text."""

    def __init__(self, how: Exporting) -> None:
        super().__init__(how)
        self._file = how.open("tasks.json")
        self._file.write("[")
        self._begun = False

    def add(self, frame: FrameMasks) -> None:
        result = [self._brush(frame, object_id, mask) for object_id, mask in frame.masks()]
        task = {
            "data": {
                "image": f"/data/local-files/?d=images/{quote(frame.file_name)}",
                "frame": frame.index,
                "name": frame.name,
                "width": frame.size[1],
                "height": frame.size[0],
            },
            "annotations": [{"result": result, "ground_truth": False}],
        }
        self._file.write(("," if self._begun else "") + "\n" + json.dumps(task, ensure_ascii=False))
        self._begun = True

    def _brush(self, frame: FrameMasks, object_id: int, mask: Bool[np.ndarray, "H W"]) -> dict[str, Any]:
        said = " ".join(f"{name}={value}" for name, value in self._attributes(frame, object_id).items())
        return {
            "id": f"{frame.index}-{object_id}",
            "type": "brushlabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": frame.size[1],
            "original_height": frame.size[0],
            "image_rotation": 0,
            "value": {"format": "rle", "rle": brush_of(mask), "brushlabels": [frame.class_of(object_id)]},
            "meta": {"text": [said]},
        }

    def finish(self) -> None:
        self._file.write("\n]\n")
        self._file.close()
        names = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in self._classes.names)
        self._how.open("config.xml").write(
            '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
            f'  <BrushLabels name="label" toName="image">\n{names}  </BrushLabels>\n</View>\n'
        )


class LabelmeFiles(_Labels):
    """NAME.json of labelme for each frame, next to the picture: a mask for each object, its id as the group."""

    pictures: str | None = "."

    def add(self, frame: FrameMasks) -> None:
        content: dict[str, Any] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": [self._shape(frame, object_id, mask) for object_id, mask in frame.masks()],
            "imagePath": Path(frame.file_name).name,
            "imageData": None,
            "imageHeight": frame.size[0],
            "imageWidth": frame.size[1],
        }
        text = json.dumps(content, ensure_ascii=False, indent=1)
        _place(self._out / f"{frame.name}.json").write_text(text + "\n", encoding="utf-8")

    def _shape(self, frame: FrameMasks, object_id: int, mask: Bool[np.ndarray, "H W"]) -> dict[str, Any]:
        left, top, width, height = box_of(mask)
        cut = mask[top : top + height, left : left + width]
        return {
            "label": frame.class_of(object_id),
            "points": [[left, top], [left + width - 1, top + height - 1]],
            "group_id": object_id,
            "description": frame.info(object_id).name,
            "shape_type": "mask",
            "flags": {},
            "mask": base64.b64encode(cv2.imencode(".png", cut.astype(np.uint8))[1].tobytes()).decode("ascii"),
        }

    def finish(self) -> None:
        names = ("__ignore__", "_background_", *self._classes.names)
        self._how.open("labels.txt").write("".join(f"{name}\n" for name in names))


def cvat_head(
    source: Finished,
    classes: Categories,
    size: tuple[int, int],
    *,
    mode: str,
    frames: tuple[int, int] | None = None,
) -> str:
    """Returns the beginning of a CVAT file: the task, its labels with the attributes of objects, and the size.

    Args:
        source: the masks.
        classes: their classes.
        size: height and width.
        mode: "annotation" for images, "interpolation" for tracks.
        frames: the first and the last frame, if known.
    """
    span = "" if frames is None else f"<start_frame>{frames[0]}</start_frame><stop_frame>{frames[1]}</stop_frame>"
    attributes = "".join(
        f"<attribute><name>{name}</name><mutable>False</mutable><input_type>text</input_type>"
        "<default_value></default_value><values></values></attribute>"
        for name in ("track_id", "name")
    )
    labels = "".join(
        f"<label><name>{escape(name)}</name><color>{_colour(place)}</color><attributes>{attributes}</attributes></label>"
        for place, name in enumerate(classes.names)
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta><task>'
        f"<name>{escape(source.name)}</name><size>{len(source)}</size><mode>{mode}</mode><overlap>0</overlap>"
        f"{span}<labels>{labels}</labels><original_size><width>{size[1]}</width><height>{size[0]}</height></original_size>"
        "</task></meta>\n"
    )


def _place(path: Path) -> Path:
    """Returns the path, after creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _colour(place: int) -> str:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(place * 0.618 % 1, 0.7, 0.95))
    return f"#{red:02x}{green:02x}{blue:02x}"


def _attributes(values: dict[str, Any]) -> str:
    return " ".join(f"{name}={quoteattr(str(value))}" for name, value in values.items())


def _attribute(name: str, value: str) -> str:
    return f'<attribute name="{name}">{escape(value)}</attribute>'

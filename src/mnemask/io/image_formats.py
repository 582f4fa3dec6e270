"""Masks as still images and as COCO run-length JSON.

Masks as still images: indexed PNG for every tool that reads DAVIS, RGBA cut-outs for editing.

Masks as COCO run-length JSON; `mnemask.io.rle_reader` reads them again.
"""

import io
import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mnemask.errors import FrameError
from mnemask.extras import missing_extra
from mnemask.io.atomic import Unsynced, make_folder, partial_file, safe_name, target_file, temporary_file
from mnemask.io.journal import ResumeState, TextJournal, Writing
from mnemask.io.visualize import davis_palette
from mnemask.types import Frame, Masks, frame_name
from mnemask.version import __version__

# Half the size of level 1 for two thirds more time: 1.7 ms and 5 kB at 854x480, in the background.
_COMPRESS_LEVEL = 4


class _Images:
    """A folder of whole files: a later run goes on by writing the next ones."""

    stretch = 1

    def __init__(self, out: Path, how: Writing) -> None:
        self._folder, self._files = make_folder(out), how.files
        self._unsynced = Unsynced()

    def _add(self, path: Path, data: bytes) -> None:
        partial = temporary_file(path)
        try:
            partial.write_bytes(data)
            self._files.publish(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        self._unsynced.add(path)

    def resume_state(self) -> ResumeState:
        """Returns nothing to remember."""
        return {}

    def sync(self) -> None:
        """Makes the files written so far durable."""
        self._unsynced.sync()

    def finish(self, *, complete: bool) -> None:
        """Does nothing: every file is complete already."""


class PngMasks(_Images):
    """OUT/NAME.png, one a frame: the pixel value is the object id.

    Ids up to 255 make an 8-bit image with the DAVIS palette; if a frame has a larger id, its file is 16-bit greyscale,
    since a palette has no more than 256 entries.
    """

    _palette = davis_palette().tobytes()

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Writes one file, whole or not at all."""
        labels = masks.labels.cpu().numpy()
        if max(masks.object_ids, default=0) > 255:
            image = Image.fromarray(labels.astype(np.uint16))
        else:
            image = Image.fromarray(labels.astype(np.uint8))
            image.putpalette(self._palette)
        encoded = io.BytesIO()
        image.save(encoded, "PNG", compress_level=_COMPRESS_LEVEL)
        self._add(self._folder / f"{name_of(masks, frame)}.png", encoded.getvalue())


class RgbaCutouts(_Images):
    """OUT/ID/NAME.png, one a frame and object: the frame's colours, with the object's probability as alpha."""

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Writes one file for each object."""
        rgb = picture_of(masks, frame)
        alphas = (masks.probs[1:].float().cpu().numpy() * 255).round().astype(np.uint8)
        for object_id, alpha in zip(masks.object_ids, alphas, strict=True):
            # Colour that nobody sees would only make the file larger.
            bgra = cv2.cvtColor(cv2.copyTo(rgb, alpha), cv2.COLOR_RGB2BGRA)
            bgra[:, :, 3] = alpha
            # OpenCV's default for PNG takes 6 ms where Pillow, or a chosen level, takes 14.
            _, encoded = cv2.imencode(".png", bgra)
            folder = make_folder(self._folder / str(object_id))
            self._add(folder / f"{name_of(masks, frame)}.png", encoded.tobytes())


def name_of(masks: Masks, frame: Frame | None) -> str:
    """Returns what this frame's files are called, without a suffix; it never leads out of a folder."""
    return safe_name(masks.name or (frame.name if frame else frame_name(masks.index)))


def picture_of(masks: Masks, frame: Frame | None) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the frame as an RGB array; raises FrameError where it is missing or does not fit the masks."""
    if frame is None:
        raise FrameError(
            f"frame {masks.index} came without its picture, which this format shows", "write(masks, frame)"
        )
    if frame.size != tuple(masks.labels.shape):
        raise FrameError(
            f"frame {frame.index} is {frame.size} and its masks are {tuple(masks.labels.shape)} (height, width)",
            "write the frame that the masks were made from",
        )
    rgb: UInt8[np.ndarray, "H W 3"] = frame.image.permute(1, 2, 0).cpu().numpy()
    return rgb


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
        """Returns what a tool that looks for the frame's picture will find it under."""
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

"""Masks as still images: indexed PNG for every tool that reads DAVIS, RGBA cut-outs for editing."""

import io
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

from mnemask.errors import FrameError, MaskError
from mnemask.io.atomic import (
    ResumeState,
    Unsynced,
    Writing,
    make_folder,
    safe_name,
    unfinished,
)
from mnemask.io.name_order import natural_order
from mnemask.io.visualize import davis_palette
from mnemask.types import Frame, Masks, frame_name

# Half the size of level 1 for two thirds more time: 1.7 ms and 5 kB at 854x480, in the background.
_COMPRESS_LEVEL = 4
_PALETTE = davis_palette().tobytes()


class _Images:
    """A folder of complete files; a resumed run continues with the next ones."""

    stretch = 1
    single_file: ClassVar[str | None] = None
    per_object: ClassVar[bool] = False

    @classmethod
    def check(cls) -> None:
        """Does nothing: no optional dependency is needed."""

    def __init__(self, out: Path, how: Writing) -> None:
        self._folder, self._files, self._can_resume = make_folder(out), how.files, how.journal is not None
        self._unsynced = Unsynced(how.files.sync)

    def _add(self, path: Path, data: bytes) -> None:
        with unfinished(path) as partial:
            partial.write_bytes(data)
            self._files.publish(partial, path)
        self._unsynced.add(path)

    def resume_state(self) -> ResumeState:
        """Returns an empty state."""
        return {}

    def sync(self) -> None:
        """Makes the files written so far durable."""
        self._unsynced.sync()

    def finish(self, *, complete: bool) -> None:
        """Makes the files durable if a run that could be resumed is complete: its checkpoints are then removed."""
        if complete and self._can_resume:
            self.sync()


class PngMasks(_Images):
    """OUT/NAME.png, one per frame: the pixel value is the object id.

    Ids up to 255 make an 8-bit image with the DAVIS palette; if a frame has a larger id, its file is 16-bit greyscale,
    since a palette has no more than 256 entries.
    """

    bytes_per_pixel: ClassVar[float] = 1 / 400

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Writes one file, completely or not at all."""
        kind = np.uint16 if max(masks.object_ids, default=0) > 255 else np.uint8
        data = label_png(masks.labels.cpu().numpy().astype(kind))
        self._add(self._folder / f"{name_of(masks, frame)}.png", data)


class RgbaCutouts(_Images):
    """OUT/ID/NAME.png, one per frame and object: the frame's colours, with the object's probability as alpha."""

    per_object: ClassVar[bool] = True
    bytes_per_pixel: ClassVar[float] = 1 / 60

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Writes one file for each object."""
        rgb = picture_of(masks, frame)
        alphas = (masks.probs[1:].float().cpu().numpy() * 255).round().astype(np.uint8)
        for object_id, alpha in zip(masks.object_ids, alphas, strict=True):
            # Colours of transparent pixels would only make the file larger.
            bgra = cv2.cvtColor(cv2.copyTo(rgb, alpha), cv2.COLOR_RGB2BGRA)
            bgra[:, :, 3] = alpha
            # OpenCV's default for PNG takes 6 ms where Pillow, or a chosen level, takes 14.
            _, encoded = cv2.imencode(".png", bgra)
            folder = make_folder(self._folder / str(object_id))
            self._add(folder / f"{name_of(masks, frame)}.png", encoded.tobytes())


def cut_outs_in(folder: Path) -> dict[str, dict[int, Path]]:
    """Returns the files of `RgbaCutouts` in a folder by frame, in order, and by id; empty if there are none."""
    found: dict[str, dict[int, Path]] = {}
    inside = [path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()] if folder.is_dir() else []
    for of_object in sorted(inside):
        for path in of_object.glob("*.png"):
            found.setdefault(path.stem, {})[int(of_object.name)] = path
    return {path.stem: found[path.stem] for path in natural_order([Path(f"{name}.png") for name in found])}


def alpha_of(path: Path) -> UInt8[np.ndarray, "H W"]:
    """Returns the alpha channel of a cut-out; raises MaskError if the file is not a cut-out."""
    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.shape[2] != 4:
        raise MaskError(f"{str(path)!r} is not a cut-out with an alpha channel", "write it again")
    alpha: UInt8[np.ndarray, "H W"] = pixels[..., 3]
    return alpha


def label_png(labels: UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]) -> bytes:
    """Returns labels as PNG: 8-bit labels indexed with the DAVIS palette, 16-bit labels as greyscale."""
    image = Image.fromarray(labels)
    if labels.dtype == np.uint8:
        image.putpalette(_PALETTE)
    encoded = io.BytesIO()
    image.save(encoded, "PNG", compress_level=_COMPRESS_LEVEL)
    return encoded.getvalue()


def name_of(masks: Masks, frame: Frame | None) -> str:
    """Returns the name of this frame's files, without a suffix; it cannot lead out of a folder."""
    return safe_name(masks.name or (frame.name if frame else frame_name(masks.index)))


def picture_of(masks: Masks, frame: Frame | None) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the frame as an RGB array; raises FrameError if it is missing or does not fit the masks."""
    if frame is None:
        raise FrameError(
            f"frame {masks.index} came without its picture, which this format needs", "call write(masks, frame)"
        )
    if frame.size != tuple(masks.labels.shape):
        raise FrameError(
            f"frame {frame.index} is {frame.size} and its masks are {tuple(masks.labels.shape)} (height, width)",
            "write the frame that the masks were made from",
        )
    rgb: UInt8[np.ndarray, "H W 3"] = frame.image.permute(1, 2, 0).cpu().numpy()
    return rgb

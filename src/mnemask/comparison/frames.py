"""The frames of a video on disk for random access, and frames and masks in the form used in a page (WebP, SVG)."""

import base64
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Integer, UInt8

from mnemask.errors import InputError, OutputError
from mnemask.io.atomic import make_folder, safe_name
from mnemask.io.live import prefetch
from mnemask.io.visualize import encode_image
from mnemask.types import Frame

LONG_SIDE = 480
QUALITY = 72


def display_size(size: tuple[int, int]) -> tuple[int, int]:
    """Returns the height and width at which a page shows frames of this size; frames are never enlarged."""
    scale = min(1.0, LONG_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def picture_data(image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> str:
    """Returns an RGB image, scaled to this height and width, as a WebP file in base64."""
    small = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    return base64.b64encode(encode_image(small, ".webp", QUALITY)).decode("ascii")


def outlines(labels: Integer[np.ndarray, "H W"], size: tuple[int, int]) -> dict[str, str]:
    """Returns the outline of each visible object by its id, as an SVG path in pixels of an image of this size.

    Holes are part of the path, so fill it by the even-odd rule. Coordinates are those of pixel centres.
    """
    small = cv2.resize(labels.astype(np.uint16), size[::-1], interpolation=cv2.INTER_NEAREST)
    paths = {}
    for object_id in np.unique(small[small > 0]).tolist():
        mask = (small == object_id).view(np.uint8)
        shapes, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_TC89_KCOS)
        parts = ("M" + "L".join(f"{x} {y}" for x, y in shape[:, 0].tolist()) + "Z" for shape in shapes)
        paths[str(object_id)] = "".join(parts)
    return paths


# Quality 95 without chroma subsampling: the backward pass must see what the forward pass saw.
JPEG = (
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)


@dataclass(frozen=True, slots=True)
class Clip:
    """What is known about a video after reading all of it.

    Attributes:
        names: the name of each frame's mask file, without suffix.
        seconds: the time of each frame; None if the source has no times.
        size: height and width in pixels.
    """

    names: tuple[str, ...]
    seconds: tuple[float | None, ...]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.names)


class FrameStore:
    """A folder with each frame as a JPEG of quality 95, which is deleted when the `with` block ends.

    A video can only be decoded forwards, but a comparison needs frames backwards and in any order; holding all of them
    would take memory that grows with the video.

    Args:
        frames: the video, which is read to its end.
        folder: the folder to create; remains of an interrupted run in it are deleted.
        on_frame: called after each frame.

    Raises:
        InputError: the video has fewer than two frames, or two frames with the same name once made safe for files.
        FrameError: the video is damaged, which is thus detected before anything is computed.
        OutputError: the folder cannot be written to.
    """

    def __init__(self, frames: Iterable[Frame], folder: Path, on_frame: Callable[[], None] = lambda: None) -> None:
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder)
        try:
            self.clip = self._fill(frames, on_frame)
        except BaseException:
            self._remove()
            raise

    def _fill(self, frames: Iterable[Frame], on_frame: Callable[[], None]) -> Clip:
        names: list[str] = []
        seconds: list[float | None] = []
        size = (0, 0)
        for frame in prefetch(frames):
            rgb = frame.image.permute(1, 2, 0).cpu().numpy()
            data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), JPEG)[1]
            try:
                self._path(len(names)).write_bytes(data.tobytes())
            except OSError as error:
                raise OutputError(
                    f"cannot write to {str(self._folder)!r} ({error.strerror})", "make room or give another place"
                ) from error
            names.append(safe_name(frame.name))
            seconds.append(frame.seconds)
            size = frame.size
            on_frame()
        if len(names) < 2:
            raise InputError(
                f"there is nothing to compare in a video of {len(names)} frame", "give one with 2 or more frames"
            )
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"two frames would be written as {twice}.png", "rename one of them")
        return Clip(tuple(names), tuple(seconds), size)

    def image(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Returns a frame in RGB."""
        # OpenCV itself crashes on a path that is not UTF-8.
        bgr = cv2.imdecode(np.frombuffer(self._path(index).read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        assert bgr is not None, f"frame {index} in {self._folder} is damaged"
        rgb: UInt8[np.ndarray, "H W 3"] = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        return rgb

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:08d}.jpg"

    def _remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> "FrameStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

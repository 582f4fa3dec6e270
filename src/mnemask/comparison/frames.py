"""The frames of a video, kept on disk for random access; and frames and masks as a page holds them (WebP, SVG)."""

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
from mnemask.types import Frame

LONG_SIDE = 480
QUALITY = 72


def display_size(size: tuple[int, int]) -> tuple[int, int]:
    """Returns the height and width at which a page shows frames of this size; never larger than they are."""
    scale = min(1.0, LONG_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def picture_data(image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> str:
    """Returns an RGB picture at this height and width as base64 of a WebP file."""
    small = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".webp", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1]
    return base64.b64encode(data.tobytes()).decode("ascii")


def outlines(labels: Integer[np.ndarray, "H W"], size: tuple[int, int]) -> dict[str, str]:
    """Returns the outline of each object that is shown, by id, as an SVG path in pixels of a picture of this size.

    Holes are parts of the path: fill it by the even-odd rule. Coordinates are those of pixel centres.
    """
    small = cv2.resize(labels.astype(np.uint16), size[::-1], interpolation=cv2.INTER_NEAREST)
    paths = {}
    for object_id in np.unique(small[small > 0]).tolist():
        mask = (small == object_id).view(np.uint8)
        shapes, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_TC89_KCOS)
        parts = ("M" + "L".join(f"{x} {y}" for x, y in shape[:, 0].tolist()) + "Z" for shape in shapes)
        paths[str(object_id)] = "".join(parts)
    return paths


# Quality 95, and colour as fine as brightness: the way back is to see what the way there saw.
JPEG = (
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)


@dataclass(frozen=True, slots=True)
class Clip:
    """What is known of a video when all of it was read.

    Attributes:
        names: what the mask file of each frame is called, without suffix.
        seconds: when each frame is shown; None where the source has no times.
        size: height and width in pixels.
    """

    names: tuple[str, ...]
    seconds: tuple[float | None, ...]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.names)


class FrameStore:
    """A folder with each frame as a JPEG of quality 95, which goes when the `with` block ends.

    A video can be decoded forwards only, and a comparison needs frames backwards and here and there; holding them all
    would take memory that grows with the video.

    Args:
        frames: the video, read to its end.
        folder: is made; what an interrupted run left there goes.
        on_frame: is called after each frame.

    Raises:
        InputError: the video has fewer than two frames, or two frames with the same name once made safe for files.
        FrameError: the video is damaged, which is thus known before anything is computed.
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
            raise InputError(f"a video of {len(names)} frame has nothing to compare", "give one of 2 frames or more")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"two frames would both write {twice}.png", "rename one of them")
        return Clip(tuple(names), tuple(seconds), size)

    def image(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Returns a frame, RGB."""
        bgr = cv2.imread(str(self._path(index)), cv2.IMREAD_COLOR)
        assert bgr is not None, f"frame {index} is gone from {self._folder}"
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

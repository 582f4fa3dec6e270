"""Masks as video: FFV1 that keeps every label bit for bit, and an overlay to look at."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream
from jaxtyping import UInt8, UInt16

from mnemask.errors import FrameError, ObjectIdError
from mnemask.types import Frame, Masks
from mnemask.video.files import partial_file, target_file
from mnemask.video.image_writers import picture_of
from mnemask.video.overlay import draw_overlay

# Fine enough for every frame rate in use, and what MPEG itself counts in.
_TICKS_PER_SECOND = 90_000
_BT709 = 1


class Ffv1Masks:
    """OUT/masks.mkv: lossless grey video whose pixel value is the object id, at the times of the source.

    8 bits a pixel if the first frame's ids are up to 255, else 16. Where frames come without times, they are
    1 / frames_per_second apart.

    Raises:
        ObjectIdError: an id beyond 255 arrives after the file began with 8 bits.
    """

    def __init__(self, out: Path, frames_per_second: float) -> None:
        options = {"level": "3", "slicecrc": "1"}
        self._video = _VideoFile(target_file(out, "masks.mkv"), "ffv1", options, frames_per_second)
        self._wide: bool | None = None

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Adds one frame."""
        largest = max(masks.object_ids, default=0)
        if self._wide is None:
            self._wide = largest > 255
        if largest > 255 and not self._wide:
            raise ObjectIdError(
                f"object id {largest} arrived at frame {masks.index}, but the label video began with 8 bits a pixel; "
                "use ids up to 255, or the png format, which decides for each frame"
            )
        labels = masks.labels.cpu().numpy()
        picture = labels.astype(np.uint16 if self._wide else np.uint8)
        self._video.add(picture, "gray16le" if self._wide else "gray", self._video.seconds_of(masks, frame))

    def finish(self, *, complete: bool) -> None:
        """Ends the file and, if complete, gives it its name."""
        self._video.finish(complete=complete)


class OverlayVideo:
    """OUT/overlay.mp4: the video with its masks drawn in, H.264 that plays everywhere, times as in the source.

    The first frame is at 0 seconds. Odd sizes are padded by one row or column, since yuv420p has only even ones.
    """

    def __init__(self, out: Path, frames_per_second: float) -> None:
        options = {"crf": "20", "preset": "veryfast"}
        self._video = _VideoFile(target_file(out, "overlay.mp4"), "libx264", options, frames_per_second)
        self._began: float | None = None

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Draws and adds one frame."""
        rgb = draw_overlay(picture_of(masks, frame), masks.labels)
        rgb = cv2.copyMakeBorder(rgb, 0, rgb.shape[0] % 2, 0, rgb.shape[1] % 2, cv2.BORDER_REPLICATE)
        seconds = self._video.seconds_of(masks, frame)
        if self._began is None:
            self._began = seconds
        self._video.add(rgb, "yuv420p", seconds - self._began)

    def finish(self, *, complete: bool) -> None:
        """Ends the file and, if complete, gives it its name."""
        self._video.finish(complete=complete)


class _VideoFile:
    """A video that is NAME.partial.mkv until it is complete, opened when the first frame tells its size."""

    def __init__(self, target: Path, codec: str, options: dict[str, str], frames_per_second: float) -> None:
        self._target = target
        self._codec = codec
        self._options = options
        self._rate = Fraction(frames_per_second).limit_denominator(1001)
        self._opened: tuple[OutputContainer, VideoStream] | None = None
        self._next_ticks = 0

    def seconds_of(self, masks: Masks, frame: Frame | None) -> float:
        """Returns when the frame is shown."""
        return float(masks.index / self._rate) if frame is None or frame.seconds is None else frame.seconds

    def add(
        self,
        picture: UInt8[np.ndarray, "H W 3"] | UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"],
        pixel_format: str,
        seconds: float,
    ) -> None:
        """Encodes one picture: RGB, or grey as the pixel format says."""
        height, width = picture.shape[:2]
        self._opened = self._opened or self._open(width, height, pixel_format)
        container, stream = self._opened
        if (width, height) != (stream.width, stream.height):
            raise FrameError(
                f"a frame of {width}x{height} pixels cannot follow one of {stream.width}x{stream.height} in "
                f"{self._target.name!r}; write each size to its own file"
            )
        if picture.ndim == 3:
            video_frame = VideoFrame.from_ndarray(picture, format="rgb24")
            video_frame = video_frame.reformat(format=pixel_format, dst_colorspace=Colorspace.ITU709)
        else:
            video_frame = VideoFrame.from_ndarray(picture, format=pixel_format)
        # Times that do not grow (a looped source) would be refused; a millisecond more keeps the frame.
        ticks = max(round(seconds * _TICKS_PER_SECOND), self._next_ticks)
        self._next_ticks = ticks + _TICKS_PER_SECOND // 1000
        video_frame.pts, video_frame.time_base = ticks, Fraction(1, _TICKS_PER_SECOND)
        container.mux(stream.encode(video_frame))

    def _open(self, width: int, height: int, pixel_format: str) -> tuple[OutputContainer, VideoStream]:
        # faststart puts the index of an mp4 in front, so that a browser or a pipe can play it; Matroska ignores it.
        options = {"movflags": "faststart"} if self._target.suffix.lower() == ".mp4" else {}
        container = av.open(f"file:{partial_file(self._target)}", "w", options=options)
        stream = container.add_stream(self._codec, rate=self._rate, options=self._options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        context = stream.codec_context
        context.time_base = Fraction(1, _TICKS_PER_SECOND)
        if pixel_format == "yuv420p":
            context.colorspace = context.color_primaries = context.color_trc = _BT709
        return container, stream

    def finish(self, *, complete: bool) -> None:
        """Writes what the encoder still holds and ends the file."""
        if self._opened is None:
            return
        container, stream = self._opened
        with container:
            container.mux(stream.encode(None))
        if complete:
            partial_file(self._target).replace(self._target)

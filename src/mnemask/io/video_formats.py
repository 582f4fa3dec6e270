"""Masks as video: FFV1 that keeps every label bit for bit, and an overlay to look at."""

from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from jaxtyping import UInt8, UInt16

from mnemask.errors import FrameError, ObjectIdError
from mnemask.io.atomic import ResumeState, Writing, partial_file, target_file, temporary_file
from mnemask.io.image_formats import picture_of
from mnemask.io.resumable_video import STRETCH, TICKS_PER_SECOND, Codec, Pictures, StretchedVideo
from mnemask.io.visualize import draw_overlay
from mnemask.types import Frame, Masks


class _VideoFile:
    """A video that has its name only when it is complete, begun when the first frame tells its size."""

    stretch = STRETCH
    per_object: ClassVar[bool] = False

    def __init__(self, target: Path, codec: Codec, how: Writing) -> None:
        self._target, self._codec, self._how = target, codec, how
        self._folder, resume_state = how.journal or target.parent, how.resume_state
        how.files.refuse_foreign(target, partial_file(target))
        self._video: StretchedVideo | None = None
        self._next_ticks = 0
        if resume_state is not None and resume_state["frames"]:
            self._next_ticks = int(resume_state["next_ticks"])
            size = int(resume_state["width"]), int(resume_state["height"])
            pictures = Pictures(*size, str(resume_state["pixel_format"]), str(resume_state.get("pixel_aspect", "1")))
            self._video = self._begin(pictures, resume_state)

    def resume_state(self) -> ResumeState:
        """Returns the state from which a later run can resume."""
        return {"frames": 0} if self._video is None else {**self._video.resume_state(), "next_ticks": self._next_ticks}

    def sync(self) -> None:
        """Makes the stretches so far durable."""
        if self._video is not None:
            self._video.sync()

    def finish(self, *, complete: bool) -> None:
        """Ends the file and, if complete, gives it its name."""
        if self._video is None:
            return
        self._video.close()
        partial = temporary_file(self._target)
        try:
            self._video.remux(partial)
            self._how.finish(partial, self._target, complete=complete)
        finally:
            partial.unlink(missing_ok=True)
        if self._how.journal is None:
            self._video.path.unlink()

    def _begin(self, pictures: Pictures, resume_state: ResumeState | None = None) -> StretchedVideo:
        name = f"{self._target.stem}.partial"
        self._how.begin(self._folder / f"{name}.0.nut")
        return StretchedVideo(self._folder, name, self._codec, pictures, resume_state)

    def _seconds_of(self, masks: Masks, frame: Frame | None) -> float:
        """Returns when the frame is shown."""
        return float(masks.index / self._codec.rate) if frame is None or frame.seconds is None else frame.seconds

    def _add(
        self,
        picture: UInt8[np.ndarray, "H W 3"] | UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"],
        pixel_format: str,
        seconds: float,
        frame: Frame | None,
    ) -> None:
        """Encodes one picture: RGB, or grey as the pixel format says; the frame tells how wide its pixels are shown."""
        height, width = picture.shape[:2]
        aspect = "1" if frame is None else str(frame.pixel_aspect)
        self._video = self._video or self._begin(Pictures(width, height, pixel_format, aspect))
        size = self._video.pictures
        if (width, height) != (size.width, size.height):
            raise FrameError(
                f"a frame of {width}x{height} pixels cannot follow one of {size.width}x{size.height} in "
                f"{self._target.name!r}",
                "write each size to its own file",
            )
        if picture.ndim == 3:
            video_frame = VideoFrame.from_ndarray(picture, format="rgb24")
            video_frame = video_frame.reformat(format=pixel_format, dst_colorspace=Colorspace.ITU709)
        else:
            video_frame = VideoFrame.from_ndarray(picture, format=pixel_format)
        # Times that do not grow (a looped source) would be refused; a millisecond more keeps the frame.
        ticks = max(round(seconds * TICKS_PER_SECOND), self._next_ticks)
        self._next_ticks = ticks + TICKS_PER_SECOND // 1000
        self._video.add(video_frame, ticks)


def _rate(frames_per_second: float) -> Fraction:
    return Fraction(frames_per_second).limit_denominator(1001)


class Ffv1Masks(_VideoFile):
    """OUT/masks.mkv: lossless grey video; the pixel value is the object id, at the times of the source.

    8 bits a pixel if the ids of the first frame, and those known to come, are up to 255, else 16. Where frames come
    without times, they are 1 / frames_per_second apart.

    Raises:
        ObjectIdError: an id beyond 255 arrives after the file began with 8 bits.
    """

    single_file: ClassVar[str | None] = "masks.mkv"
    bytes_per_pixel: ClassVar[float] = 1 / 800

    def __init__(self, out: Path, how: Writing) -> None:
        codec = Codec("ffv1", {"level": "3", "slicecrc": "1"}, _rate(how.frames_per_second))
        super().__init__(target_file(out, "masks.mkv"), codec, how)

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Adds one frame."""
        largest = max(masks.object_ids, default=0)
        wide = (
            max(largest, self._how.largest_id) > 255
            if self._video is None
            else self._video.pictures.pixel_format == "gray16le"
        )
        if largest > 255 and not wide:
            raise ObjectIdError(
                f"object id {largest} arrived at frame {masks.index}, but the label video began with 8 bits a pixel",
                "use ids up to 255, or the png format, which decides for each frame",
            )
        labels = masks.labels.cpu().numpy()
        picture = labels.astype(np.uint16 if wide else np.uint8)
        self._add(picture, "gray16le" if wide else "gray", self._seconds_of(masks, frame), frame)


class OverlayVideo(_VideoFile):
    """OUT/overlay.mp4: the video with its masks drawn in, H.264 that plays everywhere, times as in the source.

    The first frame is at 0 seconds. Odd sizes are padded by one row or column, since yuv420p has only even ones.
    """

    single_file: ClassVar[str | None] = "overlay.mp4"
    bytes_per_pixel: ClassVar[float] = 1 / 100

    def __init__(self, out: Path, how: Writing) -> None:
        # Without B-frames packets are in the order of frames, and one stretch can follow another. With mbtree a
        # video comes out in other bits now and then, from the same pictures.
        options = {"crf": "20", "preset": "veryfast", "bf": "0", "mbtree": "0"}
        codec = Codec("libx264", options, _rate(how.frames_per_second))
        super().__init__(target_file(out, "overlay.mp4"), codec, how)
        self._began: float | None = None if how.resume_state is None else how.resume_state["began"]

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Draws and adds one frame."""
        rgb = draw_overlay(picture_of(masks, frame), masks.labels)
        rgb = cv2.copyMakeBorder(rgb, 0, rgb.shape[0] % 2, 0, rgb.shape[1] % 2, cv2.BORDER_REPLICATE)
        seconds = self._seconds_of(masks, frame)
        if self._began is None:
            self._began = seconds
        self._add(rgb, "yuv420p", seconds - self._began, frame)

    def resume_state(self) -> ResumeState:
        """Returns the state from which a later run can resume."""
        return {**super().resume_state(), "began": self._began}

"""Masks as video: FFV1, which keeps every label bit for bit, and an overlay to look at."""

import logging
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame

from mnemask.errors import FrameError, ObjectIdError, OutputError
from mnemask.io.atomic import ResumeState, Writing, partial_file, target_file, unfinished
from mnemask.io.footage import Colours, Footage, standard_rate, ticks_for
from mnemask.io.image_formats import picture_of
from mnemask.io.label_video import FRAMES_TAG
from mnemask.io.resumable_video import STRETCH, Codec, StreamParameters, StretchedVideo
from mnemask.io.sound import Excerpt
from mnemask.io.visualize import draw_overlay
from mnemask.types import Frame, Masks

logger = logging.getLogger(__name__)


class VideoFile:
    """A video that gets its name only when complete, and begins when the first frame determines its size.

    Attributes:
        encoder: FFmpeg's name of the encoder.
        options: options of the encoder.
        tag: codec tag in an mp4 or mov file, if FFmpeg would choose another one.
        with_sound: whether it is a video to be watched: it begins at 0 seconds and has the sound of its source.
        growing_suffix: suffix of the file until it is complete.
    """

    stretch = STRETCH
    encoder: ClassVar[str]
    options: ClassVar[dict[str, str]]
    tag: ClassVar[str] = ""
    single_file: ClassVar[str | None]
    per_object: ClassVar[bool] = False
    with_sound: ClassVar[bool] = True
    growing_suffix: ClassVar[str] = "nut"

    @classmethod
    def check(cls) -> None:
        """Raises OutputError if the encoder is missing."""
        try:
            av.Codec(cls.encoder, "w")
        except ValueError as error:
            raise OutputError(
                f"the FFmpeg inside PyAV has no encoder {cls.encoder}, so {cls.single_file!r} cannot be written",
                "install PyAV's own wheels (pip install av), or write another format",
            ) from error

    def __init__(self, out: Path, how: Writing) -> None:
        self.check()
        target = target_file(out, str(self.single_file))
        self._target, self._how, self.footage = target, how, how.footage
        if self.with_sound and self.footage.is_interlaced:
            logger.warning(
                "%s is marked progressive, but its source%s is interlaced: deinterlace that first "
                "(ffmpeg -i IN -vf yadif OUT)",
                target.name,
                f" {self.footage.path.name}" if self.footage.path else "",
            )
        rate = self.footage.rate or standard_rate(Fraction(how.frames_per_second)).limit_denominator(1001)
        if replace(self.footage, is_deep=False) == Footage():
            self.footage = replace(self.footage, ticks_per_second=ticks_for(rate))
        self._codec = Codec(self.encoder, self.options, rate, self.growing_suffix, self.tag)
        self._folder, resume_state = how.journal or target.parent, how.resume_state
        how.files.refuse_foreign(target, partial_file(target))
        self._video: StretchedVideo | None = None
        self._began = 0.0  # seconds of the source
        self._next_ticks = 0  # earliest time of the next frame
        if resume_state is not None and resume_state["frames"]:
            self._began, self._next_ticks = float(resume_state["began"]), int(resume_state["next_ticks"])
            self._video = self._begin(StreamParameters.of_state(resume_state), resume_state)

    def resume_state(self) -> ResumeState:
        """Returns the state from which a later run can resume."""
        if self._video is None:
            return {"frames": 0}
        return {**self._video.resume_state(), "began": self._began, "next_ticks": self._next_ticks}

    def sync(self) -> None:
        """Makes the stretches so far durable."""
        if self._video is not None:
            self._video.sync()

    def finish(self, *, complete: bool) -> None:
        """Ends the file and, if complete, gives it its name."""
        if self._video is None:
            return
        self._video.close()
        with unfinished(self._target) as partial:
            timecode = self.footage.timecode_at(self._began)
            self._video.remux(partial, self._excerpt(self._video.parameters), timecode, self._tags)
            self._how.finish(partial, self._target, complete=complete)
        if self._how.journal is None:
            self._video.path.unlink()

    @property
    def _tags(self) -> dict[str, str]:
        """The tags of the finished file."""
        return {}

    def _excerpt(self, parameters: StreamParameters) -> Excerpt | None:
        """Returns the sound that belongs to the frames."""
        if not self.with_sound or self.footage.path is None:
            return None
        begin = Fraction(self._began)
        length = (self._next_ticks - self._least_step + parameters.period) * parameters.time_base
        return Excerpt(self.footage.path, begin, begin + length)

    @property
    def _least_step(self) -> int:
        return self.footage.ticks_per_second // 1000

    def _begin(self, parameters: StreamParameters, resume_state: ResumeState | None = None) -> StretchedVideo:
        name = f"{self._target.stem}.partial"
        self._how.begin(self._codec.path(self._folder, name, 0))
        delay = self._how.cutout.edges.delay
        return StretchedVideo(self._folder, name, self._codec, parameters, resume_state, delay)

    def _seconds_of(self, masks: Masks, frame: Frame | None) -> float:
        """Returns the frame's time on the source's clock."""
        return float(masks.index / self._codec.rate) if frame is None or frame.seconds is None else frame.seconds

    def aspect_of(self, frame: Frame | None) -> str:
        """Returns the width of a pixel of this video divided by its height, as shown."""
        return "1" if frame is None else str(frame.pixel_aspect)

    def _add(self, picture: VideoFrame, colours: Colours, masks: Masks, frame: Frame | None) -> None:
        """Encodes one picture; the frame determines its time and pixel aspect."""
        seconds = self._seconds_of(masks, frame)
        if self._video is None:
            self._began = seconds if self.with_sound else 0.0
            self._video = self._begin(
                StreamParameters(
                    picture.width,
                    picture.height,
                    picture.format.name,
                    self.aspect_of(frame),
                    colours,
                    self.footage.ticks_per_second,
                    self.footage.period(self._how.frames_per_second),
                )
            )
        size = self._video.parameters
        if (picture.width, picture.height) != (size.width, size.height):
            raise FrameError(
                f"a frame of {picture.width}x{picture.height} pixels cannot follow one of {size.width}x{size.height} "
                f"in {self._target.name!r}",
                "write each size to its own file",
            )
        # Times that do not increase (a looped source) would be refused; a millisecond more keeps the frame.
        ticks = max(self.footage.ticks(seconds - self._began), self._next_ticks)
        self._next_ticks = ticks + self._least_step
        period = self.footage.period(self._how.frames_per_second, None if frame is None else frame.duration)
        self._video.parameters = replace(size, period=period)
        self._video.add(picture, ticks)


class Ffv1Masks(VideoFile):
    """OUT/masks.mkv: lossless grey video; the pixel value is the object id, at the times of the source.

    The tag FRAMES lists the frames, as in "7-120,122-300". Pixels have 8 bits if the ids of the first frame, and those
    known to come, are up to 255, else 16. Frames without times are 1 / frames_per_second apart.

    Raises:
        ObjectIdError: an id beyond 255 arrives after the file began with 8 bits.
    """

    encoder: ClassVar[str] = "ffv1"
    options: ClassVar[dict[str, str]] = {"level": "3", "slicecrc": "1"}
    single_file: ClassVar[str | None] = "masks.mkv"
    bytes_per_pixel: ClassVar[float] = 1 / 800
    with_sound: ClassVar[bool] = False

    def __init__(self, out: Path, how: Writing) -> None:
        super().__init__(out, how)
        resumed = how.resume_state or {}
        self._indices: list[list[int]] = [list(each) for each in resumed.get("indices", ())]  # first and last of a run

    def resume_state(self) -> ResumeState:
        """Returns the state from which a later run can resume."""
        return {**super().resume_state(), "indices": [list(each) for each in self._indices]}

    @property
    def _tags(self) -> dict[str, str]:
        # The times of a video do not determine the frame numbers: they may begin anywhere, and be uneven.
        return {FRAMES_TAG: ",".join(f"{first}-{last}" for first, last in self._indices)}

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Adds one frame."""
        largest = max(masks.object_ids, default=0)
        wide = (
            max(largest, self._how.largest_id) > 255
            if self._video is None
            else self._video.parameters.pixel_format == "gray16le"
        )
        if largest > 255 and not wide:
            raise ObjectIdError(
                f"object id {largest} arrived at frame {masks.index}, but the label video began with 8 bits per pixel",
                "use ids up to 255, or the png format, which decides for each frame",
            )
        labels = masks.labels.cpu().numpy()
        picture = labels.astype(np.uint16) if wide else labels.astype(np.uint8)
        self._add(VideoFrame.from_ndarray(picture, "gray16le" if wide else "gray"), Colours(), masks, frame)
        if self._indices and masks.index == self._indices[-1][1] + 1:
            self._indices[-1][1] = masks.index
        else:
            self._indices.append([masks.index, masks.index])


# Without B-frames, packets are in the order of frames, and one stretch can follow another. With mbtree, the same
# pictures are now and then encoded to other bits.
H264 = {"preset": "veryfast", "bf": "0", "mbtree": "0"}


class OverlayVideo(VideoFile):
    """OUT/overlay.mp4: the video with its masks drawn in, H.264 that plays everywhere, with the sound of the source.

    The first frame is at 0 seconds. Odd sizes are padded by one row or column, since yuv420p allows only even ones.
    """

    encoder: ClassVar[str] = "libx264"
    options: ClassVar[dict[str, str]] = {"crf": "20", **H264}
    single_file: ClassVar[str | None] = "overlay.mp4"
    bytes_per_pixel: ClassVar[float] = 1 / 100

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Draws and adds one frame."""
        rgb = draw_overlay(picture_of(masks, frame), masks.labels)
        rgb = cv2.copyMakeBorder(rgb, 0, rgb.shape[0] % 2, 0, rgb.shape[1] % 2, cv2.BORDER_REPLICATE)
        colours = self.footage.colours
        self._add(colours.from_rgb(rgb, "yuv420p"), colours, masks, frame)

"""What there is to say of a video file."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mnemask.doctor.finding import GO_ON, Finding
from mnemask.errors import FrameError
from mnemask.video import VideoReader
from mnemask.video.containers import open_container
from mnemask.video.events import ReaderEvents
from mnemask.video.raster import IMAGE_SUFFIXES

VARIES = 1.5  # more than rounding to the container's clock explains
LONG_GAP = 1.0  # seconds
SHOWN = 5
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}  # as numbered by ITU-T H.273


def diagnose_video(path: Path) -> list[Finding]:
    """Returns what the file says it is, and whether all of it can be read."""
    try:
        with VideoReader(path, on_corrupt="skip") as reader:
            header = _stack(path, reader) if path.suffix.lower() in IMAGE_SUFFIXES else list(_header(path))
            return [*header, *Finding.of_facts(reader.facts), *_frames(reader)]
    except FrameError as error:
        return [Finding.of_error(error)]


def _header(path: Path) -> Iterator[Finding]:
    with open_container(f"file:{path}", {"protocol_whitelist": "file"}) as container:
        stream = container.streams.best("video")
        assert isinstance(stream, VideoStream), "VideoReader refuses anything else"
        codec = stream.codec_context
        name = container.format.long_name or container.format.name
        yield Finding("ok", f"{name}, {codec.name}, {codec.width}x{codec.height} pixels, {codec.pix_fmt}")
        if codec.color_trc in HDR_TRANSFERS:
            yield Finding(
                "warning",
                f"high dynamic range ({HDR_TRANSFERS[codec.color_trc]}): colours are read pale",
                "convert it to standard range for best results",
            )
        frame = _first_frame(container, stream)
    if frame is not None and frame.rotation:
        yield Finding("ok", f"recorded turned by {abs(frame.rotation)} degrees; frames and masks are upright")
    if frame is not None and frame.interlaced_frame:
        yield Finding(
            "warning", "interlaced: moving edges look like combs", "deinterlace it (ffmpeg -i IN -vf yadif OUT)"
        )


def _stack(path: Path, reader: VideoReader) -> list[Finding]:
    timed = "" if reader.facts.timed else "; it says no times"
    return [Finding("ok", f"{path.suffix[1:].upper()} file of {reader.num_frames} pictures{timed}")]


def _first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame | None:
    try:
        return next(container.decode(stream), None)
    except FFmpegError:
        return None  # what is wrong, the reader tells better


@dataclass
class _Pace:
    """How many frames came, and the shortest and longest time between two, in seconds."""

    frames: int = 0
    shortest: float = math.inf
    longest: float = 0.0
    last: float | None = None

    def add(self, seconds: float | None) -> None:
        self.frames += 1
        if seconds is not None and self.last is not None:
            self.shortest = min(self.shortest, seconds - self.last)
            self.longest = max(self.longest, seconds - self.last)
        self.last = seconds


def _frames(reader: VideoReader) -> Iterator[Finding]:
    pace, broken = _Pace(), None
    try:
        for frame in reader:
            pace.add(frame.seconds)
    except FrameError as error:
        broken = Finding.of_error(error)
    rate = f" at {reader.frames_per_second:.5g} frames/s" if reader.frames_per_second else ""
    yield Finding("ok", f"{pace.frames} frames can be read{rate}")
    yield from _damage(reader.events)
    if broken:
        yield broken
    elif not reader.events.to_dict() and reader.num_frames not in (None, pace.frames):
        yield Finding("ok", f"the header counts {reader.num_frames}: some are hidden by an edit list, or it is rounded")
    if pace.longest > VARIES * pace.shortest:
        yield Finding(
            "ok",
            f"the frame rate varies: {1000 * pace.shortest:.0f} to {1000 * pace.longest:.0f} ms between two frames",
        )
    if pace.longest > LONG_GAP:
        yield Finding(
            "warning", f"for {pace.longest:.1f} s there is no frame", "objects may leap there; check the masks"
        )
    if reader.size and (reader.size[0] % 2 or reader.size[1] % 2):
        yield Finding("ok", "the size is odd: drawn into a video, it gets one more line of pixels")


def _damage(events: ReaderEvents) -> Iterator[Finding]:
    if events.corrupt.count:
        first = ", ".join(map(str, events.corrupt.frames[:SHOWN]))
        more = " and others" if events.corrupt.count > SHOWN else ""
        yield Finding("problem", f"{events.corrupt.count} frames are damaged: {first}{more}", GO_ON)
    if events.cut_off.count:
        yield Finding(
            "problem",
            f"cut off or damaged: it ends at frame {events.cut_off.frames[0]}, before its header says so",
            f"fetch the file again, or {GO_ON}",
        )

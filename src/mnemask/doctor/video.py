"""Findings about a video file or a folder of frames."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from mnemask.errors import FrameError, InputError, counted, listed
from mnemask.io import VideoReader
from mnemask.io.decoder import open_container
from mnemask.io.frame_files import find_frames
from mnemask.io.image_sequences import ImageSequence, began_anew, number_gaps
from mnemask.io.image_stacks import page_count
from mnemask.io.images import FORMATS, IMAGE_SUFFIXES, read_image
from mnemask.io.pictures import ReaderEvents, SourceFacts
from mnemask.io.sources import hides_pictures

GO_ON = "continue after the damage with --on-corrupt skip or hold"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact or problem of a file.

    Attributes:
        severity: "ok" for a fact, "warning" if it may spoil the result, "problem" if the file cannot be used.
        what: the finding in plain words.
        remedy: what to do; empty if there is nothing to do.
    """

    severity: Literal["ok", "warning", "problem"]
    what: str
    remedy: str = ""

    @classmethod
    def from_error(cls, error: InputError) -> "Finding":
        """Returns an error's problem and remedy as a finding."""
        return cls("problem", error.problem, error.remedy)

    @classmethod
    def of_facts(cls, facts: SourceFacts) -> "list[Finding]":
        """Returns the reader's findings before the first frame; what it left out or finds doubtful is a warning."""
        return [*(cls("ok", what) for what in facts.about), *(cls("warning", note) for note in facts.notes)]


VARIES = 1.5  # more than rounding to the container's clock explains
LONG_GAP = 1.0  # seconds
SHOWN = 5
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}  # as numbered by ITU-T H.273


def diagnose_video(path: Path) -> list[Finding]:
    """Returns the facts in the header, and whether the whole file can be read."""
    try:
        with VideoReader(path, on_corrupt="skip") as reader:
            is_stack = path.suffix.lower() in IMAGE_SUFFIXES or hides_pictures(path)
            header = _stack(path, reader) if is_stack else list(_header(path, reader.facts))
            return [*header, *Finding.of_facts(reader.facts), *_frames(reader)]
    except FrameError as error:
        return [Finding.from_error(error)]


def _header(path: Path, facts: SourceFacts) -> Iterator[Finding]:
    with open_container(f"file:{path}", {"protocol_whitelist": "file"}) as container:
        stream = container.streams.best("video")
        assert isinstance(stream, VideoStream), "VideoReader refuses anything else"
        codec = stream.codec_context
        name = container.format.long_name or container.format.name
        yield Finding("ok", f"{name}, {codec.name}, {codec.width}x{codec.height} pixels, {codec.pix_fmt}")
        if codec.color_trc in HDR_TRANSFERS:
            yield Finding(
                "warning",
                f"high dynamic range ({HDR_TRANSFERS[codec.color_trc]}): colours will look pale",
                "convert it to standard range for best results",
            )
        frame = _first_frame(container, stream)
    if frame is not None and frame.rotation:
        yield Finding("ok", f"recorded rotated by {abs(frame.rotation)} degrees; frames and masks are upright")
    if facts.footage.is_interlaced:
        yield Finding(
            "warning", "interlaced: moving edges look like combs", "deinterlace it (ffmpeg -i IN -vf yadif OUT)"
        )


def _stack(path: Path, reader: VideoReader) -> list[Finding]:
    timed = "" if reader.facts.timed else ", without times"
    return [Finding("ok", f"{path.suffix[1:].upper()} file of {reader.num_frames} pictures{timed}")]


def _first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame | None:
    try:
        return next(container.decode(stream), None)
    except FFmpegError:
        return None  # the reader gives a better message


@dataclass
class _Pace:
    """The number of frames, and the shortest and longest time between two, in seconds."""

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
        broken = Finding.from_error(error)
    rate = f" at {reader.frames_per_second:.5g} frames/s" if reader.frames_per_second else ""
    yield Finding("ok", f"{counted(pace.frames, 'frame')} can be read{rate}")
    yield from _damage(reader.events)
    if broken:
        yield broken
    elif reader.events.to_dict() or reader.num_frames in (None, pace.frames):
        pass  # what is missing was said, or nothing is
    elif reader.counted and reader.num_frames and 2 * pace.frames < reader.num_frames:
        yield Finding(
            "warning",
            f"the header states {reader.num_frames} frames, most of which cannot be read",
            "save them as an image sequence, or re-encode the file with another program",
        )
    else:
        yield Finding(
            "ok", f"the header states {reader.num_frames} frames: the number is rounded, or an edit list hides some"
        )
    if pace.longest > VARIES * pace.shortest:
        yield Finding(
            "ok",
            f"the frame rate varies: {1000 * pace.shortest:.0f} to {1000 * pace.longest:.0f} ms between two frames",
        )
    if pace.longest > LONG_GAP:
        yield Finding(
            "warning", f"there is no frame for {pace.longest:.1f} s", "objects may jump there; check the masks"
        )
    if reader.size and (reader.size[0] % 2 or reader.size[1] % 2):
        yield Finding("ok", "the size is odd: drawn into a video, it gets one more line of pixels")


def _damage(events: ReaderEvents) -> Iterator[Finding]:
    if events.corrupt.count:
        first = ", ".join(map(str, events.corrupt.frames[:SHOWN]))
        more = " and others" if events.corrupt.count > SHOWN else ""
        yield Finding(
            "problem", f"{counted(events.corrupt.count, 'frame is', 'frames are')} damaged: {first}{more}", GO_ON
        )
    if events.cut_off.count:
        yield Finding(
            "problem",
            f"cut off or damaged: it ends at frame {events.cut_off.frames[0]}, before the end that its header states",
            f"fetch the file again, or {GO_ON}",
        )


def diagnose_folder(path: Path) -> list[Finding]:
    """Returns whether the images in a folder form a video: readable, of one size, none missing."""
    try:
        files = find_frames(path)
        if len(files.paths) == 1 and page_count(files.paths[0]) > 1:
            return diagnose_video(files.paths[0])
        facts = ImageSequence(files, path.name).facts
    except FrameError as error:
        return [Finding.from_error(error)]
    images = files.paths
    sizes: dict[Path, str] = {}
    broken: list[Finding] = []
    for image in images:
        try:
            height, width = read_image(image, facts.levels).shape[1:]
            sizes[image] = f"{width}x{height}"
        except FrameError as error:
            broken.append(Finding.from_error(error))
    found = [Finding("ok", f"{counted(len(images), 'image')} from {images[0].name} to {images[-1].name}")]
    if len(images) == 1:
        found.append(Finding("warning", "one image is a video of one frame", "give the folder of all frames"))
    if len(broken) > SHOWN:
        broken[SHOWN:] = [Finding("problem", f"{len(broken) - SHOWN} more images cannot be read")]
    if broken and sizes:
        found.append(Finding("ok", f"{len(sizes)} of them can be read", f"replace the others, or {GO_ON}"))
    return [*found, *broken, *_sizes(sizes), *Finding.of_facts(facts), *_gaps(images), *_kind(next(iter(sizes), None))]


def _sizes(sizes: dict[Path, str]) -> Iterator[Finding]:
    ranked = Counter(sizes.values()).most_common()
    if len(ranked) == 1:
        yield Finding("ok", f"all of {ranked[0][0]} pixels")
    elif ranked:
        odd = [f"{path.name} ({size})" for path, size in sizes.items() if size != ranked[0][0]]
        yield Finding(
            "problem",
            f"{ranked[0][1]} images are {ranked[0][0]}, but not {listed(odd)}",
            "scale all to one size, or put each size into its own folder",
        )


def _gaps(images: Sequence[Path]) -> Iterator[Finding]:
    gaps = number_gaps(images)
    if anew := began_anew(images, gaps):
        yield Finding("warning", *anew)
    elif gaps:
        jumps = listed(f"{before} to {after}" for before, after in gaps.values())
        yield Finding(
            "warning",
            f"the numbers jump from {jumps}: frames may be missing",
            "if they are, objects jump there; export the frames again",
        )


def _kind(image: Path | None) -> Iterator[Finding]:
    if image is None:
        return
    with Image.open(image, formats=FORMATS) as opened:
        if opened.mode == "P":
            yield Finding(
                "warning", "the images are indexed, like masks", "to check a mask, give the doctor the file itself"
            )

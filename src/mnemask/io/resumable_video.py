"""A video in the making that survives a crash: encoded in stretches, each of which knows nothing of the ones before.

The state of an encoder cannot be saved. So every `STRETCH` frames a new one begins, and a run that goes on after such a
stretch encodes the very same bits as one that was never interrupted. Packets go into a NUT file, which players read
however it is cut off, and are copied into the final container when the video ends.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import cast

import av
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mnemask.io.atomic import ResumeState, require
from mnemask.io.decoder import AnyPacket

# Two seconds of most videos: keyframes are as dense as streaming services have them.
STRETCH = 48
# Fine enough for every frame rate in use, and what MPEG itself counts in.
TICKS_PER_SECOND = 90_000
_TIME_BASE = Fraction(1, TICKS_PER_SECOND)
_BT709 = 1


@dataclass(frozen=True, slots=True)
class Pictures:
    """What all pictures of a video have in common.

    Attributes:
        width: in pixels.
        height: in pixels.
        pixel_format: FFmpeg's name of how they are stored.
        pixel_aspect: how many times as wide as high a pixel is shown, such as "16/11".
    """

    width: int
    height: int
    pixel_format: str
    pixel_aspect: str = "1"


@dataclass(frozen=True, slots=True)
class Codec:
    """How pictures are encoded: FFmpeg's name of the encoder, its options, and frames per second."""

    name: str
    options: Mapping[str, str]
    rate: Fraction

    def encoder(self, pictures: Pictures) -> VideoCodecContext:
        """Returns a new encoder."""
        context = av.CodecContext.create(self.name, "w")
        assert isinstance(context, VideoCodecContext)
        context.framerate, context.options = self.rate, dict(self.options)
        context.flags |= Flags.global_header
        _describe(context, pictures)
        return context

    def stream(self, container: OutputContainer, pictures: Pictures) -> VideoStream:
        """Returns a new stream of a container for what such encoders give."""
        stream = container.add_stream(self.name, rate=self.rate, options=dict(self.options))
        assert isinstance(stream, VideoStream)
        _describe(stream.codec_context, pictures)
        container.start_encoding()
        return stream


class StretchedVideo:
    """A NUT file that grows, and goes on where a checkpoint left it.

    Args:
        folder: of the file.
        name: of the file, to which a number and the suffix are added.
        codec: how to encode.
        pictures: what is encoded.
        resume_state: of an earlier run; this one continues its file.

    Raises:
        OutputError: if the file of the earlier run is shorter than the mark says.
    """

    def __init__(
        self, folder: Path, name: str, codec: Codec, pictures: Pictures, resume_state: ResumeState | None = None
    ) -> None:
        number = 0 if resume_state is None else int(resume_state["number"]) + 1
        self.pictures, self._codec, self._number, self._num_frames = pictures, codec, number, 0
        self.path = folder / f"{name}.{number}.nut"
        self._file = self.path.open("wb")
        self._container = av.open(self._file, "w", format="nut", options={"fflags": "+flush_packets+bitexact"})
        self._stream = codec.stream(self._container, pictures)
        self._encoder: VideoCodecContext | None = None
        self._widen = None if pictures.pixel_aspect == "1" else _with_pixel_aspect(pictures)
        if resume_state is not None:
            # The checkpoint before it, and its file, must survive until the next one.
            for older in range(number - 1):
                (folder / f"{name}.{older}.nut").unlink(missing_ok=True)
            with ExitStack() as on_failure:
                on_failure.callback(self.close)
                self._copy(folder / f"{name}.{number - 1}.nut", int(resume_state["frames"]))
                on_failure.pop_all()

    def add(self, frame: VideoFrame, ticks: int) -> None:
        """Encodes one picture, to be shown at this time."""
        frame.pts, frame.time_base = ticks, _TIME_BASE
        if self._widen is not None:
            self._widen.push(frame)
            frame = cast(VideoFrame, self._widen.pull())
        self._encoder = self._encoder or self._codec.encoder(self.pictures)
        self._mux(self._encoder.encode(frame))
        self._num_frames += 1
        if self._num_frames % STRETCH == 0:
            self._end_stretch()

    def resume_state(self) -> ResumeState:
        """Returns the state from which a later run can resume; only at the end of a stretch."""
        assert self._encoder is None, f"frame {self._num_frames} is within a stretch"
        return {"number": self._number, "frames": self._num_frames, **asdict(self.pictures)}

    def sync(self) -> None:
        """Makes the stretches so far durable."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Writes what the encoder still holds and closes the file, which then is whole."""
        with self._file, self._container:
            self._end_stretch()

    def remux(self, target: Path) -> None:
        """Copies the closed file into the container that the suffix of the target says."""
        # faststart puts the index of an mp4 in front, so that a browser or a pipe can play it.
        is_mp4 = target.suffix.lower() == ".mp4"
        options = {"fflags": "+bitexact"} | ({"movflags": "faststart"} if is_mp4 else {})
        with _packets(self.path) as source, av.open(f"file:{target}", "w", options=options) as container:
            stream = container.add_stream_from_template(source.streams.video[0])
            for packet in _whole(source):
                packet.stream = stream
                container.mux(packet)

    def _copy(self, path: Path, num_frames: int) -> None:
        """Takes over the first frames of an earlier file: without B-frames, each is one packet."""
        if not path.is_file():
            require(path, 0, num_frames, "frames")
        with _packets(path) as source:
            for packet in islice(_whole(source), num_frames):
                self._mux([packet])
                self._num_frames += 1
        require(path, self._num_frames, num_frames, "frames")

    def _mux(self, packets: Iterable[AnyPacket]) -> None:
        for packet in packets:
            packet.stream = self._stream
            self._container.mux(packet)

    def _end_stretch(self) -> None:
        if self._encoder is not None:
            self._mux(self._encoder.encode(None))
            self._encoder = None


def _describe(context: VideoCodecContext, pictures: Pictures) -> None:
    context.width, context.height, context.pix_fmt = pictures.width, pictures.height, pictures.pixel_format
    context.time_base = _TIME_BASE
    if pictures.pixel_aspect != "1":
        context.sample_aspect_ratio = Fraction(pictures.pixel_aspect)
    if pictures.pixel_format == "yuv420p":
        context.colorspace = context.color_primaries = context.color_trc = _BT709


def _with_pixel_aspect(pictures: Pictures) -> Graph:
    """Returns a filter that writes the pixel aspect into a frame, the only place from which FFV1 takes it."""
    graph = Graph()
    source = graph.add_buffer(
        width=pictures.width, height=pictures.height, format=VideoFormat(pictures.pixel_format), time_base=_TIME_BASE
    )
    setting, sink = graph.add("setsar", pictures.pixel_aspect), graph.add("buffersink")
    source.link_to(setting)
    setting.link_to(sink)
    graph.configure()
    return graph


def _packets(path: Path) -> InputContainer:
    return av.open(f"file:{path}", "r", options={"protocol_whitelist": "file"})


def _whole(source: InputContainer) -> Iterable[AnyPacket]:
    return (packet for packet in source.demux(source.streams.video[0]) if packet.size and not packet.is_corrupt)

"""Video encoding that survives a crash: in stretches, each of which is independent of the ones before.

The state of an encoder cannot be saved. So every `STRETCH` frames a new one begins, and a run that resumes after such a
stretch encodes exactly the same bits as one that was never interrupted. Packets go into a NUT file, which players can
read wherever it is cut off, and are copied into the final container when the video ends.
"""

import errno
import heapq
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import cast

import av
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mnemask.io.atomic import ResumeState, require
from mnemask.io.decoder import AnyPacket
from mnemask.io.footage import BT709, TICKS_PER_SECOND, Colours
from mnemask.io.sound import Excerpt, Sound

logger = logging.getLogger(__name__)

# Two seconds of most videos: keyframes are as frequent as in the files of streaming services.
STRETCH = 48


@dataclass(frozen=True, slots=True)
class StreamParameters:
    """The properties that all pictures of a video share.

    Attributes:
        width: width in pixels.
        height: height in pixels.
        pixel_format: FFmpeg's name of the pixel format.
        pixel_aspect: width of a pixel divided by its height, as shown, such as "16/11".
        colours: meaning of the stored values.
        ticks_per_second: resolution of the presentation times.
        period: duration of the last picture so far, in ticks.
    """

    width: int
    height: int
    pixel_format: str
    pixel_aspect: str = "1"
    colours: Colours = BT709
    ticks_per_second: int = TICKS_PER_SECOND
    period: int = TICKS_PER_SECOND // 25

    @classmethod
    def of_state(cls, state: ResumeState) -> "StreamParameters":
        """Returns the parameters in a resume state."""
        values = {each.name: state[each.name] for each in fields(cls)}
        return cls(**{**values, "colours": Colours(**values["colours"])})

    @property
    def time_base(self) -> Fraction:
        """The length of a tick, in seconds."""
        return Fraction(1, self.ticks_per_second)


@dataclass(frozen=True, slots=True)
class Codec:
    """How pictures are encoded.

    Attributes:
        name: FFmpeg's name of the encoder.
        options: options of the encoder.
        rate: frames per second.
        growing_suffix: suffix of the file while it grows: nut, mkv or webm, which hold such packets and can be read up
            to where they were cut off.
        tag: codec tag in an mp4 or mov file, if FFmpeg would choose another one.

    Matroska (mkv, webm) counts in milliseconds. Here it stores ticks in their place: the growing file plays at the
    wrong speed, but times are not rounded. Matroska also holds a packet back until the next one comes. So after each
    stretch the last packet is written once more, a tick later, where no frame can be.
    """

    name: str
    options: Mapping[str, str]
    rate: Fraction
    growing_suffix: str = "nut"
    tag: str = ""

    @property
    def is_matroska(self) -> bool:
        """Whether the container stores ticks as milliseconds."""
        return self.growing_suffix != "nut"

    def encoder(self, parameters: StreamParameters) -> VideoCodecContext:
        """Returns a new encoder."""
        context = av.CodecContext.create(self.name, "w")
        assert isinstance(context, VideoCodecContext)
        context.framerate, context.options = self.rate, self._options_for(parameters)
        context.flags |= Flags.global_header
        _describe(context, parameters)
        return context

    def stream(self, container: OutputContainer, parameters: StreamParameters) -> VideoStream:
        """Adds a stream for the packets of such encoders to a container and returns it."""
        stream = container.add_stream(self.name, rate=self.rate, options=self._options_for(parameters))
        assert isinstance(stream, VideoStream)
        _describe(stream.codec_context, parameters)
        if self.tag:
            stream.codec_context.codec_tag = self.tag
        return stream

    def _options_for(self, parameters: StreamParameters) -> dict[str, str]:
        # FFV1 of level 3 cuts a picture into two or more slices side by side, impossible with one column of pixels.
        return {"level": "1"} if self.name == "ffv1" and parameters.width == 1 else dict(self.options)

    def path(self, folder: Path, name: str, number: int) -> Path:
        """Returns the path of a growing file."""
        return folder / f"{name}.{number}.{self.growing_suffix}"


_FORMATS = {"nut": "nut", "mkv": "matroska", "webm": "webm"}
_MILLISECOND = Fraction(1, 1000)


class StretchedVideo:
    """A video file that grows, and is continued where a checkpoint left it.

    Args:
        folder: folder of the file.
        name: name of the file, to which a number and the suffix are added.
        codec: how to encode.
        parameters: properties of the pictures.
        resume_state: state of an earlier run, whose file is continued.
        begun: number of frames that count as before the first one; the first stretch is shorter by them.

    Raises:
        OutputError: the file of the earlier run is shorter than its resume state requires.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        codec: Codec,
        parameters: StreamParameters,
        resume_state: ResumeState | None = None,
        begun: int = 0,
    ) -> None:
        number = 0 if resume_state is None else int(resume_state["number"]) + 1
        self.parameters, self._codec, self._number, self._num_frames = parameters, codec, number, 0
        self._begun = begun
        self.path = codec.path(folder, name, number)
        self._file = self.path.open("wb")
        options = {"fflags": "+flush_packets+bitexact"}
        if codec.is_matroska:
            options["cluster_time_limit"] = "0"  # each packet reaches the disk when the next one comes
        self._container = av.open(self._file, "w", format=_FORMATS[codec.growing_suffix], options=options)
        self._stream = codec.stream(self._container, parameters)
        self._container.start_encoding()
        self._encoder: VideoCodecContext | None = None
        self._last: AnyPacket | None = None
        self._widen = None if parameters.pixel_aspect == "1" else _with_pixel_aspect(parameters)
        if resume_state is not None:
            # The checkpoint before it, and its file, must survive until the next one.
            for older in range(number - 1):
                codec.path(folder, name, older).unlink(missing_ok=True)
            with ExitStack() as on_failure:
                on_failure.callback(self.close)
                self._copy(codec.path(folder, name, number - 1), int(resume_state["frames"]))
                on_failure.pop_all()

    def add(self, frame: VideoFrame, ticks: int) -> None:
        """Encodes one picture with this presentation time."""
        frame.pts, frame.time_base = ticks, self.parameters.time_base
        if self._widen is not None:
            self._widen.push(frame)
            frame = cast(VideoFrame, self._widen.pull())
        self._encoder = self._encoder or self._codec.encoder(self.parameters)
        self._encode(frame)
        self._num_frames += 1
        if (self._num_frames + self._begun) % STRETCH == 0:
            self._end_stretch()

    def resume_state(self) -> ResumeState:
        """Returns the state from which a later run can resume; valid only at the end of a stretch."""
        assert self._encoder is None, f"frame {self._num_frames} is within a stretch"
        return {"number": self._number, "frames": self._num_frames, **asdict(self.parameters)}

    def sync(self) -> None:
        """Makes the stretches so far durable."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flushes the encoder and closes the file, which is then complete."""
        with self._file, self._container:
            self._end_stretch()

    def remux(
        self, target: Path, excerpt: Excerpt | None = None, timecode: str = "", tags: Mapping[str, str] | None = None
    ) -> None:
        """Copies the closed file into the container of the target's suffix, with sound and tags.

        Sound that the container does not accept is re-encoded; if that is impossible too, the video has none. Both are
        logged as warnings.
        """
        ways = [] if excerpt is None else [(excerpt, True), (excerpt, False)]
        for sound, copied in ways:
            try:
                return self._join(target, Sound(sound, copied), timecode, tags or {})
            except (FFmpegError, ValueError) as error:
                if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                    raise
                how = "copied" if copied else "re-encoded"
                logger.warning("the sound of %s cannot be %s for %s (%s)", sound.path.name, how, target.suffix, error)
        return self._join(target, None, timecode, tags or {})

    def _join(self, target: Path, sound: Sound | None, timecode: str, tags: Mapping[str, str]) -> None:
        suffix = target.suffix.lower()
        options = {"fflags": "+bitexact"}
        if suffix in (".mp4", ".mov"):
            options["video_track_timescale"] = str(self.parameters.ticks_per_second)
        if suffix == ".mp4":
            # Puts the index at the front, so that a browser or a pipe can play it.
            options["movflags"] = "faststart"
        with ExitStack() as stack:
            source = stack.enter_context(_packets(self.path))
            container = stack.enter_context(av.open(f"file:{target}", "w", options=options))
            container.metadata.update(tags)
            if self._codec.tag:
                # The growing file does not keep all that the encoder states: players need 32 bits per pixel for alpha.
                stream = self._codec.stream(container, self.parameters)
                stream.metadata.update({"timecode": timecode} if timecode else {})
            else:
                stream = container.add_stream_from_template(source.streams.video[0])
            if self.parameters.pixel_format == "yuva420p":
                stream.metadata["alpha_mode"] = "1"  # without which browsers show no alpha
            if self.parameters.pixel_aspect != "1":  # some containers do not keep it
                stream.codec_context.sample_aspect_ratio = Fraction(self.parameters.pixel_aspect)
            streams = [_retimed(_whole(source, self._codec), stream, self.parameters)]
            if sound is not None:
                streams.append(stack.enter_context(sound).packets(container))
            # In order of time: packets that wait for others are held in memory by the muxer.
            for packet in heapq.merge(*streams, key=lambda packet: (packet.dts or 0) * (packet.time_base or 0)):
                container.mux(packet)

    def _copy(self, path: Path, num_frames: int) -> None:
        """Copies the first frames of an earlier file: without B-frames, each is one packet."""
        if not path.is_file():
            require(path, 0, num_frames, "frames")
        with _packets(path) as source:
            for packet in islice(_whole(source, self._codec), num_frames):
                self._mux([packet])
                self._num_frames += 1
            self._push_out()
        require(path, self._num_frames, num_frames, "frames")

    def _mux(self, packets: Iterable[AnyPacket]) -> None:
        for packet in packets:
            packet.stream = self._stream
            self._container.mux(packet)
            self._last = packet

    def _end_stretch(self) -> None:
        if self._encoder is not None:
            self._encode(None)
            self._encoder = None
            self._push_out()

    def _encode(self, frame: VideoFrame | None) -> None:
        assert self._encoder is not None, "within a stretch there is one"
        packets = self._encoder.encode(frame)
        for packet in packets if self._codec.is_matroska else ():
            packet.time_base = _MILLISECOND
        self._mux(packets)

    def _push_out(self) -> None:
        """Makes Matroska write the last packet too."""
        if self._codec.is_matroska and self._last is not None:
            self._last.pts = self._last.dts = (self._last.pts or 0) + 1
            self._container.mux(self._last)


def _describe(context: VideoCodecContext, parameters: StreamParameters) -> None:
    context.width, context.height, context.pix_fmt = parameters.width, parameters.height, parameters.pixel_format
    context.time_base = parameters.time_base
    if parameters.pixel_aspect != "1":
        context.sample_aspect_ratio = Fraction(parameters.pixel_aspect)
    if not parameters.pixel_format.startswith("gray"):
        colours = parameters.colours
        context.color_primaries, context.color_trc = colours.primaries, colours.transfer
        context.colorspace, context.color_range = colours.matrix, colours.range


def _retimed(packets: Iterable[AnyPacket], stream: VideoStream, parameters: StreamParameters) -> Iterator[AnyPacket]:
    """Yields the packets for a stream; the last one gets a duration, since no later one implies it."""
    last: AnyPacket | None = None
    for packet in packets:
        if packet.time_base == _MILLISECOND:  # of Matroska
            packet.time_base, packet.duration = parameters.time_base, 0
        if last is not None:
            yield last
        packet.stream = stream
        last = packet
    if last is not None:
        if last.time_base:
            last.duration = round(parameters.period * parameters.time_base / last.time_base)
        yield last


def _with_pixel_aspect(parameters: StreamParameters) -> Graph:
    """Returns a filter that sets the pixel aspect of a frame, the only place from which FFV1 takes it."""
    graph = Graph()
    source = graph.add_buffer(
        width=parameters.width,
        height=parameters.height,
        format=VideoFormat(parameters.pixel_format),
        time_base=parameters.time_base,
    )
    setting, sink = graph.add("setsar", parameters.pixel_aspect), graph.add("buffersink")
    source.link_to(setting)
    setting.link_to(sink)
    graph.configure()
    return graph


def _packets(path: Path) -> InputContainer:
    return av.open(f"file:{path}", "r", options={"protocol_whitelist": "file"})


def _whole(source: InputContainer, codec: Codec) -> Iterator[AnyPacket]:
    """Yields each packet of a growing file once, without the repeated ones of Matroska."""
    before: int | None = None
    for packet in source.demux(source.streams.video[0]):
        if not packet.size or packet.is_corrupt:
            continue
        once_more = codec.is_matroska and before is not None and packet.pts == before + 1
        before = packet.pts
        if not once_more:
            yield packet

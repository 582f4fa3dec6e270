"""The sound of a source in the videos made from it: copied or re-encoded, and cut to their frames."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError

from mnemask.io.decoder import AnyPacket, open_container

logger = logging.getLogger(__name__)

# Codecs that players and editing programs read in each container. FFmpeg would write more.
_COPIED = {
    "mp4": ("aac", "mp3", "ac3", "eac3", "alac"),
    "mov": ("aac", "mp3", "ac3", "eac3", "alac"),
    "webm": ("opus", "vorbis"),
}
# Encoders for all other sound.
_ENCODER = {"mp4": "aac", "mov": "pcm_s16le", "webm": "libopus"}
_SPOKEN = {"aac": "AAC", "libopus": "Opus", "pcm_s16le": "PCM of 16 bits", "pcm_s24le": "PCM of 24 bits"}
_BITS_PER_CHANNEL = {"aac": 96_000, "libopus": 64_000}
# Samples in a packet of encoders that state no frame size, such as raw PCM.
_CHUNK = 1024
# In seconds: decoders of overlapping blocks need earlier ones.
_LEAD_IN = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The sound of a file from one time to another, in seconds of the file's own clock."""

    path: Path
    begin: Fraction
    end: Fraction


class Sound:
    """All sound of an excerpt, as packets for a container.

    Args:
        excerpt: the sound to use.
        copies: whether sound that the container accepts is copied, in whole packets.
    """

    def __init__(self, excerpt: Excerpt, copies: bool) -> None:
        self._excerpt, self._copies = excerpt, copies
        self._source = open_container(f"file:{excerpt.path}", {"protocol_whitelist": "file"})

    def __enter__(self) -> "Sound":
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()

    def packets(self, target: OutputContainer) -> Iterator[AnyPacket]:
        """Adds a stream for each of the source's and returns their packets, in the order of their times."""
        tracks: dict[int, _Copied | _Encoded] = {}
        for stream in self._source.streams.audio:
            if getattr(stream, "codec_context", None) is None:
                logger.warning(
                    "sound stream %d of %s has an unknown codec and is left out", stream.index, self._excerpt.path
                )
                continue
            tracks[stream.index] = self._track(stream, target)
        return self._read(tracks)

    def _track(self, stream: AudioStream, target: OutputContainer) -> "_Copied | _Encoded":
        kind, name = target.format.name, stream.codec_context.codec.canonical_name
        if self._copies and name in _COPIED.get(kind, ()):
            return _Copied(stream, target, self._excerpt)
        if kind == "mov" and name.startswith("pcm_") and name in target.supported_codecs:
            return _Encoded(stream, target, self._excerpt, name)  # the same samples, cut at any of them
        encoder = _ENCODER[kind]
        if encoder == "pcm_s16le" and stream.codec_context.format.bytes > 2:
            encoder = "pcm_s24le"
        said = "%s: its sound is re-encoded as %s, since few programs read %s in .%s files"
        logger.warning(said, self._excerpt.path.name, _SPOKEN[encoder], name, kind)
        return _Encoded(stream, target, self._excerpt, encoder)

    def _read(self, tracks: "dict[int, _Copied | _Encoded]") -> Iterator[AnyPacket]:
        if not tracks:
            return
        begin, end = self._excerpt.begin, self._excerpt.end
        if begin > 2 * _LEAD_IN:
            self._source.seek(int((begin - 2 * _LEAD_IN) * av.time_base))
        unfinished = set(tracks)
        for packet in self._source.demux([self._source.streams[index] for index in tracks]):
            if packet.stream_index not in tracks or packet.pts is None or packet.is_corrupt:
                continue
            if packet.pts * packet.time_base >= end:
                unfinished.discard(packet.stream_index)
                if not unfinished:
                    break
                continue
            yield from tracks[packet.stream_index].feed(packet)
        for track in tracks.values():
            yield from track.flush()


class _Copied:
    """A copied stream: the packets that overlap with the excerpt.

    An mp4 or mov file states where in the first packet to start playing; Opus and Vorbis in WebM start with a packet
    more than half of which is within the excerpt.
    """

    def __init__(self, stream: AudioStream, target: OutputContainer, excerpt: Excerpt) -> None:
        self._out = target.add_stream_from_template(stream)
        _name(self._out, stream)
        unit = stream.time_base or Fraction(1)
        self._begin = excerpt.begin / unit
        self._by_half = target.format.name == "webm"
        self._kept: list[AnyPacket] = []
        self._began = False

    def feed(self, packet: AnyPacket) -> Iterator[AnyPacket]:
        assert packet.pts is not None, "packets without times are left out before"
        length = packet.duration or 0
        reach = packet.pts + (length // 2 if self._by_half else length)
        if reach <= self._begin and not self._began:
            # One more packet, which is not heard: blocks of AAC and MP3 need the one before.
            self._kept = [] if self._by_half else [packet]
            return
        self._began = True
        for each in (*self._kept, packet):
            shift = round(self._begin)
            each.pts = (each.pts or 0) - shift
            each.dts = each.pts if each.dts is None else each.dts - shift
            each.stream = self._out
            yield each
        self._kept = []

    def flush(self) -> Iterator[AnyPacket]:
        return iter(())


# For camera tracks that do not state where their channels are heard, as encoders require.
_LAYOUTS = {
    "1 channels": "mono",
    "2 channels": "stereo",
    "4 channels": "quad",
    "6 channels": "5.1",
    "8 channels": "7.1",
}


class _Encoded:
    """A re-encoded stream, cut to the sample; gaps in the sound become silence."""

    def __init__(self, stream: AudioStream, target: OutputContainer, excerpt: Excerpt, encoder: str) -> None:
        source = stream.codec_context
        assert isinstance(source, AudioCodecContext), "a stream of sound"
        codec = av.Codec(encoder, "w")
        rates = codec.audio_rates
        self._rate = source.sample_rate if not rates or source.sample_rate in rates else 48_000
        layout = _LAYOUTS.get(source.layout.name, source.layout.name)
        if encoder == "libopus" and source.layout.nb_channels > 2:
            layout = "stereo"
            logger.warning("%s: %d sound channels are mixed down to 2", excerpt.path.name, source.layout.nb_channels)
        self._format = (codec.audio_formats or [source.format])[0].name
        out = target.add_stream(encoder, rate=self._rate, layout=layout)
        assert isinstance(out, AudioStream), "an encoder of sound"
        self._out = out
        self._out.codec_context.format = self._format
        _name(self._out, stream)
        channels = self._out.codec_context.layout.nb_channels
        if encoder in _BITS_PER_CHANNEL:
            self._out.codec_context.bit_rate = _BITS_PER_CHANNEL[encoder] * channels
        self._layout, self._channels = layout, channels
        self._begin, self._total = excerpt.begin, round((excerpt.end - excerpt.begin) * self._rate)
        self._source = source
        self._resampler = AudioResampler(self._format, layout, self._rate)
        self._fifo = AudioFifo()
        self._taken = self._given = 0

    def feed(self, packet: AnyPacket) -> Iterator[AnyPacket]:
        try:
            frames = cast(list[AudioFrame], packet.decode())
        except FFmpegError:
            return  # what is missing becomes silence
        for frame in frames:
            yield from self._take(frame)

    def flush(self) -> Iterator[AnyPacket]:
        try:
            for frame in self._source.decode(None):
                yield from self._take(frame)
        except FFmpegError:
            pass
        yield from self._encode(last=True)
        yield from self._packets(None)

    def _take(self, frame: AudioFrame) -> Iterator[AnyPacket]:
        if frame.pts is None or frame.time_base is None:
            return
        start = round((frame.pts * frame.time_base - self._begin) * self._rate)
        frame.pts = None
        for resampled in self._resampler.resample(frame):
            values = resampled.to_ndarray()
            planar = resampled.format.is_planar
            step = 1 if planar else self._channels
            length = values.shape[1] // step
            gap = start - self._taken
            if self._taken and abs(gap) < self._rate // 100:
                gap = 0  # rounded by the container
            skipped = min(max(-gap, 0), length)
            if gap > 0:
                silent = min(gap, max(self._total - self._taken, 0))
                self._add(np.zeros((values.shape[0], silent * step), values.dtype))
            room = max(self._total - self._taken, 0)
            self._add(values[:, skipped * step : min(length, skipped + room) * step])
            start += length
        yield from self._encode(last=False)

    def _add(self, values: "np.ndarray[Any, np.dtype[Any]]") -> None:
        if not values.shape[1]:
            return
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(values), self._format, self._layout)
        frame.sample_rate = self._rate
        self._fifo.write(frame)
        self._taken += frame.samples

    def _encode(self, *, last: bool) -> Iterator[AnyPacket]:
        size = self._out.codec_context.frame_size or _CHUNK
        while frame := self._fifo.read(size, partial=last):
            frame.pts, frame.time_base = self._given, Fraction(1, self._rate)
            self._given += frame.samples
            yield from self._packets(frame)

    def _packets(self, frame: AudioFrame | None) -> Iterator[AnyPacket]:
        for packet in self._out.encode(frame):
            if packet.dts is None:
                packet.dts = packet.pts
            yield packet


def _name(target: AudioStream, source: AudioStream) -> None:
    """Copies the tags that tell one track from another."""
    target.metadata.update({key: source.metadata[key] for key in ("language", "title") if key in source.metadata})

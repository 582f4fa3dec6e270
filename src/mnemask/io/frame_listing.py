"""Lists of the packets and of the frames of a video file.

Listing packets takes little time, but not each need give a frame; listing frames takes as long as decoding the video.
"""

from dataclasses import dataclass

import numpy as np
from av.error import FFmpegError
from av.video.stream import VideoStream
from jaxtyping import Bool, Float64, Int64

from mnemask.errors import FrameError
from mnemask.io.decoder import AnyPacket, ReadSoFar, states_no_times
from mnemask.io.pictures import Damaged, EventLog
from mnemask.io.stream import Clock, EncodedVideo

SAMPLED = 64  # packets of the beginning that are decoded to learn whether each gives one frame


@dataclass(frozen=True, slots=True)
class Packets:
    """The packets of a video that are shown, in the order in which they are stored.

    Attributes:
        times: presentation time in ticks.
        seconds: the same in seconds; NaN if the length of a tick is unknown.
        keys: whether it is a keyframe.
        tell_frames: whether they seem to be all frames of an intact video, and state their times.
        shuffled: whether frames are stored in another order than they are shown, but only that of storage is stated.
        gapped: whether packets are missing, so that those after a seek may have other times than in the list.
        searched: whether a seek searches the file for a time of decoding, having no index of the keyframes.
    """

    times: Int64[np.ndarray, " T"]
    seconds: Float64[np.ndarray, " T"]
    keys: Bool[np.ndarray, " T"]
    tell_frames: bool
    shuffled: bool
    gapped: bool
    searched: bool


def list_packets(video: EncodedVideo) -> Packets:
    """Returns the packets of a video, without decoding them."""
    times: list[int] = []
    keys: list[bool] = []
    with video._open() as container:
        stream = video._stream(container)
        untimed = states_no_times(container)
        shuffled = untimed and bool(stream.codec_context.has_b_frames)
        tell = not shuffled
        progress = ReadSoFar(container, stream)
        last: int | None = None
        num_counted = 0
        try:
            for packet in container.demux():
                if untimed:
                    packet.pts = packet.dts
                progress.add_packet(packet)
                if packet.stream_index != stream.index:
                    continue
                if packet.dts is not None:
                    num_counted = packet.dts + 1
                if not _is_shown(packet, stream):
                    continue
                goes_back = last is not None and packet.dts is not None and packet.dts < last
                last = packet.dts
                if packet.pts is None or packet.is_corrupt or goes_back:
                    tell = False
                if packet.pts is not None:
                    times.append(packet.pts)
                    keys.append(packet.is_keyframe)
        except FFmpegError:
            tell = False
        base = stream.time_base
        searched = container.format.name in ("mpegts", "mpeg")
        gapped = untimed and num_counted < stream.frames
        tell = tell and bool(times) and not gapped and not progress.broke_off()
    ticks = np.array(times, np.int64)
    seconds = np.full(len(ticks), np.nan) if base is None else ticks * base.numerator / base.denominator
    return Packets(ticks, seconds, np.array(keys, bool), tell, shuffled, gapped, searched)


def _is_shown(packet: AnyPacket, stream: VideoStream) -> bool:
    """Returns whether a packet is to give a frame."""
    if not packet.size or packet.is_discard:
        return False
    # VP8 has packets that only help to predict others.
    return stream.codec_context.codec.canonical_name != "vp8" or bool(memoryview(packet)[0] & 0x10)


def gives_what_packets_tell(video: EncodedVideo, packets: Packets) -> bool:
    """Returns whether each of the first packets gives one frame at its time.

    Not so if the beginning is predicted from what was cut off, or the two fields of a frame are packets of their own.
    """
    told: list[int | None] = []
    given: list[tuple[int | None, bool, bool]] = []  # time, corrupt, interlaced; not the pictures, which may be large
    with video._open() as container:
        stream = video._stream(container)
        untimed = states_no_times(container)
        stream.codec_context.thread_type = "AUTO"
        try:
            for packet in container.demux(stream):
                if untimed:
                    packet.pts = packet.dts
                if _is_shown(packet, stream):
                    told.append(packet.pts)
                found = packet.decode()
                if len(told) == SAMPLED:
                    found += stream.codec_context.decode(None)
                given += [(frame.pts, frame.is_corrupt, frame.interlaced_frame) for frame in found]
                if len(told) == SAMPLED:
                    break
        except FFmpegError:
            return False
        fields = stream.codec_context.name == "h264" and any(interlaced for _, _, interlaced in given)
    if any(corrupt for _, corrupt, _ in given) or None in told:
        return False
    # Later frames of such a video may be two packets each.
    steps = np.diff(np.sort(packets.times))
    if fields and len(steps) and steps.min() < 0.75 * steps.max():
        return False
    return [time for time, _, _ in given] == sorted(time for time in told if time is not None)


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of a video, damaged ones included, in the order in which they are shown.

    Attributes:
        times: presentation time in ticks, where `timed`.
        timed: whether the time is known.
        intact: whether it is not damaged.
        seconds: the time that `VideoReader` gives it; NaN if it gives none.
        keys: whether it is a keyframe.
    """

    times: Int64[np.ndarray, " T"]
    timed: Bool[np.ndarray, " T"]
    intact: Bool[np.ndarray, " T"]
    seconds: Float64[np.ndarray, " T"]
    keys: Bool[np.ndarray, " T"]


def list_frames(video: EncodedVideo) -> Frames:
    """Returns the frames of a video, by decoding it.

    Raises:
        FrameError: they have no presentation times.
    """
    times: list[int] = []
    timed: list[bool] = []
    intact: list[bool] = []
    seconds: list[float] = []
    keys: list[bool] = []
    clock = Clock(EventLog())
    with video._open() as container:
        base = video._stream(container).time_base
        for item in video._decoding(container).frames():
            if isinstance(item, Damaged):
                if item.ends:
                    break
                shown_at = item.seconds
                ticks = None if shown_at is None or base is None else round(shown_at / base)
            else:
                shown_at, ticks = item[1], item[0].pts
                if ticks is None:
                    raise FrameError(
                        f"{video.name!r} has no presentation times, so its frames cannot be found by number",
                        "remux it into another container first (ffmpeg -i IN -c copy OUT.mp4)",
                    )
            shown_at = clock.of(shown_at, len(times))
            seconds.append(np.nan if shown_at is None else shown_at)
            times.append(ticks or 0)
            timed.append(ticks is not None)
            intact.append(not isinstance(item, Damaged))
            keys.append(not isinstance(item, Damaged) and bool(item[0].key_frame))
    return Frames(
        np.array(times, np.int64),
        np.array(timed, bool),
        np.array(intact, bool),
        np.array(seconds, np.float64),
        np.array(keys, bool),
    )

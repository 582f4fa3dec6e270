"""Decodes the frames of one opened container, and finds where it is damaged or cut off.

Whether a video ended or was cut off is decided by comparing what its header promises with what was read.
"""

import errno
import logging
from collections.abc import Iterator
from fractions import Fraction
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import av
from av.container import InputContainer
from av.error import ExitError, FFmpegError, InvalidDataError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mnemask.errors import FrameError
from mnemask.io.footage import average_rate
from mnemask.io.pictures import LONG_GAP_SECONDS, Damaged

logger = logging.getLogger(__name__)


if TYPE_CHECKING:
    AnyPacket = Packet[Any]  # generic for the type checker only
else:
    AnyPacket = Packet

# Up to PyAV 18, text in a header that is not UTF-8 is an error unless this option is set; from 19 on it never is, and
# the option is gone.
_LENIENT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def open_container(
    source: Any,
    options: dict[str, str],
    timeout: tuple[float, float] | None = None,
) -> InputContainer:
    """Returns the opened container; raises FFmpegError or OSError if it cannot be opened.

    Args:
        source: `file:PATH`, an address, or a binary file object.
        options: options of FFmpeg.
        timeout: seconds to wait for opening and for each read, after which FFmpeg raises ExitError; None for no limit.
    """
    container: InputContainer = av.open(source, "r", options=options, timeout=timeout, **_LENIENT)
    return container


# No frame is missing in a step of up to this many frame periods.
_EVEN = 1.5
# Headers round times, and sound starts and ends up to two of its packets, 0.25 s at 8 kHz, off the stated ones.
_SLACK_SECONDS, _SLACK_SECONDS_WITH_SOUND = 0.05, 0.25


def promised_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """Returns the longest stream's duration in the header (AVI: the video's); None for formats where it is a guess."""
    if container.format.name == "avi":
        return float(stream.frames / stream.average_rate) if stream.average_rate else None
    if not container.duration:
        return None
    if "matroska" in container.format.name:
        # It counts from 0, even if the first frame is shown later.
        return (container.duration - (container.start_time or 0)) / av.time_base
    return container.duration / av.time_base if "mov" in container.format.name else None


def promised_frames(container: InputContainer, stream: VideoStream) -> tuple[int | None, bool]:
    """Returns the number of frames according to the header, None if it states none, and whether that is certain.

    The count of an MP4 covers only its first fragment and includes frames that an edit list hides, so the duration of
    the video stream is a better guide.
    """
    rate = average_rate(stream)
    seconds = promised_seconds(container, stream)
    is_mov = "mov" in container.format.name
    if is_mov and stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)  # excludes sound, which may last longer
    by_time = round(seconds * rate) if seconds and rate else None
    doubtful = is_mov and bool(stream.average_rate) and by_time is not None and abs(by_time - stream.frames) > 1
    return (stream.frames, True) if stream.frames and not doubtful else (by_time, False)


class ReadSoFar:
    """Tracks how far a video has been read.

    Times are compared, not frame counts: edit lists hide frames that the header counts, and a Matroska header counts
    none. Packets of all streams are taken into account, since the promised duration is that of the longest.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        rate = average_rate(stream)
        self.num_frames = 0
        self.cut = False
        self._estimated = promised_seconds(container, stream)
        self._num_promised, _ = promised_frames(container, stream)
        self._slack = _SLACK_SECONDS if len(container.streams) == 1 else _SLACK_SECONDS_WITH_SOUND
        # Matroska does not state how long the last frame is shown; at a variable frame rate that may be long.
        self._last_frame_unknown = "matroska" in container.format.name
        self._start = (container.start_time or 0) / av.time_base
        self._reached = self._start
        self._period = self._longest_gap = float(1 / rate) if rate else 0.0
        self._last_seconds: float | None = None
        self._num_since = self._num_too_many = 0

    def add_packet(self, packet: AnyPacket) -> None:
        """Records that the file was read intact up to the end of this packet."""
        if packet.pts is not None:
            time_base = packet.time_base or Fraction(1)
            self._reached = max(self._reached, float((packet.pts + (packet.duration or 0)) * time_base))

    def add_frame(self, seconds: float | None) -> None:
        """Records one more frame, decoded or missing."""
        self.num_frames += 1
        self._num_since += 1
        if seconds is not None:
            if self._last_seconds is not None:
                self._longest_gap = max(self._longest_gap, seconds - self._last_seconds)
            self._last_seconds, self._num_since = seconds, 0

    def even_until_now(self) -> bool:
        """Returns whether frames were evenly spaced so far, so that a gap tells how many are missing in it."""
        return self._last_seconds is not None and 0 < self._longest_gap <= _EVEN * self._period

    def count_missing(self, seconds: float | None) -> int:
        """Returns how many frames of an evenly spaced video are missing before the next one, beyond those recorded.

        A multithreaded decoder may report damage some frames too early; later calls compensate for that.
        """
        if seconds is None or self._last_seconds is None or seconds - self._last_seconds > LONG_GAP_SECONDS:
            return 0
        self._num_too_many += self._num_since + 1 - round((seconds - self._last_seconds) / self._period)
        missing = max(-self._num_too_many, 0)
        self._num_too_many += missing
        return missing

    def is_short(self) -> bool:
        """Returns whether less was read than the header promises, even by a frame or two that `broke_off` tolerates."""
        return self._estimated is not None and self._reached - self._start < self._estimated - self._slack

    def broke_off(self) -> bool:
        """Returns whether frames are missing at the end."""
        if self.cut or self._estimated is None:
            return self.cut
        missing = self._estimated - (self._reached - self._start)
        return missing > self._slack + (2 * self._longest_gap if self._last_frame_unknown else 0.0)

    def __str__(self) -> str:
        of = f" of {self._num_promised}" if self._num_promised else ""
        return f"{self.num_frames}{of} frames"


GO_ON = "continue without them (--on-corrupt hold or skip)"
REPAIR = f"fetch the file again, re-encode it with FFmpeg, which guesses what is missing, or {GO_ON}"
# Bytes of a packet of a transport stream: plain, from a camera (m2ts), with a checksum.
_TS_PACKETS = (188, 192, 204)
# A demuxer that fails this many times in a row will find no more packets.
_MOST_FAILURES = 10


def states_no_times(container: InputContainer) -> bool:
    """Returns whether the format states only the order of the packets, so that frames are shown evenly, in their order.

    The presentation times that FFmpeg makes up for an AVI go back where it has B-frames.
    """
    return container.format.name == "avi"


def _size(container: InputContainer) -> int:
    """Returns the bytes of a file; 0 or less if unknown, as for a pipe, where PyAV 19 says None."""
    return container.size or 0


def is_recording(container: InputContainer) -> bool:
    """Returns whether an address gives a file, which a new connection reads from its beginning, and not a broadcast."""
    stream = container.streams.best("video")
    return _size(container) > 0 or (isinstance(stream, VideoStream) and bool(promised_seconds(container, stream)))


def _ends_a_body(container: InputContainer, error: FFmpegError) -> bool:
    """Returns whether the error is a web server that stated no length marking the end by closing the connection.

    FFmpeg reports that as a failure. The header may tell whether the video is complete.
    """
    return _is_http(container) and _size(container) <= 0 and error.errno == errno.EIO


def _ends_in_a_packet(container: InputContainer) -> bool:
    """Returns whether a transport stream, which states no length, ends within one of its packets."""
    return container.format.name == "mpegts" and _size(container) > 0 and all(_size(container) % n for n in _TS_PACKETS)


def _is_http(container: InputContainer) -> bool:
    return container.name.startswith(("http:", "https:"))


class Decoding:
    """One pass through a container.

    Args:
        container: a container that was just opened.
        stream: the stream to decode.
        shown: the name of the source in messages.
        goes_on: whether to look for more frames after damaged data.
        resumes: whether a lost connection will be re-established; `lost` then holds the reason for the loss.
        endless: whether it is a broadcast; if that ends, the connection was lost.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        shown: str,
        *,
        goes_on: bool = False,
        resumes: bool = False,
        endless: bool = False,
    ) -> None:
        stream.codec_context.thread_type = "AUTO"
        self.lost: FrameError | None = None
        self._container, self._stream, self._shown = container, stream, shown
        self._goes_on, self._resumes, self.endless = goes_on, resumes, endless
        self._progress = ReadSoFar(container, stream)
        self._failed: FFmpegError | None = None
        self._corrupt_times: set[int] = set()
        # Whether to count missing frames by gaps: set once some may be missing.
        self._count_missing = False
        self._last_dts: int | None = None
        # Times of packets whose frames are still to come, and whether each packet before the first damage gave a frame.
        self._awaited: set[int] = set()
        self._one_frame_each = True
        self._damaged = False
        self._untimed = states_no_times(container)
        # Times of such packets whose frames are still to come; None if the frames come in the order of their packets.
        self._due: list[int] | None = [] if self._untimed and stream.codec_context.has_b_frames else None

    def frames(self) -> Iterator[tuple[VideoFrame, float | None] | Damaged]:
        """Yields each frame with its time, and each damaged frame, numbered within this pass."""
        for packet in self._packets():
            yield from self._decode(packet)
        if self._damaged:
            yield from self._lost_before(None)
        if self._failed is not None:
            yield from self._ended(self._broken(self._failed))
        elif self._progress.broke_off() and not self.endless:
            yield from self._ended(
                FrameError(
                    f"{self._shown!r} is cut off or damaged: {self._progress} could be read",
                    f"the frames before are good; for the others fetch the file again, or {GO_ON}",
                )
            )
        elif self._resumes and self.endless:
            self.lost = FrameError(f"{self._shown!r} ended", "check the connection, or wait longer (--reconnect)")

    def _ended(self, why: FrameError) -> Iterator[Damaged]:
        if self._resumes:
            self.lost = why
        else:
            yield Damaged(why, self._progress.num_frames, ends=True)

    def _packets(self) -> Iterator[AnyPacket | None]:
        """Yields the packets up to the first that is cut off, then None, which flushes the decoder."""
        try:
            for packet in self._demux():
                if packet.is_corrupt and self._cuts_off():
                    self._progress.cut = True
                    break
                if self._untimed:
                    packet.pts = packet.dts
                self._progress.add_packet(packet)
                if packet.stream_index == self._stream.index and packet.size:
                    if self._last_dts is not None and packet.dts is not None and packet.dts < self._last_dts:
                        # Another recording follows; its times are unrelated to the remaining frames of this one.
                        self._one_frame_each = False
                        self._awaited.clear()
                    self._last_dts = packet.dts
                    if packet.is_corrupt:
                        self._damage_seen()
                        self._corrupt_times |= set() if packet.pts is None else {packet.pts}
                    yield packet
        except FFmpegError as error:
            if not _ends_a_body(self._container, error):
                self._failed = error
        # Frames that the decoder holds of a cut recording may have gaps; a new connection reads them again.
        comes_again = self._resumes and not self.endless
        if not (comes_again and (self._failed or self._progress.broke_off())):
            yield None

    def _cuts_off(self) -> bool:
        """Returns whether to stop at an incomplete packet.

        Only a transport stream continues after one; other files end within it, and a decoder that is given it withholds
        the good frames that it has buffered.
        """
        return not self.endless and (self._resumes or not self._goes_on or self._container.format.name != "mpegts")

    def _demux(self) -> Iterator[AnyPacket]:
        failures = 0
        packets = self._container.demux()
        while True:
            try:
                packet = next(packets, None)
            except InvalidDataError:
                failures += 1
                self._damage_seen()
                if not self._goes_on or self._resumes or failures == _MOST_FAILURES:
                    raise
                logger.warning("skipped damaged data in %s", self._shown)
                packets = self._container.demux()
                continue
            if packet is None:
                return
            failures = 0
            yield packet

    def _decode(self, packet: AnyPacket | None) -> Iterator[tuple[VideoFrame, float | None] | Damaged]:
        progress, time_base = self._progress, self._stream.time_base
        if packet is not None and packet.pts is not None and not packet.is_discard:
            self._awaited.add(packet.pts)
            if self._due is not None:
                heappush(self._due, packet.pts)
        try:
            frames = self._stream.codec_context.decode(packet)
        except FFmpegError as error:
            self._damage_seen()
            self._damaged = True
            if self._due:
                heappop(self._due)
            if self._goes_on and self._one_frame_each and self._awaited:
                return  # the lost frame is reported at its display time, which may be after others (B-frames)
            yield Damaged(self._broken(error), progress.num_frames)
            progress.add_frame(None)
            return
        for frame in frames:
            if self._due:
                frame.pts = heappop(self._due)
            seconds = None if frame.pts is None or time_base is None else float(frame.pts * time_base)
            corrupt = frame.is_corrupt or frame.pts in self._corrupt_times
            self._corrupt_times = {time for time in self._corrupt_times if frame.pts is not None and time > frame.pts}
            if self._damaged:
                yield from self._lost_before(frame.pts)
            elif frame.pts is not None and progress.num_frames:
                self._one_frame_each &= not any(time < frame.pts for time in self._awaited)
            self._awaited = {time for time in self._awaited if frame.pts is not None and time > frame.pts}
            lacking = packet is None and self._may_lack(frame)
            even = progress.even_until_now()
            if lacking and not even and self._broke_off():
                return  # a gap could not be detected
            missing = progress.count_missing(seconds) if self._count_missing or (lacking and even) else 0
            if lacking and missing:
                progress.cut = True
                if not self._goes_on:
                    return
            for _ in range(missing):
                yield Damaged(self._corrupt(), progress.num_frames)
                progress.add_frame(None)
            yield Damaged(self._corrupt(), progress.num_frames, seconds) if corrupt else (frame, seconds)
            progress.add_frame(seconds)

    def _lost_before(self, shown: int | None) -> Iterator[Damaged]:
        """Yields as damaged the frames of packets due before `shown` (None: the end) that were not decoded."""
        time_base = self._stream.time_base
        if not self._goes_on or not self._one_frame_each or time_base is None:
            return
        for time in sorted(self._awaited):
            if shown is None or time < shown:
                seconds = float(time * time_base)
                yield Damaged(self._corrupt(), self._progress.num_frames, seconds)
                self._progress.add_frame(seconds)

    def _may_lack(self, frame: VideoFrame) -> bool:
        """Returns whether frames may be missing before one that the decoder held until the end.

        A frame that is shown earlier may be stored later (B-frames). A packet that was never read has a later DTS than
        the last one that was, and no frame is shown before its DTS.
        """
        if frame.pts is None or (self._last_dts is not None and frame.pts <= self._last_dts):
            return False
        cut = self._broke_off() or self._progress.is_short() or _ends_in_a_packet(self._container)
        return cut and bool(self._progress.num_frames)

    def _broke_off(self) -> bool:
        return self._failed is not None or self._progress.broke_off()

    def _damage_seen(self) -> None:
        self._count_missing = self._count_missing or (self._goes_on and self._progress.even_until_now())

    def _corrupt(self) -> FrameError:
        progress = self._progress
        return FrameError(
            f"frame {progress.num_frames} of {self._shown!r} is damaged",
            f"{progress} before it are good; for the others {REPAIR}",
        )

    def _broken(self, error: FFmpegError) -> FrameError:
        container, progress = self._container, self._progress
        seekable = _size(container) > 0 and not _is_http(container)
        if isinstance(error, ExitError):
            why = FrameError(
                f"{self._shown!r} sent nothing for {container.read_timeout:g} s; {progress} could be read",
                "check the connection, or let it be tried again (--reconnect SECONDS)",
            )
        elif "mov" in container.format.name and not progress.num_frames and not seekable:
            why = FrameError(
                f"no frame of {self._shown!r} could be read ({error.strerror})",
                "an mp4 with its index at the end cannot be read from a pipe, a file still being written or a "
                "server that cannot seek, so save it to a file or move the index to the front (ffmpeg -i IN -c "
                "copy -movflags +faststart OUT)",
            )
        else:
            why = FrameError(
                f"{self._shown!r} is damaged: {progress} could be read ({error.strerror})",
                f"the frames before are good; for the others {REPAIR}",
            )
        why.__cause__ = error
        return why

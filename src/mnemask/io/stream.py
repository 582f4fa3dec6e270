"""Encoded video from a file, a pipe or an address, decoded by PyAV."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from av.container import InputContainer
from av.error import ExitError, FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import UInt16

from mnemask.errors import FrameError
from mnemask.io.decoder import (
    Decoding,
    is_recording,
    open_container,
    promised_frames,
    promised_seconds,
    states_no_times,
)
from mnemask.io.footage import Colours, Footage, YCbCr, average_rate, bits_of, planes_of_rgb, read_planes
from mnemask.io.growing import GrowingFile
from mnemask.io.images import is_empty
from mnemask.io.live import Backoff
from mnemask.io.pictures import (
    LONG_GAP_SECONDS,
    MAX_PIXELS,
    Damaged,
    DecodedPicture,
    EventLog,
    Levels,
    Matrix,
    Pictures,
    Readable,
    ReadableFile,
    SourceFacts,
    apply_rotation,
    check_size,
    display_matrix,
    extremes,
    swaps_sides,
)

logger = logging.getLogger(__name__)

_OPEN_SECONDS, _READ_SECONDS = 10.0, 30.0
_NARROWEST = Fraction(1, 8)
_MOST_REORDERED = 16  # frames that H.264 and HEVC may store before one that is shown earlier
_UNKNOWN_ORDER, _PROGRESSIVE = 0, 1  # FFmpeg's codes of the order of fields; larger ones are interlaced

# Formats that cameras of 10, 12 and 14 bits use for storage, without stating how many bits are used.
_DEEP = tuple(
    f"{kind}{end}"
    for kind in ("gray16", "ya16", "rgb48", "bgr48", "rgba64", "bgra64", "gbrp16", "gbrap16")
    for end in ("le", "be")
)
_LOOKS, _LOOKED_AT = 8, 12  # places of such a video that are sampled when it is opened, frames at each

Origin = str | Readable | Callable[[], ReadableFile]


class EncodedVideo:
    """The frames of the best video stream of `source`.

    Args:
        source: what PyAV opens: `file:PATH`, an address, a binary file object, which can be read only once, or a
            function that opens one each time.
        shown: name in messages, without password or token.
        goes_on: whether to look for frames after damage.
        broadcast: whether it is a broadcast, which has no end that could be missing.
        backoff: for how long to try to reconnect; None if there is no connection or that is not wanted.
        log: log in which reconnects are noted.
        originals: whether pictures also contain what is stored (`DecodedPicture.ycbcr`).
    """

    def __init__(
        self,
        source: Origin,
        shown: str,
        *,
        goes_on: bool = False,
        broadcast: bool = False,
        backoff: Backoff | None = None,
        log: EventLog | None = None,
        originals: bool = False,
    ) -> None:
        self.originals = originals
        self.name = Path(shown).stem
        self._shown = shown
        self._source = source
        self._goes_on = goes_on
        self._broadcast = broadcast
        self._backoff = backoff
        self._log = log or EventLog()
        self._file: ReadableFile | None = None
        self._container: InputContainer | None = self._open()
        stream = self._stream(self._container)
        rate = average_rate(stream)
        promised = promised_seconds(self._container, stream)
        self.frames_per_second = float(rate) if rate else None
        self.num_frames, self.counted = promised_frames(self._container, stream)
        is_file = (isinstance(source, str) and not broadcast) or isinstance(self._file, GrowingFile)
        may_look = is_file and isinstance(source, str) and not self._is_remote()
        levels = self._look_for_levels() if may_look and stream.codec_context.pix_fmt in _DEEP else None
        self.facts = SourceFacts(
            (
                *(_doubts(_file_of(source)) if may_look and self._container.format.name == "gif" else ()),
                *_others(self._container, stream),
            ),
            levels,
            pixel_aspect=_pixel_aspect(stream),
            num_frames=self.num_frames if self.counted else None,
            duration=promised,
            footage=Footage.of_stream(
                stream,
                _file_of(source) if is_file else None,
                self._container.metadata.get("timecode", ""),
                self._is_interlaced(stream, may_look),
            ),
        )
        # Others leave the durations of frames to a guess of FFmpeg's; with B-frames, those of mp4 follow another order.
        states = any(name in self._container.format.name for name in ("mov", "gif"))
        self._unit = stream.time_base if states and not stream.codec_context.has_b_frames else None  # of durations
        self.repeatable = is_file and (not self._is_remote() or is_recording(self._container))

    def pictures(self, start: int) -> Pictures:
        """Yields the upright frames from number `start` on, and every damaged one."""
        container: InputContainer | None = self._container or self._reopen()
        self._container = None
        index = 0
        clock = Clock(self._log, start)
        while container is not None:
            with self._closing(container):
                decoding = self._decoding(container)
                # A recording starts again at its beginning, a broadcast at the present.
                again = 0 if decoding.endless else index
                matrices: dict[int, Matrix] = {}
                traces = False
                for item in islice(decoding.frames(), again, None):
                    if isinstance(item, Damaged):
                        traces = True
                        yield replace(item, index=index, seconds=clock.of(item.seconds, index))
                    else:
                        frame, seconds = item[0], clock.of(item[1], index)
                        traces = traces and not frame.key_frame
                        if index >= start:
                            if traces:
                                self._log.note("doubtful", index)
                            yield self.picture(frame, seconds, index, matrices)
                    index += 1
                    if self._backoff is not None:
                        self._backoff.succeeded()
            container = self._connect_again(decoding.lost, index) if decoding.lost else None

    def picture(
        self, frame: VideoFrame, seconds: float | None, index: int, matrices: dict[int, Matrix]
    ) -> DecodedPicture:
        """Returns the upright picture of a decoded frame; `matrices` caches the display matrices found so far."""
        # Reading a frame's side data ties it into a cycle that only the garbage collector breaks: hundreds of frames
        # would wait for that. So it is read once, and again only if the rotation changes.
        if frame.rotation not in matrices:
            matrices[frame.rotation] = display_matrix(frame)
        matrix, aspect = matrices[frame.rotation], self.facts.pixel_aspect
        coefficients = Colours(matrix=int(frame.colorspace), lines=frame.height).coefficients
        if self.facts.levels is None:
            rgb = frame.to_ndarray(format="rgb24", src_colorspace=coefficients)
        else:
            eight = self.facts.levels.to_8_bits(_deep_values(frame))
            rgb = np.repeat(eight[:, :, None], 3, axis=2) if eight.ndim == 2 else eight
        rgb = apply_rotation(rgb, matrix)
        stored = self._stored(frame) if self.originals else None
        if stored is not None:
            stored = np.moveaxis(apply_rotation(np.moveaxis(stored, 0, -1), matrix), -1, 0)
        return DecodedPicture(
            torch.from_numpy(rgb).permute(2, 0, 1),
            index,
            seconds,
            "",
            1 / aspect if swaps_sides(matrix) else aspect,
            stored,
            float(frame.duration * self._unit) if self._unit and frame.duration else None,
        )

    def _stored(self, frame: VideoFrame) -> YCbCr | None:
        """Returns the picture in Y'CbCr with all its bits, up to 10; None if `DecodedPicture.image` has all of them."""
        stored = read_planes(frame)
        if stored is not None or not 8 < bits_of(frame.format) <= 16:
            return stored
        values = _deep_values(frame)
        levels = self.facts.levels or Levels()
        rgb = np.repeat(values[:, :, None], 3, axis=2) if values.ndim == 2 else values
        return planes_of_rgb(rgb, levels.black, levels.white)

    def _look_for_levels(self) -> Levels | None:
        """Returns the levels if 16 bits hold fewer, from frames all over the file; None if the full range is used."""
        samples = []
        with self._closing(self._open()) as container, suppress(FFmpegError):
            stream = self._stream(container)
            for look in range(_LOOKS if container.duration else 1):
                container.seek((container.start_time or 0) + (container.duration or 0) * look // _LOOKS)
                for frame in islice(container.decode(stream), _LOOKED_AT):
                    values = _deep_values(frame)
                    samples.append(np.array(extremes(values), np.uint16))
        levels = Levels.of(samples)
        return None if levels == Levels() else levels

    def _is_interlaced(self, stream: VideoStream, may_look: bool) -> bool:
        """Returns whether the stream says so, or its first frame if it does not and the file may be opened again."""
        order = getattr(stream.codec_context, "field_order", _UNKNOWN_ORDER)  # new in PyAV 18.1
        if order != _UNKNOWN_ORDER or not may_look:
            return order > _PROGRESSIVE
        with self._closing(self._open()) as container, suppress(FFmpegError):
            return any(frame.interlaced_frame for frame in islice(container.decode(self._stream(container)), 1))
        return False

    def close(self) -> None:
        """Closes the file or connection, unless pictures are being read: that closes it at the end."""
        if self._container is not None:
            with self._closing(self._container):
                self._container = None

    @contextmanager
    def _closing(self, container: InputContainer) -> Iterator[InputContainer]:
        try:
            with container:
                yield container
        finally:
            if self._file is not None:
                self._file.close()

    def _decoding(self, container: InputContainer) -> Decoding:
        resumes = self._backoff is not None
        return Decoding(
            container,
            self._stream(container),
            self._shown,
            goes_on=self._goes_on,
            resumes=resumes,
            endless=self._broadcast or (resumes and not is_recording(container)),
        )

    def _connect_again(self, why: FrameError, index: int) -> InputContainer | None:
        """Returns the new connection, or None if the wait was interrupted."""
        backoff = self._backoff
        assert backoff is not None, "only connections with a backoff are lost"
        logger.warning("lost the connection to %s at frame %d (%s); trying again", self._shown, index, why)
        while backoff.wait():
            try:
                container = self._open()
            except FrameError as error:
                why = error
            else:
                self._log.note("reconnects", index)
                return container
        if backoff.interrupted.is_set():
            return None
        raise FrameError(
            f"{self._shown!r} broke off after {index} frames and did not reconnect within {backoff.seconds:g} s; "
            "the frames before it are good",
            "check the connection, or wait longer (--reconnect)",
        ) from why

    def _open(self) -> InputContainer:
        source = self._source
        if callable(source):
            source = self._file = source()
        remote = self._is_remote()
        # Frames beyond the limit are refused before they are allocated, even if no header announces them.
        options = {"max_pixels": str(MAX_PIXELS)}
        if not remote:
            # A playlist in place of a video must not make FFmpeg fetch what it names.
            options["protocol_whitelist"] = "file" if isinstance(source, str) else "pipe"
        timeout = (_OPEN_SECONDS, _READ_SECONDS) if remote else None
        try:
            return open_container(source, options, timeout)
        except ExitError as error:
            raise FrameError(
                f"{self._shown!r} sent nothing for {_OPEN_SECONDS:g} s and could not be opened",
                "check the address and the connection",
            ) from error
        except (FFmpegError, OSError) as error:
            file = _file_of(source)
            if file is not None and is_empty(file):
                raise FrameError(
                    f"{self._shown!r} is empty, a file of 0 bytes", "copy it again, or record it again"
                ) from error
            if file is not None and file.is_file() and _lacks_index(file):
                raise FrameError(
                    f"{self._shown!r} has no index (moov): it was cut off, or its recording was never finished",
                    "fetch it again, or rebuild the index with a repair program and another file from the same camera",
                ) from error
            raise FrameError(
                f"{self._shown!r} cannot be opened as a video ({error.strerror})",
                "expected a complete mp4, mov, mkv, webm, avi or other file that FFmpeg reads, so check that it "
                "plays elsewhere",
            ) from error

    def _is_remote(self) -> bool:
        return isinstance(self._source, str) and not self._source.startswith("file:")

    def _reopen(self) -> InputContainer:
        if not isinstance(self._source, str) and not callable(self._source):
            raise FrameError(
                f"{self._shown!r} is a pipe and can be read only once", "save it to a file to read it again"
            )
        return self._open()

    def _stream(self, container: InputContainer) -> VideoStream:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
            kinds = [
                "a cover picture" if isinstance(other, VideoStream) else str(other.type) for other in container.streams
            ]
            only = f", only {', '.join(kinds)}" if kinds else ", nor any other"
            raise FrameError(f"{self._shown!r} has no video stream{only}", "give a file with moving pictures")
        if not stream.codec_context.width:  # also if FFmpeg refused it for `max_pixels`
            raise FrameError(
                f"{self._shown!r} states no frame size, or one of more than {MAX_PIXELS // 10**6} megapixels",
                "check that it plays elsewhere, or shrink it first",
            )
        check_size(stream.codec_context.width, stream.codec_context.height, self._shown)
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        return stream


def most_frames(video: Path) -> int | None:
    """Returns how many packets of a video are shown, an upper limit on its frames; None if it cannot be read."""
    with suppress(FFmpegError, OSError), open_container(f"file:{video}", {"protocol_whitelist": "file"}) as container:
        packets = container.demux(container.streams.best("video"))
        return sum(packet.size > 0 and not packet.is_discard for packet in packets)
    return None


def frames_before(video: Path, reached: Callable[[float], bool], enough: int) -> int | None:
    """Returns how many frames of a video come before a time, according to its packets; an upper limit.

    Args:
        video: the file.
        reached: returns whether a frame, this many seconds after the first one, is at that time or later.
        enough: the number from which on it need not be exact, so that the rest of a long file is not read.

    Returns:
        The number, or `enough` if there are more; None if the file cannot be read, ends before that time or does not
        state when its frames are shown.
    """
    times: list[float] = []
    last: int | None = None
    with suppress(FFmpegError, OSError), open_container(f"file:{video}", {"protocol_whitelist": "file"}) as container:
        stream = container.streams.best("video")
        untimed, unit = states_no_times(container), None if stream is None else stream.time_base
        first = float("inf")
        for packet in container.demux(stream):
            if not packet.size or packet.is_discard:
                continue
            ticks = packet.dts if untimed else packet.pts
            if unit is None or ticks is None or (packet.dts is not None and last is not None and packet.dts < last):
                return None  # without a time, or with a clock that jumps back
            times.append(float(ticks * unit))
            first, last = min(first, times[-1]), packet.dts
            if last is not None and reached(float(last * unit) - first):  # what is decoded from here on is shown later
                break
            if len(times) >= enough + _MOST_REORDERED:
                return enough
        num_before = sum(not reached(time - first) for time in times)
        return min(num_before, enough) if num_before < len(times) else None
    return None


def _lacks_index(path: Path) -> bool:
    """Returns whether a file is an mp4 or mov without its index, which states where the frames are."""
    place = 0
    kinds: list[bytes] = []
    with path.open("rb") as file:
        while len(head := file.read(16)) >= 8 and len(kinds) < 100:
            size, kind = int.from_bytes(head[:4]), head[4:8]
            size = int.from_bytes(head[8:16]) if size == 1 else size
            kinds.append(kind)
            if size < 8:  # 0: to the end
                break
            place += size
            file.seek(place)
    return kinds[:1] == [b"ftyp"] and b"moov" not in kinds


def _others(container: InputContainer, chosen: VideoStream) -> tuple[str, ...]:
    """Returns a sentence if a file holds more than one video, such as the views of several cameras."""
    videos = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    if len(videos) < 2:
        return ()

    def size(stream: VideoStream) -> str:
        return f"{stream.codec_context.width}x{stream.codec_context.height}"

    others = " and ".join(f"number {at} ({size(each)})" for at, each in enumerate(videos) if each is not chosen)
    return (
        f"it holds {len(videos)} videos: number {videos.index(chosen)} ({size(chosen)}) is read, and not {others}; to "
        "read another one, extract it first with ffmpeg -i IN -map 0:v:NUMBER -c copy OUT",
    )


def _doubts(gif: Path | None) -> tuple[str, ...]:
    """Returns a sentence if a GIF, which does not state how many pictures it holds, lacks the byte that ends it."""
    if gif is None:
        return ()
    with gif.open("rb") as file:
        file.seek(max(file.seek(0, 2) - 64, 0))
        if file.read().rstrip(b"\0\r\n").endswith(b";"):
            return ()
    return (f"{gif.name} has no end marker, so it may be cut off",)


def _deep_values(frame: VideoFrame) -> UInt16[np.ndarray, "H W"] | UInt16[np.ndarray, "H W 3"]:
    """Returns 16-bit grey or RGB values as they are stored."""
    is_grey = frame.format.name.startswith(("gray", "ya"))
    return np.asarray(frame.to_ndarray(format="gray16le" if is_grey else "rgb48le"))


def _pixel_aspect(stream: VideoStream) -> Fraction:
    """Returns the width of a stored pixel divided by its height, as shown; 1 if it is not stated, or absurd."""
    aspect = stream.sample_aspect_ratio
    return Fraction(aspect) if aspect and _NARROWEST <= aspect <= 1 / _NARROWEST else Fraction(1)


def _file_of(source: Origin) -> Path | None:
    """Returns the path of a `file:` source; None for other sources."""
    return Path(source.removeprefix("file:")) if isinstance(source, str) and source.startswith("file:") else None


class Clock:
    """The times of one video; from frame `start` on, notes where they jump back, or ahead by more than 10 seconds.

    It is given the times of all frames, also of those before `start`, so that they do not depend on where reading
    starts.
    """

    def __init__(self, log: EventLog, start: int = 0) -> None:
        self._log, self._start = log, start
        self._source: float | None = None
        self._added = self._usual_step = 0.0

    def of(self, seconds: float | None, frame: int) -> float | None:
        """Returns the frame's time, continued from the frame before if the source's clock jumped back."""
        if seconds is None:
            return None
        step = 0.0 if self._source is None else seconds - self._source
        if frame >= self._start and not 0 <= step <= LONG_GAP_SECONDS:
            self._log.note("clock_jumps", frame)
        if step < 0:
            self._added += self._usual_step - step
        else:
            self._usual_step = step
        self._source = seconds
        return seconds + self._added

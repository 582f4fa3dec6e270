"""A lazy reader for all video sources, and positions in a video: frame numbers or times."""

import logging
import os
import re
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from mnemask.errors import FrameError
from mnemask.io.growing import GrowingFolder
from mnemask.io.image_sequences import refuse_other_sizes
from mnemask.io.live import latest_frame
from mnemask.io.pictures import Damaged, DecodedPicture, EventLog, Levels, Pictures, Readable, ReaderEvents, SourceFacts
from mnemask.io.sources import Opening, is_broadcast, open_source
from mnemask.types import Frame

logger = logging.getLogger(__name__)


_SECONDS = re.compile(r"(\d+(?:\.\d*)?|\.\d+) ?(ms|s)")
_CLOCK = re.compile(r"(?:(\d+):)?([0-5]?\d):([0-5]?\d(?:\.\d*)?)")
# Containers count in ticks: a frame at 12.5 s may have the time 12.4999.
_ROUNDING = 0.001


@dataclass(frozen=True, slots=True)
class Position:
    """A position in a video: either a frame number, from 0, or a time in seconds after the first frame."""

    frame: int | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, text: str | int) -> "Position":
        """Returns the position given by a number, "240", "12.5s", "500ms", "1:30" or "00:01:30.5".

        Raises:
            FrameError: for anything else.
        """
        if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
            return cls(frame=text)
        written = str(text).strip()
        if re.fullmatch(r"\d{1,9}", written):
            return cls(frame=int(written))
        if seconds := _SECONDS.fullmatch(written):
            return cls(seconds=float(seconds[1]) / (1000 if seconds[2] == "ms" else 1))
        if clock := _CLOCK.fullmatch(written):
            return cls(seconds=3600 * int(clock[1] or 0) + 60 * int(clock[2]) + float(clock[3]))
        raise FrameError(
            f"{text!r} is not a position in a video",
            "expected a frame number from 0, such as 240, or a time, such as 12.5s or 00:01:30",
        )

    def is_reached(self, index: int, seconds: float | None) -> bool:
        """Returns whether a frame, `seconds` after the first one, is at this position or later."""
        if self.frame is not None:
            return index >= self.frame
        assert self.seconds is not None, "one of the two is given"
        return seconds is not None and seconds >= self.seconds - _ROUNDING

    def frame_at(self, frames_per_second: float | None) -> int | None:
        """Returns the frame number; for a time, at a constant frame rate. None if the rate is unknown."""
        if self.frame is not None or self.seconds is None:
            return self.frame
        return None if frames_per_second is None else round(self.seconds * frames_per_second)

    def __str__(self) -> str:
        return f"frame {self.frame}" if self.seconds is None else f"{self.seconds:g} s"


def no_range(start: Position, stop: Position | None) -> FrameError:
    """Returns the error for a range that contains no frame."""
    return FrameError(f"{start} to {stop} is not a range", "expected a start before the stop")


def check_range(start: Position, stop: Position | None, name: str, facts: SourceFacts) -> None:
    """Raises FrameError for a range that is empty or known to be outside the video."""
    if stop is not None and (
        (start.frame is not None and stop.frame is not None and stop.frame <= start.frame)
        or (start.seconds is not None and stop.seconds is not None and stop.seconds <= start.seconds)
        or stop.is_reached(0, 0.0)
    ):
        raise no_range(start, stop)
    for position, is_start in ((start, True), (stop, False)):
        if position is None:
            continue
        if not facts.timed:
            refuse_time(position, name)
        length = facts.num_frames if position.seconds is None else facts.duration
        at = position.frame if position.seconds is None else position.seconds - _ROUNDING
        if length is None or at is None or at < length or (at == length and not is_start):
            continue
        has = f"{length} frames, 0 to {int(length) - 1}" if position.seconds is None else f"a length of {length:.6g} s"
        raise FrameError(f"{name!r} has {has}, so {position} is outside it", "give a position in the video")


def refuse_time(position: Position | None, name: str) -> None:
    """Raises FrameError for a position that is a time, in a video without times."""
    if position is not None and position.seconds is not None:
        raise FrameError(f"{name!r} has no times, so {position} is not in it", "give a frame number, from 0")


_LEAD = 100
ON_CORRUPT = ("stop", "skip", "hold")


class VideoReader:
    """The frames of a video, one at a time: a two-hour film needs no more memory than a short clip.

    Frames are upright (orientation tags and display matrices are applied) and keep the times of the source, including a
    variable frame rate; if the source's clock jumps back, times continue from the frame before. Frames keep the numbers
    that they have in the source: dropped or skipped frames leave a gap. Iterating again starts again, if the source
    allows it. See docs/streams.md for sources without end and damaged sources.

    Example:
        >>> with VideoReader("clip.mp4", start=10, stop=20) as video:  # doctest: +SKIP
        ...     for frame in video:
        ...         print(frame.index, frame.seconds, frame.size)

    Args:
        source: a video file; a folder of images or a glob pattern, read in natural order (frame2 before frame10); one
            image; a camera (`"camera:0"` or 0); a pipe (`"-"` for standard input, or an open binary file); or an
            address (http, https, rtsp, ...).
        start: the first frame to yield: its number, from 0, or a time after the first frame, such as "12.5s" or
            "00:01:30". Frames keep the numbers that they have in the whole video.
        stop: the frame or time to stop before; None for the end.
        live: whether to yield, after the first frame, only the newest one each time, so that the reader never falls
            behind; for cameras, pipes, addresses and followed files. A damaged frame does not stop a live source.
        follow: whether the file or folder is still being written, so that the reader waits at its end for more.
        on_corrupt: what to do with a damaged frame: "stop" raises, except for broadcasts (rtsp and the like), which
            skip it; "skip" leaves it out; "hold" repeats the last good frame in its place, or leaves it out if there is
            none. With "skip" and "hold", a video that is cut off simply ends. `events` records each case.
        reconnect: for how many seconds to retry, at growing intervals, when a camera or a connection is lost.
        quiet_seconds: time without growth after which a followed file or folder has ended.
        masks: files that are not frames, even if they are among them.
        originals: whether frames also contain the picture as the video stores it (`Frame.ycbcr`), which takes time and
            memory.

    Attributes:
        name: short name, fit for a file name.
        size: height and width; None until the first frame has been read.
        goes_on: whether the latest iteration ended at `stop` and the source is known to have frames from there on.
        num_frames: expected number of frames of an iteration, as the source states; None if it does not.
        frames_per_second: average frame rate; None for images and if unknown.
        live: as given.
        stop: as given, as text.
        repeatable: whether reading it again, also later and elsewhere, yields the same frames.
        total: number of frames of the whole source, as it states; None if it does not.
        last: the frame to stop before, as far as the source states its length; `total` if `stop` is a time and the
            frame rate varies; None if the source does not state its length.
        counted: whether `last` is exact, rather than estimated from a duration or a time.
        files: the frames' files, by number, if each frame is a file and all exist; else None.

    Raises:
        FrameError: the source is missing, empty or not readable as a video, or an option does not apply to it. While
            iterating, before the first frame: an image of a folder has another size. After all frames before it: a
            frame is damaged, has another size, or is missing because the video is cut off or the connection does not
            come back.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | int | Readable,
        *,
        start: int | str = 0,
        stop: int | str | None = None,
        live: bool = False,
        follow: bool = False,
        on_corrupt: str = "stop",
        reconnect: float = 0.0,
        quiet_seconds: float = 10.0,
        masks: Collection[Path] = (),
        originals: bool = False,
    ) -> None:
        self._start, self._stop = Position.of(start), None if stop is None else Position.of(stop)
        _check_options(on_corrupt, reconnect, quiet_seconds)
        self.live = live
        self.stop = None if stop is None else str(stop)
        self._on_corrupt = on_corrupt
        # A broadcast cannot be fetched again, and joining one in the middle begins with damage.
        self._skips = on_corrupt == "skip" or (on_corrupt == "stop" and (live or is_broadcast(source)))
        self._log = EventLog()
        self._interrupted = threading.Event()
        goes_on = self._skips or on_corrupt == "hold"
        following = quiet_seconds if follow else None
        how = Opening(live, following, goes_on, reconnect, self._interrupted, self._log, masks, originals)
        self._source = open_source(source, how)
        try:
            check_range(self._start, self._stop, self._source.name, self.facts)
        except FrameError:
            self._source.close()
            raise
        for note in self.facts.notes:
            logger.warning("%s: %s", self._source.name, note)
        self.name = self._source.name
        self.size: tuple[int, int] | None = None
        self.goes_on = False
        self._may_be_empty = False
        self._may_look_ahead = self._source.repeatable and not (live or follow)
        self.frames_per_second = self._source.frames_per_second
        self.repeatable = self._source.repeatable and not live
        self.total = self._source.num_frames
        self.last = self._last(self.total)
        self.num_frames = self._count(self.last)
        by_time = self._stop is not None and self._stop.frame is None
        self.counted = bool(getattr(self._source, "counted", True)) and not by_time
        self.files: Sequence[Path] | None = getattr(self._source, "files", None)

    @property
    def facts(self) -> SourceFacts:
        """What is known beforehand, for the user: files left out, levels of more than 8 bits, pixels not square.

        What is known of a followed folder grows as its images are read.
        """
        return self._source.facts

    @property
    def events(self) -> ReaderEvents:
        """Events since the iteration began; also available during it."""
        return self._log.events()

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames; raises FrameError as described for the class."""
        self._interrupted.clear()
        self._log.clear()
        if self.files is not None:
            refuse_other_sizes(self.files[self._first_needed() : self.last], self.name)
        pictures = self._source.pictures(self._first_needed())
        if self.live:
            pictures = latest_frame(pictures, self._log, self.interrupt)
        last: DecodedPicture | None = None
        frame = None
        began: float | None = None
        seconds = 0.0
        reached = -1
        stopped = self.goes_on = False
        with closing(pictures):
            for item in self._until_interrupted(pictures):
                if item.seconds is None and began is None and isinstance(item, DecodedPicture):
                    refuse_time(self._start, self.name)
                    refuse_time(self._stop, self.name)
                if item.seconds is not None:
                    began = item.seconds if began is None else began
                    seconds = item.seconds - began
                if stopped := self._interrupted.is_set() or self._is_over(item.index, seconds):
                    self.goes_on = not self._interrupted.is_set() and _is_frame(item)
                    break
                reached = item.index
                given = self._start.is_reached(item.index, seconds)
                picture = self._held_or_skipped(item, last, given) if isinstance(item, Damaged) else item
                last = picture or last
                if picture is not None and given:
                    frame = picture.to_frame(self.total)
                    self._check_size(frame)
                    yield frame
                if stopped := self._is_over(item.index + 1, None):
                    self.goes_on = self._may_look_ahead and _is_frame(next(pictures, None))
                    break
        if frame is None and not self._interrupted.is_set() and not self._may_be_empty:
            if not self._start.is_reached(reached, seconds):
                if stopped:
                    raise no_range(self._start, self._stop)
                raise FrameError(f"{self.name!r} ended before {self._start}", "choose an earlier start")
            raise FrameError(f"no frame of {self.name!r} from {self._start} on can be read", "fetch the video again")

    def _first_needed(self) -> int:
        """Returns the first frame to request from the source."""
        if self._start.frame is None or (self._stop is not None and self._stop.frame is None):
            return 0  # times count from the first frame
        # The frame that is held at the start may be one from before it.
        return max(self._start.frame - _LEAD, 0) if self._on_corrupt == "hold" else self._start.frame

    def _is_over(self, index: int, seconds: float | None) -> bool:
        return self._stop is not None and self._stop.is_reached(index, seconds)

    def _last(self, total: int | None) -> int | None:
        """Returns the frame to stop before, as far as the source states one; for a time, only at a constant rate."""
        rate = None if self.facts.footage.rate is None else self.frames_per_second
        stop = None if self._stop is None else self._stop.frame_at(rate)
        return total if total is None or stop is None else min(stop, total)

    def _count(self, last: int | None) -> int | None:
        """Returns the expected number of frames before `last`; a time is converted at the average rate."""
        start = self._start.frame_at(self.frames_per_second)
        stop = last if self._stop is None else self._stop.frame_at(self.frames_per_second)
        return None if last is None or start is None or stop is None else max(min(stop, last) - start, 0)

    def _held_or_skipped(self, damaged: Damaged, last: DecodedPicture | None, given: bool) -> DecodedPicture | None:
        """Returns the picture to yield in place of a damaged one, or None; raises FrameError if reading must stop."""
        if self._on_corrupt == "stop" and (damaged.ends or not self._skips):
            raise damaged.why
        if damaged.ends:
            logger.warning("%s", damaged.why.problem)
            self._log.note("cut_off", damaged.index)
            return None
        if not given:
            return None
        if self._log.note("corrupt", damaged.index):
            does = "left out" if self._skips or last is None else "replaced by the one before"
            logger.warning("frame %d of %r is damaged and was %s", damaged.index, self._source.name, does)
        if self._skips or last is None:
            self._log.note("skipped", damaged.index)
            return None
        self._log.note("held", damaged.index)
        return replace(
            last,
            image=last.image.clone(),
            index=damaged.index,
            seconds=damaged.seconds,
            name=damaged.name,
            duration=None,
        )

    def _check_size(self, frame: Frame) -> None:
        self.size = self.size or frame.size
        if frame.size != self.size:
            height, width = self.size
            raise FrameError(
                f"frame {frame.index} ({frame.name}) of {self.name!r} is {frame.size[1]}x{frame.size[0]} pixels, "
                f"but the frames before it are {width}x{height}",
                "scale it, or read the parts separately",
            )

    def _until_interrupted(self, pictures: Pictures) -> Pictures:
        """Yields pictures; an error after an interruption, such as of an address that was silent, is the end."""
        try:
            yield from pictures
        except FrameError:
            if not self._interrupted.is_set():
                raise

    def continue_from(self, number: int, name: str, levels: Levels | None, *, is_done: bool) -> None:
        """Reads a followed folder on as an earlier reader did, even if images were removed or added since.

        Images before the one that is named are not read. Other sources do not change, and are read as they are.

        Args:
            number: number of an image that the earlier reader gave.
            name: its name without suffix; if empty, images are counted from the first that is there.
            levels: the black and white levels that the earlier reader used, see `facts.levels`.
            is_done: whether only those after it are needed, so that it may be gone and there may be no more. If not
                and it is gone, iterating raises FrameError.
        """
        if isinstance(self._source, GrowingFolder):
            self._source.continue_from(number, name, levels, is_done=is_done)
            self._may_be_empty = is_done and bool(name)

    def interrupt(self) -> None:
        """Ends the current iteration as if the video had ended; works from any thread, also while it waits for more.

        A read from the network notices this only when the network answers or times out, after up to 30 seconds.
        """
        self._interrupted.set()

    def close(self) -> None:
        """Closes the file, connection or camera."""
        self._source.close()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_frame(item: DecodedPicture | Damaged | None) -> bool:
    """Returns whether what a source yields is a frame, whole or damaged, and not a sign that it was cut off."""
    return item is not None and not (isinstance(item, Damaged) and item.ends)


def _check_options(on_corrupt: str, reconnect: float, quiet_seconds: float) -> None:
    if on_corrupt not in ON_CORRUPT:
        raise FrameError(f"on_corrupt is {on_corrupt!r}", f"expected one of {', '.join(ON_CORRUPT)}")
    if not 0 <= reconnect < float("inf"):
        raise FrameError(f"reconnect is {reconnect}", "expected a number of seconds, 0 to disable it")
    if not 0 < quiet_seconds < float("inf"):
        raise FrameError(f"quiet_seconds is {quiet_seconds}", "expected a number of seconds above 0")

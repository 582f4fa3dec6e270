"""Frames of a video by number, in any order and backwards, in bounded memory.

`VideoReader` goes through a video once. Scrubbing, correcting and tracking backwards need any frame at any time: the
packets of a video file are listed once, without decoding, and a request decodes from the keyframe before the frame.
"""

import logging
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from jaxtyping import Bool, Int64

from mnemask.errors import FrameError
from mnemask.io.pictures import Damaged, Matrix, Picture, Source
from mnemask.io.sources import Opening, open_source
from mnemask.io.stream import EncodedVideo
from mnemask.types import Frame, frame_name

log = logging.getLogger(__name__)

CACHE_BYTES = 96 * 2**20
STRETCH = 48  # frames decoded at a time when going backwards
AHEAD = 24  # frames ahead to which decoding on is cheaper than seeking
MOST_HELD = 100  # frames: greatest distance of a good frame that may replace one that cannot be decoded


class FrameAccess:
    """The frames of a video file or a folder of images by number.

    Frames are equal to those of `VideoReader`. A bounded number of decoded frames is kept, the most recently used;
    several threads may request frames at once.

    Args:
        source: a video file, a folder or a glob pattern of images.
        cache_bytes: limit on the size of the decoded frames that are kept.
        originals: whether frames also contain the picture as the video stores it (`Frame.ycbcr`).

    Attributes:
        num_frames: number of frames.
        frames_per_second: average frame rate; None for images.
        size: height and width in pixels.
        files: image files, by frame number; None if the frames are not files.
        pixel_aspect: width of a pixel divided by its height, as shown.
        facts: what else is known about the video beforehand.
        notes: sentences about the video for the user, such as that it may be cut off.

    Raises:
        FrameError: the video does not exist, cannot be read twice or has no frames.

    A frame whose file is gone is refused, and read again once the file is back.

    Example:
        >>> with FrameAccess("clip.mp4") as frames:  # doctest: +SKIP
        ...     last = frames[frames.num_frames - 1]
        ...     for frame in frames.run(99, 0):  # backwards, both ends included
        ...         ...
    """

    def __init__(self, source: str | Path, *, cache_bytes: int = CACHE_BYTES, originals: bool = False) -> None:
        found = open_source(source, Opening(originals=originals))
        if not found.repeatable:
            found.close()
            raise FrameError(f"{found.name!r} gives its frames only once", "save it to a file")
        self.name, self.frames_per_second, self.facts = found.name, found.frames_per_second, found.facts
        self.files: Sequence[Path] | None = getattr(found, "files", None)
        self._path = None if "://" in str(source) else Path(source)
        self._decoder = _Indexed(found) if isinstance(found, EncodedVideo) else _Listed(found)
        self.num_frames = self._decoder.num_frames
        self.notes = (*found.facts.notes, *_cut_off(found, self.num_frames))
        if self.num_frames < 1:
            raise FrameError(f"{found.name!r} has no frames", "check that it plays elsewhere")
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, Frame] = OrderedDict()
        self._cache_bytes = cache_bytes
        self._under_way: Iterator[Frame] | None = None
        self._next = -1
        self._damaged: dict[int, FrameError] = {}
        first = self.held(0)
        self.size, self.pixel_aspect = first.size, first.pixel_aspect

    @property
    def file_names(self) -> list[str] | None:
        """Names of the frames' files, by number; None if the frames are not files."""
        return None if self.files is None else [path.name for path in self.files]

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, index: int) -> Frame:
        if not 0 <= index < self.num_frames:
            raise FrameError(f"frame {index} does not exist", f"the video has frames 0 to {self.num_frames - 1}")
        with self._lock:
            if index in self._damaged:  # finding that out again would take a seek
                known = self._damaged[index]
                raise FrameError(known.problem, known.remedy)
            if index not in self._cache:
                try:
                    self._decode_to(index)
                except FrameError as error:
                    if (gone := self._gone(index)) is not None:
                        raise FrameError(
                            f"{str(gone)!r} is no longer there", "put it back under this name, or connect its disk"
                        ) from error
                    self._damaged[index] = error
                    raise
            self._cache.move_to_end(index)
            return self._cache[index]

    def held(self, index: int) -> Frame:
        """Returns a frame; if it cannot be decoded, the picture of the last good frame before it takes its place.

        If there is none before, that of the first good frame after it does. A warning is logged.

        Raises:
            FrameError: the frame does not exist, its file is gone, or no frame within `MOST_HELD` of it is good.
        """
        try:
            return self[index]
        except FrameError as error:
            if not 0 <= index < self.num_frames or self._gone(index) is not None:
                raise
            before, after = max(-1, index - 1 - MOST_HELD), min(self.num_frames, index + 1 + MOST_HELD)
            for near in chain(range(index - 1, before, -1), range(index + 1, after)):
                try:
                    good = self[near]
                except FrameError:
                    continue
                log.warning("%s: the picture of frame %d takes its place", error.problem, near)
                name = self.file_names and Path(self.file_names[index]).stem
                return replace(
                    good,
                    index=index,
                    seconds=self._decoder.seconds(index),
                    name=name or frame_name(index, self.num_frames),
                )
            raise

    def run(self, first: int, last: int) -> Iterator[Frame]:
        """Yields the frames from `first` to `last`, both included, backwards if `last` is smaller.

        Those that cannot be decoded are replaced as by `held`.
        """
        if first <= last:
            for index in range(first, last + 1):
                yield self.held(index)
            return
        height, width = self.size
        # Half the cache: all frames of a stretch must still be there when it is read from its end.
        stretch = max(1, min(STRETCH, self._cache_bytes // (2 * 3 * height * width)))
        for end in range(first, last - 1, -stretch):
            held = [self.held(index) for index in range(max(end - stretch + 1, last), end + 1)]
            yield from reversed(held)

    def forget(self) -> None:
        """Drops the decoded frames; they are decoded again on request."""
        with self._lock:
            self._under_way = None
            self._cache.clear()
            self._damaged.clear()  # a file may have been restored

    def close(self) -> None:
        """Closes the file."""
        self.forget()
        with self._lock:
            self._decoder.close()

    def __enter__(self) -> "FrameAccess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decode_to(self, index: int) -> None:
        if self._under_way is None or not self._next <= index < self._next + AHEAD:
            self._under_way, self._next = self._decoder.frames(index), -1
        frames, self._under_way = self._under_way, None  # an iterator that raised cannot continue
        for frame in frames:
            self._next = frame.index + 1
            self._keep(frame)
            if frame.index >= index:
                self._under_way = frames
                break
        if index not in self._cache:
            raise FrameError(
                f"frame {index} of {self.name!r} cannot be decoded", "run `mnemask doctor` on it, or re-encode it"
            )

    def _gone(self, index: int) -> Path | None:
        """Returns the file of a frame if it is not there, as when its folder was moved or its disk is away."""
        path = self._path if self.files is None else self.files[index]
        try:
            if path is not None:
                path.stat()
        except OSError:
            return path
        return None

    def _keep(self, frame: Frame) -> None:
        self._cache[frame.index] = frame
        most = max(2, self._cache_bytes // (frame.image.nbytes + (0 if frame.ycbcr is None else frame.ycbcr.nbytes)))
        while len(self._cache) > most:
            self._cache.popitem(last=False)


def _cut_off(source: Source, num_frames: int) -> tuple[str, ...]:
    """Returns a sentence if a file states clearly more frames than it contains."""
    rate, duration = source.frames_per_second, source.facts.duration
    stated = source.num_frames or (round(rate * duration) if rate and duration else 0)
    if num_frames + 2 + stated // 20 >= stated:
        return ()
    return (f"The file states about {stated} frames but contains {num_frames}: it may be cut off.",)


class _Listed:
    """Images, each a file or a page of its own."""

    def __init__(self, source: Source) -> None:
        self._source, self.num_frames = source, source.num_frames or 0

    def frames(self, start: int) -> Iterator[Frame]:
        for picture in self._source.pictures(start):
            yield _frame(picture, self.num_frames)

    def seconds(self, index: int) -> float | None:
        return None

    def close(self) -> None:
        self._source.close()


class _Indexed:
    """An encoded video whose frame times and keyframes are listed once, without decoding."""

    def __init__(self, video: EncodedVideo) -> None:
        self._video = video
        times, keys, self._time_base = _listing(video)
        order = np.argsort(times, kind="stable")
        self._times = times[order]
        # A seek to a time that several frames share may lead to any of them.
        _, which, shown_then = np.unique(self._times, return_inverse=True, return_counts=True)
        self._seekable = np.flatnonzero(keys[order] & (shown_then[which] == 1))
        self.num_frames = len(times)

    def frames(self, start: int) -> Iterator[Frame]:
        """Yields the frames from `start` on, after those that were decoded on the way to it.

        Damaged packets are skipped: their frames are missing, but later ones may be intact.
        """
        container = self._video._open()
        with container:
            stream = self._video._stream(container)
            stream.codec_context.thread_type = "AUTO"
            # A video that was cut between keyframes begins with frames that are predicted from hidden earlier ones.
            before = bisect_right(self._seekable, start)
            key = int(self._seekable[before - 1]) if before else 0
            if key:
                container.seek(int(self._times[key]), stream=stream, backward=True)
            matrices: dict[int, Matrix] = {}
            before_it, of_one_time, index = None, 0, key
            try:
                for packet in container.demux(stream):
                    try:
                        found = packet.decode()
                    except FFmpegError as error:
                        log.debug("a packet of %s cannot be decoded: %s", self._video.name, error.strerror)
                        continue
                    for decoded in found:
                        if decoded.pts is None:
                            continue
                        of_one_time = of_one_time + 1 if decoded.pts == before_it else 0
                        before_it = decoded.pts
                        index = int(np.searchsorted(self._times, decoded.pts)) + of_one_time
                        if index < max(key, start - AHEAD) or index >= self.num_frames:
                            continue
                        picture = self._video.picture(decoded, self.seconds(index), index, matrices)
                        yield _frame(picture, self.num_frames)
            except FFmpegError as error:
                raise FrameError(
                    f"{self._video.name!r} is damaged after frame {index} ({error.strerror})",
                    "run `mnemask doctor` on it, or re-encode it",
                ) from error

    def seconds(self, index: int) -> float | None:
        """Returns the presentation time of a frame."""
        return None if self._time_base is None else float(int(self._times[index]) * self._time_base)

    def close(self) -> None:
        self._video.close()


def _listing(video: EncodedVideo) -> tuple[Int64[np.ndarray, " T"], Bool[np.ndarray, " T"], Fraction | None]:
    """Returns, in packet order, each frame's presentation time and whether it is a keyframe; and the time base."""
    times: list[int] = []
    keys: list[bool] = []
    with video._open() as container:
        stream = video._stream(container)
        try:
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard and not packet.is_corrupt:
                    if packet.pts is None:
                        raise FrameError(
                            f"{video.name!r} has no presentation times, so its frames cannot be found by number",
                            "remux it into another container first (ffmpeg -i IN -c copy OUT.mp4)",
                        )
                    times.append(packet.pts)
                    keys.append(packet.is_keyframe)
        except FFmpegError as error:
            raise FrameError(
                f"{video.name!r} is damaged after {len(times)} frames ({error.strerror})", "run `mnemask doctor` on it"
            ) from error
        time_base = stream.time_base
    return np.array(times, np.int64), np.array(keys, bool), time_base


def _frame(picture: Picture | Damaged, num_frames: int) -> Frame:
    if isinstance(picture, Damaged):
        raise picture.why
    name = picture.name or frame_name(picture.index, num_frames)
    return Frame(picture.image, picture.index, picture.seconds, name, picture.pixel_aspect, picture.ycbcr)

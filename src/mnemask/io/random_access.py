"""Frames of a video by number, in any order and backwards, in bounded memory.

`VideoReader` goes through a video once. Scrubbing, correcting and tracking backwards need any frame at any time: the
frames of a video file are listed once, and a request decodes from the keyframe before the frame.
"""

import logging
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from itertools import chain, dropwhile
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame

from mnemask.errors import FrameError
from mnemask.io.decoder import Decoding
from mnemask.io.frame_listing import gives_what_packets_tell, list_frames, list_packets
from mnemask.io.pictures import Damaged, DecodedPicture, Matrix, Source
from mnemask.io.sources import Opening, open_source
from mnemask.io.stream import EncodedVideo
from mnemask.types import Frame, frame_name

log = logging.getLogger(__name__)

CACHE_BYTES = 96 * 2**20
BACKWARDS = 48  # frames decoded at a time when going backwards
AHEAD = 24  # frames ahead to which decoding on is cheaper than seeking
REORDERED = 16  # frames by which decoding may be ahead of showing
MOST_HELD = 100  # frames: greatest distance of a good frame that may replace one that cannot be decoded


class FrameAccess:
    """The frames of a video file or a folder of images by number.

    Frames are equal to those of `VideoReader`. A bounded number of decoded frames is kept, the most recently used;
    several threads may request frames at once.

    Args:
        source: a video file, a folder or a glob pattern of images.
        cache_bytes: limit on the size of the decoded frames that are kept.

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

    A frame of another size than the first is refused as a damaged one is. A frame whose file is gone is refused too,
    and read again once the file is back.

    Example:
        >>> with FrameAccess("clip.mp4") as frames:  # doctest: +SKIP
        ...     last = frames[frames.num_frames - 1]
        ...     for frame in frames.run(99, 0):  # backwards, both ends included
        ...         ...
    """

    def __init__(self, source: str | Path, *, cache_bytes: int = CACHE_BYTES) -> None:
        found = open_source(source, Opening(goes_on=True))
        if not found.repeatable:
            found.close()
            raise FrameError(f"{found.name!r} gives its frames only once", "save it to a file")
        self.name, self.frames_per_second, self.facts = found.name, found.frames_per_second, found.facts
        self.files: Sequence[Path] | None = getattr(found, "files", None)
        self._source, self._path = source, None if "://" in str(source) else Path(source)
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
        self._first_size: tuple[int, int] | None = None
        first = self.held(0)
        self.size, self.pixel_aspect = first.size, first.pixel_aspect

    def with_originals(self) -> "FrameAccess":
        """Returns another access to the frames, which then also contain the picture as stored (`Frame.ycbcr`).

        The video is opened again, but its frames are not listed again: that may take long.

        Raises:
            FrameError: the video cannot be opened.
        """
        other = copy(self)
        other._lock, other._cache, other._damaged, other._under_way = threading.Lock(), OrderedDict(), {}, None
        other._decoder = self._decoder.of(open_source(self._source, Opening(goes_on=True, originals=True)))
        return other

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
            frame = self._cache[index]
            self._first_size = self._first_size or frame.size
            if frame.size != self._first_size:
                (height, width), (usual_height, usual_width) = frame.size, self._first_size
                raise FrameError(
                    f"frame {index} ({frame.name}) of {self.name!r} is {width}x{height} pixels, the video is "
                    f"{usual_width}x{usual_height}",
                    "scale its picture to that size",
                )
            return frame

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
                    duration=None,
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
        stretch = max(1, min(BACKWARDS, self._cache_bytes // (2 * 3 * height * width)))
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

    def of(self, source: Source) -> "_Listed":
        return _Listed(source)

    def frames(self, start: int) -> Iterator[Frame]:
        for picture in self._source.pictures(start):
            yield _frame(picture, self.num_frames)

    def seconds(self, index: int) -> float | None:
        return None

    def close(self) -> None:
        self._source.close()


class _Indexed:
    """An encoded video whose frames are listed once: without decoding, if its packets tell them, else by decoding it.

    Frames are numbered as `VideoReader` numbers them.
    """

    def __init__(self, video: EncodedVideo) -> None:
        self._video = video
        packets = list_packets(video)
        if packets.tell_frames and gives_what_packets_tell(video, packets):
            order = np.argsort(packets.times, kind="stable")
            self._times, keys = packets.times[order], packets.keys[order]
            self._timed = np.arange(len(self._times))
            self._seconds = packets.seconds[order]
        else:
            log.info("the packets of %s do not tell its frames, so it is decoded once to number them", video.name)
            decoded = list_frames(video)
            self._timed = np.flatnonzero(decoded.timed)
            if (np.diff(decoded.times[self._timed]) < 0).any():  # the times of damaged frames are partly guessed
                self._timed = np.flatnonzero(decoded.timed & decoded.intact)
            self._times, keys = decoded.times[self._timed], decoded.keys[self._timed]
            self._seconds = decoded.seconds
        self.num_frames = len(self._seconds)
        # Where frames are not told by their times, they are counted from a keyframe that certainly is the one sought.
        self._counts = packets.shuffled or packets.gapped or bool((np.diff(self._times) < 0).any())
        self._keys = self._seek_to = np.zeros(0, np.int64)
        if not self._counts:
            # A seek to a time that several frames share may lead to any of them.
            _, which, shown_then = np.unique(self._times, return_inverse=True, return_counts=True)
            seekable = np.flatnonzero(keys & (shown_then[which] == 1))
            self._keys = self._timed[seekable]
            # Formats without an index are searched by the times of decoding, which are earlier.
            self._seek_to = self._times[np.maximum(seekable - REORDERED, 0) if packets.searched else seekable]
        elif packets.shuffled and not packets.gapped and keys.sum() == packets.keys.sum():
            self._keys, self._seek_to = self._timed[keys], packets.times[packets.keys]

    def of(self, source: Source) -> "_Indexed":
        """Returns the same list for the same video, which was opened again."""
        assert isinstance(source, EncodedVideo), "the same video"
        other = copy(self)
        other._video = source
        return other

    def frames(self, start: int) -> Iterator[Frame]:
        """Yields the frames from `start` on, after those that were decoded on the way to it.

        Damaged ones are skipped: they are missing, but later ones may be intact.
        """
        matrices: dict[int, Matrix] = {}
        for index, decoded in self._decoded_before(start):
            if index >= start - AHEAD:
                picture = self._video.picture(decoded, self.seconds(index), index, matrices)
                yield _frame(picture, self.num_frames)

    def _decoded_before(self, start: int) -> Iterator[tuple[int, VideoFrame]]:
        """Yields numbered frames from a keyframe at or before `start` on."""
        before = bisect_right(self._keys, start)
        # Where a seek leads past the keyframe, or the keyframe is damaged, an earlier one or the beginning will do. A
        # video that was cut between keyframes begins with frames that are predicted from hidden earlier ones.
        for at in range(before - 1, max(before - 4, -1), -1):
            key = int(self._keys[at])
            if key == 0:
                break
            found = self._decoded(key, int(self._seek_to[at]))
            first = next(found, None)
            if first is not None and first[0] == key:
                yield first
                yield from found
                return
        yield from self._decoded(0, None)

    def _decoded(self, key: int, seek_to: int | None) -> Iterator[tuple[int, VideoFrame]]:
        """Yields numbered frames from frame `key` on, after a seek to a time (None: from the beginning)."""
        with self._video._open() as container:
            decoding = self._video._decoding(container)
            if seek_to is not None:
                try:
                    container.seek(seek_to, stream=self._video._stream(container), backward=True)
                except FFmpegError as error:
                    log.debug("cannot seek to frame %d of %s: %s", key, self._video.name, error.strerror)
                    return
            numbered = self._by_counting(decoding, key) if self._counts else self._by_time(decoding)
            yield from ((index, frame) for index, frame in numbered if key <= index < self.num_frames)

    def _by_counting(self, decoding: Decoding, key: int) -> Iterator[tuple[int, VideoFrame]]:
        found = decoding.frames()
        if key:  # frames shown before it may be stored after it
            found = dropwhile(lambda item: isinstance(item, Damaged) or not item[0].key_frame, found)
        for index, item in enumerate(found, key):
            if not isinstance(item, Damaged):
                yield index, item[0]

    def _by_time(self, decoding: Decoding) -> Iterator[tuple[int, VideoFrame]]:
        before_it, of_one_time = None, 0
        for item in decoding.frames():
            if isinstance(item, Damaged) or item[0].pts is None:
                continue
            of_one_time = of_one_time + 1 if item[0].pts == before_it else 0
            before_it = item[0].pts
            at = int(np.searchsorted(self._times, before_it)) + of_one_time
            if at < len(self._times) and self._times[at] == before_it:
                yield int(self._timed[at]), item[0]

    def seconds(self, index: int) -> float | None:
        """Returns the presentation time of a frame."""
        seconds = float(self._seconds[index])
        return None if np.isnan(seconds) else seconds

    def close(self) -> None:
        self._video.close()


def _frame(picture: DecodedPicture | Damaged, num_frames: int) -> Frame:
    if isinstance(picture, Damaged):
        raise picture.why
    return picture.to_frame(num_frames)

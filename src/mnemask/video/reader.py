"""One lazy reader for everything that a video can come from."""

import glob
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from mnemask.errors import FrameError
from mnemask.types import Frame
from mnemask.video.camera import Camera
from mnemask.video.images import IMAGE_SUFFIXES, ImageSequence, list_images
from mnemask.video.picture import Readable, Source
from mnemask.video.stream import EncodedVideo

_RECORDED_SCHEMES = ("http", "https", "ftp", "file")


class VideoReader:
    """The frames of a video, one at a time: a two-hour film needs no more memory than a short clip.

    Frames are upright (orientation tags and display matrices are applied) and keep the times of the source, so a
    variable frame rate stays one. Iterating again starts again, where the source allows it.

    Example:
        >>> with VideoReader("clip.mp4", start=10, stop=20) as video:  # doctest: +SKIP
        ...     for frame in video:
        ...         print(frame.index, frame.seconds, frame.size)

    Args:
        source: a video file; a folder of images or a glob pattern, read in natural order (frame2 before frame10); one
            image; a camera (`"camera:0"` or 0); a pipe (`"-"` for standard input, or an open binary file); or an
            address (http, https, rtsp, ...).
        start: the first frame to give, from 0. Frames keep the numbers that they have in the whole video.
        stop: the frame to stop before; None for the end.

    Attributes:
        name: short, fit for a file name.
        size: height and width; None until the first frame was read.
        num_frames: how many frames iterating gives, as the source promises it; None where it does not.
        frames_per_second: the average; None for images and where it is not known.

    Raises:
        FrameError: the source is missing, empty or not readable as a video, and while iterating, after all frames
            before: a frame is damaged, of another size, or missing because the video is cut off.
    """

    def __init__(
        self, source: str | os.PathLike[str] | int | Readable, *, start: int = 0, stop: int | None = None
    ) -> None:
        if start < 0 or (stop is not None and stop <= start):
            raise FrameError(f"frames {start} to {stop} are no range; expected 0 <= start < stop")
        self._source = _open(source)
        self._start, self._stop = start, stop
        self.name = self._source.name
        self.size: tuple[int, int] | None = None
        self.frames_per_second = self._source.frames_per_second
        total = self._source.num_frames
        last = stop if total is None or (stop is not None and stop < total) else total
        self.num_frames = None if total is None or last is None else max(last - start, 0)

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames; raises FrameError as the class says."""
        length = None if self._stop is None else self._stop - self._start
        index = None
        with closing(self._source.pictures(self._start)) as pictures:
            for index, picture in enumerate(islice(pictures, length), self._start):
                frame = Frame(picture.image, index, picture.seconds, picture.name)
                self._check_size(frame)
                yield frame
        if index is None:
            raise FrameError(f"{self.name!r} ended before frame {self._start}; start at a frame that it has")

    def _check_size(self, frame: Frame) -> None:
        self.size = self.size or frame.size
        if frame.size != self.size:
            height, width = self.size
            raise FrameError(
                f"frame {frame.index} ({frame.name}) of {self.name!r} is {frame.size[1]}x{frame.size[0]} pixels, the "
                f"frames before are {width}x{height}; expected one size, so scale it or read the parts separately"
            )

    def close(self) -> None:
        """Lets go of the file, connection or camera."""
        self._source.close()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(source: str | os.PathLike[str] | int | Readable) -> Source:
    if isinstance(source, int):
        return Camera(source)
    if isinstance(source, Readable):
        name = getattr(source, "name", None)
        return EncodedVideo(source, Path(name).name if isinstance(name, str) else "pipe")
    text = os.fspath(source)
    if text == "-":
        return EncodedVideo(sys.stdin.buffer, "stdin")
    if text.startswith("camera:") and text.removeprefix("camera:").isdecimal():
        return Camera(int(text.removeprefix("camera:")))
    if "://" in text:
        address = urlsplit(text)
        # The name goes into messages and logs: neither password nor token may be in it.
        name = Path(address.path).stem or address.hostname or address.scheme
        return EncodedVideo(text, name, live=address.scheme.lower() not in _RECORDED_SCHEMES)
    return _open_path(text)


def _open_path(text: str) -> Source:
    path = Path(text)
    if text and path.is_dir():
        return ImageSequence(list_images(path), path.resolve().name)
    if text and path.exists():
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return ImageSequence([path], path.stem)
        return EncodedVideo(f"file:{path}", path.name)
    if glob.has_magic(text):
        return ImageSequence(list_images(path), path.parent.name or "images")
    raise FrameError(
        f"there is no {text!r}; expected a video file, a folder of images, a pattern such as 'frames/*.jpg', "
        "camera:0, an address, or - for standard input"
    )

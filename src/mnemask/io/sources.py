"""The kinds of video sources, and how each is opened."""

import glob
import hashlib
import os
import sys
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from av.error import FFmpegError

from mnemask.errors import FrameError
from mnemask.io.decoder import open_container
from mnemask.io.frame_files import FrameFiles, find_frames, image_files
from mnemask.io.growing import GrowingFile, GrowingFolder, NamedPipe, interruptible
from mnemask.io.image_sequences import ImageSequence
from mnemask.io.image_stacks import ImageStack, page_count
from mnemask.io.images import HEAD, IMAGE_SUFFIXES, is_unread_picture, kind_of_stack, refuse_piped_stack, sample
from mnemask.io.live import Backoff, Camera
from mnemask.io.pictures import EventLog, Readable, Source
from mnemask.io.stream import EncodedVideo, Origin

_END = 2**20  # bytes at each end of a file that identify it
_SOME, _PART, _DIGITS = 18, 4096, 4  # images sampled in a folder, bytes of a part, digits of a checksum
_PICTURES = ", pictures "
_GIF_HEADS = (b"GIF87a", b"GIF89a")
_RECORDED_SCHEMES = ("http", "https", "ftp", "file")


@dataclass(frozen=True, slots=True)
class Opening:
    """How to open a source.

    Attributes:
        live: whether only its newest frame is wanted.
        follow: for how many seconds to wait for a file or folder to grow; None does not wait.
        goes_on: whether frames after damage are wanted.
        reconnect: for how many seconds to try to reconnect.
        interrupted: event that ends each wait.
        log: log in which events are noted.
        masks: files that are not frames, even if they are among them.
        originals: whether pictures of a video also contain what is stored (`DecodedPicture.ycbcr`).
    """

    live: bool = False
    follow: float | None = None
    goes_on: bool = False
    reconnect: float = 0.0
    interrupted: threading.Event = field(default_factory=threading.Event)
    log: EventLog = field(default_factory=EventLog)
    masks: Collection[Path] = ()
    originals: bool = False

    def backoff(self) -> Backoff | None:
        """Returns the backoff for reconnecting; None if that is not wanted."""
        return Backoff(self.reconnect, self.interrupted) if self.reconnect else None

    def growth(self, follow: float) -> Backoff:
        """Returns the backoff for waiting until a file or folder grows."""
        return Backoff(follow, self.interrupted, first=0.05, longest=0.5)

    def video(self, origin: Origin, name: str, **more: Any) -> EncodedVideo:
        """Returns the opened video."""
        return EncodedVideo(origin, name, goes_on=self.goes_on, log=self.log, originals=self.originals, **more)

    def refuse(self, what: str, *, live: bool = False, follow: bool = False, reconnect: bool = False) -> None:
        """Raises FrameError for an option that does not apply to the source."""
        for asked, allowed, option, where in (
            (self.live and self.follow is None, live, "live", "cameras, pipes, addresses and followed files"),
            (self.follow is not None, follow, "follow", "video files and folders of images"),
            (self.reconnect > 0, reconnect, "reconnect", "cameras and addresses"),
        ):
            if asked and not allowed:
                raise FrameError(f"{what} cannot be read with {option} (--{option})", f"this option is for {where}")


def is_broadcast(source: object) -> bool:
    """Returns whether the source is the address of a broadcast, which is sent once and cannot be fetched again."""
    scheme, address, _ = str(source).partition("://")
    return bool(address) and scheme.lower() not in _RECORDED_SCHEMES


def digest_of_video(path: Path) -> str | None:
    """Returns a digest that identifies a video under any name; None if there is no file, folder or pattern.

    For a file, it is a checksum of its size and both ends. For images, it is a checksum of their names and sizes and a
    short one of parts of each of some of them, since uncompressed pictures all have the same size.
    """
    pictures = ""
    if path.is_file():
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            ends = file.read(_END)
            file.seek(max(size - _END, 0))
            content = str(size).encode() + ends + file.read(_END)
    elif path.is_dir() or glob.has_magic(str(path)):
        try:
            images = sorted(find_frames(path).paths)  # masks among them may come later
        except FrameError:
            images = sorted(image_files(path))
        content = os.fsencode("\n".join(f"{image.name} {image.stat().st_size}" for image in images))
        pictures = _PICTURES + "".join(map(_parts, sample(images, _SOME)))
    else:
        return None
    return hashlib.sha256(content).hexdigest()[:16] + pictures


def _parts(image: Path) -> str:
    """Returns a short checksum of the first bytes of a file and as many from its middle; zeros if it cannot be read."""
    with suppress(OSError), image.open("rb") as file:  # reported when its frame is read
        begins = file.read(_PART)
        file.seek(image.stat().st_size // 2)
        return hashlib.sha256(begins + file.read(_PART)).hexdigest()[:_DIGITS]
    return "0" * _DIGITS


def is_same_video(before: object, now: object) -> bool:
    """Returns whether two digests, or texts that end with them, identify the same video.

    Old digests contain names and sizes alone. One of more than two pictures may differ: it may have been repaired.
    """
    (known, _, then), (name, _, here) = (str(each).partition(_PICTURES) for each in (before, now))
    changed = sum(then[at : at + _DIGITS] != here[at : at + _DIGITS] for at in range(0, len(here), _DIGITS))
    alike = len(then) == len(here) and changed <= (len(here) > 2 * _DIGITS)
    return known == name and (alike or not then)


def of_content(path: Path) -> str:
    """Returns name and checksum of a file; raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return f"{path.name}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def open_source(source: str | os.PathLike[str] | int | Readable, how: Opening) -> Source:
    """Returns the opened source; raises FrameError if it cannot be opened."""
    if isinstance(source, bool) or (isinstance(source, int) and source < 0):
        raise FrameError(f"there is no camera {source!r}", "cameras are numbered from 0")
    if isinstance(source, int):
        return _open_camera(source, how)
    if isinstance(source, Readable):
        name = getattr(source, "name", None)
        return _open_pipe(source, Path(name).name if isinstance(name, str) else "pipe", how)
    if not isinstance(source, str | os.PathLike):
        raise FrameError(
            f"a video cannot be read from a {type(source).__name__}",
            "give a path, an address, a camera number or an open binary file; frames need no reader",
        )
    text = os.fspath(source)
    if text == "-" and sys.stdin is None:
        raise FrameError("standard input is closed", "pipe a video into it, or give a file")
    if text == "-":
        return _open_pipe(sys.stdin.buffer, "stdin", how)
    if text.startswith("camera:") and text.removeprefix("camera:").isdecimal():
        return _open_camera(int(text.removeprefix("camera:")), how)
    if "://" in text:
        address = urlsplit(text)
        # The name goes into messages and logs: neither password nor token may be in it.
        name = Path(address.path).stem or address.hostname or address.scheme
        how.refuse(repr(name), live=True, reconnect=True)
        return how.video(text, name, broadcast=is_broadcast(text), backoff=how.backoff())
    return _open_path(text, how)


def _open_camera(number: int, how: Opening) -> Source:
    how.refuse(f"camera {number}", live=True, reconnect=True)
    return Camera(number, backoff=how.backoff(), log=how.log)


def _open_pipe(pipe: Readable, name: str, how: Opening) -> Source:
    how.refuse(f"the pipe {name!r}", live=True)
    if getattr(pipe, "seekable", bool)():  # a file in place of a pipe
        file: Any = pipe
        here = file.tell()
        refuse_piped_stack(file.read(HEAD), name)
        file.seek(here)
    return how.video(interruptible(pipe, how.interrupted), name)


def _open_path(text: str, how: Opening) -> Source:
    path = Path(text)
    # Those of pathlib raise for names that no file can have: too long, or with a NUL.
    if text and os.path.isdir(text):  # noqa: PTH112
        how.refuse(repr(text), follow=True)
        name = path.resolve().name
        if how.follow is not None:
            return GrowingFolder(path, name, how.growth(how.follow), how.masks)
        return _open_images(path, name, how)
    if text and os.path.exists(text):  # noqa: PTH110
        return _open_file(path, how)
    if glob.has_magic(text):
        how.refuse(repr(text))
        return _open_images(path, path.parent.name or "images", how)
    raise FrameError(
        f"there is no {text[:200]!r}",
        "expected a video file, a folder of images, a pattern such as 'frames/*.jpg', camera:0, an address, or - "
        "for standard input",
    )


def _open_images(source: Path, name: str, how: Opening) -> Source:
    files = find_frames(source, how.masks)
    if len(files.paths) == 1 and page_count(files.paths[0]) > 1:
        return ImageStack(files.paths[0])
    return ImageSequence(files, name, how.log)


def _begins_as_stack(path: Path) -> bool:
    """Returns whether a file is a TIFF or WebP, whatever its name, and not a raw picture of a camera."""
    with suppress(OSError), path.open("rb") as file:  # opening it reports what cannot be read
        return not is_unread_picture(path) and kind_of_stack(file.read(HEAD)) != ""
    return False


def hides_pictures(path: Path) -> bool:
    """Returns whether a file is a GIF that states no delays, so that FFmpeg takes several pictures for one."""
    try:
        with path.open("rb") as file:
            if not file.read(HEAD).startswith(_GIF_HEADS):
                return False
        with open_container(f"file:{path}", {"protocol_whitelist": "file"}) as container:
            found = sum(packet.size > 0 for packet in container.demux())
    except (OSError, FFmpegError):  # opening it reports what cannot be read
        return False
    return page_count(path) > found


def _open_file(path: Path, how: Opening) -> Source:
    if path.is_char_device() or path.is_block_device():
        raise FrameError(f"{str(path)!r} is a device", "for a camera give its number, such as camera:0")
    if path.is_fifo():
        how.refuse(f"the pipe {path.name!r}", live=True)
        return how.video(lambda: NamedPipe(path, how.interrupted), path.name)
    if path.suffix.lower() in IMAGE_SUFFIXES or _begins_as_stack(path):
        how.refuse(repr(str(path)))
        return ImageStack(path) if page_count(path) > 1 else ImageSequence(FrameFiles([path]), path.stem, how.log)
    how.refuse(repr(str(path)), follow=True)
    if how.follow is None and hides_pictures(path):
        return ImageStack(path)
    origin: Origin = f"file:{path}"
    if how.follow is not None:
        backoff = how.growth(how.follow)
        origin = lambda: GrowingFile(path, backoff)  # noqa: E731
    return how.video(origin, path.name)

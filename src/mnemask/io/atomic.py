"""Atomic file writes, and the journals that an interrupted run resumes from."""

import errno
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mnemask.errors import OutputError
from mnemask.io.edges import Cutout
from mnemask.io.footage import Footage
from mnemask.types import ObjectInfo

_LEFT_OVER = re.compile(r"\.mnemask-\d+-\d+\.partial(\.\w+)?")
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_IMPOSSIBLE = re.compile(r'[<>:"/\\|?*\x00-\x1f]|[. ]$' if os.name == "nt" else r"[/\x00]")


def safe_name(name: str) -> str:
    """Returns the name with characters that no file name can hold here, or that lead out of a folder, written as %XX.

    A name that the file system accepted for a frame is kept for its masks, whatever script, brackets or signs it has.
    """
    kept = _IMPOSSIBLE.sub(lambda found: f"%{ord(found[0]):02X}", name)
    if os.name == "nt" and _WINDOWS_DEVICES.match(kept):
        return f"_{kept}"
    return kept.replace(".", "%2E") if kept in (".", "..") else kept or "%"


def refuse_no_name(path: Path) -> None:
    """Raises OutputError for a path with a null character, which cannot name a file or folder on any system."""
    if "\0" in str(path):
        raise OutputError(f"{str(path)!r} cannot name a file", "remove the null character (code 0)")


def make_folder(folder: Path) -> Path:
    """Returns the folder, created with its parents if missing; raises OutputError if that is impossible."""
    refuse_no_name(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot create the folder {str(folder)!r} ({error.strerror})", "give a folder or a place for a new one"
        ) from error
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{str(folder)!r} cannot be written to", "give a folder that you may write to")
    return folder


def target_file(out: Path, default: str) -> Path:
    """Returns the file to write: `out` itself if it has the suffix of `default`, else `out/default`."""
    target = out if out.suffix.lower() == Path(default).suffix else out / default
    make_folder(target.parent)
    if target.is_dir():
        raise OutputError(f"{str(target)!r} is a folder", "expected the name of a file to write")
    return target


def partial_file(target: Path) -> Path:
    """Returns the name that a file has until it is complete: masks.partial.mkv for masks.mkv."""
    return target.with_name(f"{target.stem}.partial{target.suffix}")


@contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """Yields a hidden name beside the target, with its suffix; a file that still has that name at the end is removed.

    No other process or thread uses it. It is short, since one derived from the target's name might be too long for the
    file system even if the target's is not.
    """
    partial = target.with_name(f".mnemask-{os.getpid()}-{threading.get_ident() % 10**6}.partial{target.suffix}")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def make_durable(*paths: Path) -> None:
    """Returns once these files, and their entries in their folders, would survive a loss of power."""
    for path in paths:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    if os.name != "nt":  # on Windows folders cannot be opened, and entries are durable with the file
        for folder in {path.parent for path in paths}:
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network drives cannot sync folders
                    raise
            finally:
                os.close(handle)


class Unsynced:
    """Files that were written completely but may not have reached the disk.

    Args:
        first: called before files are made durable.
    """

    # By then the system has written most of them, so that syncing costs next to nothing.
    _MOST = 512

    def __init__(self, first: Callable[[], None] = lambda: None) -> None:
        self._first = first
        self._paths: list[Path] = []

    def add(self, path: Path) -> None:
        """Adds a file."""
        self._paths.append(path)
        if len(self._paths) >= self._MOST:
            self.sync()

    def sync(self) -> None:
        """Makes all files durable that still exist."""
        self._first()
        make_durable(*(path for path in self._paths if path.exists()))
        self._paths.clear()


def remove_left_overs(folder: Path, *, below: bool = True) -> None:
    """Removes the unfinished files that killed runs left in a folder; no other run may be using it.

    Args:
        folder: the folder; it need not exist.
        below: whether to search all folders below it too, some of which may belong to another run.
    """
    for path in folder.glob("**/.mnemask-*" if below else ".mnemask-*"):
        if _LEFT_OVER.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yields a path to write to; that file replaces `path` atomically if the block ends without an error.

    Other readers, also after a crash, see either the old file or the complete new one.

    Args:
        path: the file; its folder must exist.
        durable: whether the new file must also survive a loss of power from then on.
    """
    with unfinished(path.with_suffix("")) as partial:  # no suffix: a listing of files of this kind must not find it
        yield partial
        if durable:
            make_durable(partial)
        partial.replace(path)
        if durable:
            make_durable(path)


def write_file(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Writes the file completely or not at all (`durable` as in `replacing`); raises OutputError if it cannot."""
    try:
        with replacing(path, durable=durable) as partial:
            partial.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise OutputError(
            f"cannot write {str(path)!r} ({error.strerror})", "make room or give another place"
        ) from error


@runtime_checkable
class Files(Protocol):
    """Decides whether a finished file may take its name."""

    def publish(self, partial: Path, target: Path, *, durable: bool = False) -> None:
        """Gives a finished file its name; raises OutputError if a file that may not be replaced has that name.

        A durable file would survive a loss of power from then on, and a loss before leaves no part of it.
        """
        ...

    def refuse_foreign(self, *paths: Path) -> None:
        """Raises OutputError if a file that may not be replaced has one of these names."""
        ...

    def claim(self, path: Path) -> None:
        """Records that a file that is about to be created will change."""
        ...

    def remove(self, *paths: Path) -> None:
        """Removes files if the writer wrote them."""
        ...

    def sync(self) -> None:
        """Makes durable what is recorded of files; otherwise they might survive a loss of power as foreign ones."""
        ...


ResumeState = Mapping[str, Any]
"""What a format needs to resume after the frames so far.

Its values are JSON values and label maps, which a checkpoint packs.
"""


@dataclass(frozen=True, slots=True)
class Writing:
    """How one output is written.

    Attributes:
        files: what decides whether a file may take its name.
        frames_per_second: the rate of videos whose frames have no times.
        journal: the folder for unfinished files; None to keep them beside the output.
        resume_state: the state of the earlier run to resume; None for a new run.
        largest_id: the largest object id known in advance; 0 if none is known.
        file_names: the names of the picture files of a folder, by frame; None if the frames are not files.
        objects: the classes and names of the objects, by id.
        footage: what an output video keeps of its source.
        cutout: how objects are cut out in videos for editors.
    """

    files: Files
    frames_per_second: float = 25.0
    journal: Path | None = None
    resume_state: ResumeState | None = None
    largest_id: int = 0
    file_names: Sequence[str] | None = None
    objects: Mapping[int, ObjectInfo] = field(default_factory=dict)
    footage: Footage = Footage()
    cutout: Cutout = Cutout()

    def begin(self, unfinished: Path) -> None:
        """Creates an empty unfinished file, unless there is a folder for such files.

        Raises:
            OutputError: a file that may not be replaced has the name.
        """
        if self.journal is None:
            self.files.refuse_foreign(unfinished)
            # Claimed before it exists: a run that is killed in between leaves no unknown file.
            self.files.claim(unfinished)
            unfinished.touch()

    def finish(self, partial: Path, target: Path, *, complete: bool) -> None:
        """Gives a file its name, or that of an unfinished one; a complete file replaces the unfinished one.

        A complete file is durable, since what it was made from is then removed.
        """
        unfinished = partial_file(target)
        self.files.publish(partial, target if complete else unfinished, durable=complete)
        if complete:
            self.files.remove(unfinished)


class TextJournal:
    """A text file that is only appended to, and that a resumed run truncates to its length at the checkpoint.

    It is opened for each write, since a disk with a file that is open for writing could not be made read-only.

    Args:
        path: the file.
        length: the length in bytes after which to resume; 0 for an empty file.

    Raises:
        OutputError: the file is shorter than that.
    """

    _MOST_WAITING = 2**16  # bytes

    def __init__(self, path: Path, length: int = 0) -> None:
        self.path, self._written, self._waiting = path, length, bytearray()
        if length:
            require(path, path.stat().st_size if path.is_file() else 0, length, "bytes")
        with path.open("r+b" if length else "wb") as file:
            file.truncate(length)

    @property
    def length(self) -> int:
        """Bytes written so far."""
        return self._written + len(self._waiting)

    def add(self, text: str) -> None:
        """Adds text."""
        self._waiting += text.encode()
        if len(self._waiting) > self._MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Hands the added text to the operating system, so that it survives this process."""
        if not self._waiting:
            return
        with self.path.open("r+b") as file:
            file.seek(self._written)  # overwrites what a failed attempt may have left
            file.write(self._waiting)
        self._written += len(self._waiting)
        self._waiting.clear()

    def sync(self) -> None:
        """Makes the added text durable."""
        self.flush()
        make_durable(self.path)

    def close(self) -> None:
        """Writes the remaining text."""
        self.flush()


def require(path: Path, found: int, needed: int, unit: str) -> None:
    """Raises OutputError if a journal has less than the checkpoint requires."""
    if found < needed:
        raise OutputError(
            f"{str(path)!r} holds {found} {unit} but the checkpoint requires {needed}, so it has been changed since",
            "start again in another folder, or overwrite this one (--overwrite)",
        )

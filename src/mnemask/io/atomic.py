"""Atomic file writes, and the journals that an interrupted run resumes from."""

import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
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
    """Returns the name as it is, save for what no file name can hold here or what leads out of a folder: that as %XX.

    A name that the file system took for a frame is kept for its masks, whatever the script, brackets or signs in it.
    """
    kept = _IMPOSSIBLE.sub(lambda found: f"%{ord(found[0]):02X}", name)
    if os.name == "nt" and _WINDOWS_DEVICES.match(kept):
        return f"_{kept}"
    return kept.replace(".", "%2E") if kept in (".", "..") else kept or "%"


def refuse_no_name(path: Path) -> None:
    """Raises OutputError for what can name no file or folder on any system."""
    if "\0" in str(path):
        raise OutputError(f"{str(path)!r} cannot name a file", "leave out the character of code 0")


def make_folder(folder: Path) -> Path:
    """Returns the folder, made with its parents where missing; raises OutputError where that is impossible."""
    refuse_no_name(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{str(folder)!r} cannot be made a folder ({error.strerror})", "give a folder or a place for a new one"
        ) from error
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{str(folder)!r} cannot be written to", "give a folder that you own")
    return folder


def target_file(out: Path, default: str) -> Path:
    """Returns the file to write: `out` itself where it has the suffix of `default`, else `out/default`."""
    target = out if out.suffix.lower() == Path(default).suffix else out / default
    make_folder(target.parent)
    if target.is_dir():
        raise OutputError(f"{str(target)!r} is a folder", "expected the name of a file to write")
    return target


def partial_file(target: Path) -> Path:
    """Returns the name of the file until it is complete: masks.partial.mkv for masks.mkv."""
    return target.with_name(f"{target.stem}.partial{target.suffix}")


@contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """Yields a hidden name beside the target, of its suffix; what still has that name in the end is removed.

    No other process or thread uses it. It is short: one made of the target's name may be too long for the file system
    where the target is not.
    """
    partial = target.with_name(f".mnemask-{os.getpid()}-{threading.get_ident() % 10**6}.partial{target.suffix}")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def make_durable(*paths: Path) -> None:
    """Returns when these files, and the names they have in their folders, would survive a loss of power."""
    for path in paths:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    if os.name != "nt":  # where a folder cannot be opened, and its names are safe with the file
        for folder in {path.parent for path in paths}:
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


class Unsynced:
    """Files that were written whole but may not have reached the disk."""

    # Most of them the system has written by then, so that it costs next to nothing.
    _MOST = 512

    def __init__(self) -> None:
        self._paths: list[Path] = []

    def add(self, path: Path) -> None:
        """Notes one more file."""
        self._paths.append(path)
        if len(self._paths) >= self._MOST:
            self.sync()

    def sync(self) -> None:
        """Makes all of them durable that are still there."""
        make_durable(*(path for path in self._paths if path.exists()))
        self._paths.clear()


def remove_left_overs(folder: Path, *, below: bool = True) -> None:
    """Removes the unfinished files of killed runs in a folder; no other run may be at work there.

    Args:
        folder: need not exist.
        below: whether also in all folders in it, which may be another run's.
    """
    for path in folder.glob("**/.mnemask-*" if below else ".mnemask-*"):
        if _LEFT_OVER.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yields a name to write to; that file takes the place of `path` in one step when the block ends well.

    Whoever looks meanwhile, or after a crash, sees the old file or all of the new one.

    Args:
        path: of the file; its folder exists.
        durable: whether the new file would also survive a loss of power from then on.
    """
    with unfinished(path.with_suffix("")) as partial:  # whoever lists files of this kind must not find it
        yield partial
        if durable:
            make_durable(partial)
        partial.replace(path)
        if durable:
            make_durable(path)


def write_file(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Writes the file, whole or not at all (`durable` as in `replacing`); raises OutputError where it cannot."""
    try:
        with replacing(path, durable=durable) as partial:
            partial.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise OutputError(
            f"cannot write {str(path)!r} ({error.strerror})", "make room or give another place"
        ) from error


@runtime_checkable
class Files(Protocol):
    """Who decides whether a finished file may have its name."""

    def publish(self, partial: Path, target: Path) -> None:
        """Gives a finished file its name; raises OutputError where something has it that may not be replaced."""
        ...

    def refuse_foreign(self, *paths: Path) -> None:
        """Raises OutputError if something has one of these names that may not be replaced."""
        ...

    def claim(self, path: Path) -> None:
        """Notes that a file that is about to be made is going to change."""
        ...

    def remove(self, *paths: Path) -> None:
        """Removes files, if they are the writer's own."""
        ...


ResumeState = Mapping[str, Any]
"""What a format must know to go on after the frames so far.

It has values that JSON holds, and label maps, which a checkpoint packs.
"""


@dataclass(frozen=True, slots=True)
class Writing:
    """How one output is written.

    Attributes:
        files: who decides whether a file may have its name.
        frames_per_second: of videos whose frames have no times.
        journal: the folder for unfinished files; None for beside the output.
        resume_state: of an earlier run to go on after; None to begin.
        largest_id: the largest object id that is known to come, 0 where none is.
        file_names: what the picture files of a folder are called, by frame; None where the frames are no files.
        objects: what objects are called, by id.
        footage: what a video keeps of its source.
        cutout: how objects are cut out, in videos for editors.
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
        """Makes an empty file for what is unfinished, unless there is a folder for such files.

        Raises:
            OutputError: something else has the name.
        """
        if self.journal is None:
            self.files.refuse_foreign(unfinished)
            # Before it is there: whoever is killed in between leaves no file that nobody knows.
            self.files.claim(unfinished)
            unfinished.touch()

    def finish(self, partial: Path, target: Path, *, complete: bool) -> None:
        """Gives a file its name, or that of an unfinished one; a complete one takes the place of that."""
        unfinished = partial_file(target)
        self.files.publish(partial, target if complete else unfinished)
        if complete:
            self.files.remove(unfinished)


class TextJournal:
    """A text file that only grows, and is cut back to where a checkpoint left it.

    It is opened each time it is written to: a disk with a file that is open for writing could not be made read-only.

    Args:
        path: of the file.
        length: bytes that a later run goes on after; 0 begins anew.

    Raises:
        OutputError: if the file is shorter than that.
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
        """Hands what was added to the system, so that it survives this process."""
        if not self._waiting:
            return
        with self.path.open("r+b") as file:
            file.seek(self._written)  # over what an earlier try may have left
            file.write(self._waiting)
        self._written += len(self._waiting)
        self._waiting.clear()

    def sync(self) -> None:
        """Makes what was added durable."""
        self.flush()
        make_durable(self.path)

    def close(self) -> None:
        """Writes what is left."""
        self.flush()


def require(path: Path, found: int, needed: int, unit: str) -> None:
    """Raises OutputError if a journal has lost what a checkpoint counts on."""
    if found < needed:
        raise OutputError(
            f"{str(path)!r} holds {found} {unit} but the checkpoint counts on {needed}, so it was changed since",
            "begin again in another folder, or overwrite this one (--overwrite)",
        )

"""What a file is made of while it is being written, and how a later run goes on with it after a crash."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemask.errors import OutputError
from mnemask.io.atomic import partial_file
from mnemask.io.written import Files

ResumeState = Mapping[str, Any]
"""What a format must know to go on after the frames so far, as JSON holds it."""


@dataclass(frozen=True, slots=True)
class Writing:
    """How one output is written.

    Attributes:
        files: who decides whether a file may have its name.
        frames_per_second: of videos whose frames have no times.
        journal: the folder for unfinished files; None for beside the output.
        mark: of an earlier run to go on after; None to begin.
        largest_id: the largest object id that is known to come, 0 where none is.
        file_names: what the picture files of a folder are called, by frame; None where the frames are no files.
    """

    files: Files
    frames_per_second: float = 25.0
    journal: Path | None = None
    resume_state: ResumeState | None = None
    largest_id: int = 0
    file_names: Sequence[str] | None = None

    def begin(self, unfinished: Path) -> None:
        """Makes an empty file for what is unfinished, unless there is a folder for such files.

        Raises:
            OutputError: something else has the name.
        """
        if self.journal is None:
            self.files.refuse_foreign(unfinished)
            unfinished.touch()
            self.files.claim(unfinished)

    def finish(self, partial: Path, target: Path, *, complete: bool) -> None:
        """Gives a file its name, or that of an unfinished one; a complete one takes the place of that."""
        unfinished = partial_file(target)
        self.files.publish(partial, target if complete else unfinished)
        if complete:
            self.files.remove(unfinished)


class TextJournal:
    """A text file that only grows, and is cut back to where a checkpoint left it.

    Args:
        path: of the file.
        length: bytes that a later run goes on after; 0 begins anew.

    Raises:
        OutputError: if the file is shorter than that.
    """

    def __init__(self, path: Path, length: int = 0) -> None:
        self.path = path
        if length:
            require(path, path.stat().st_size if path.is_file() else 0, length, "bytes")
        self._file = path.open("r+b" if length else "wb")
        self._file.truncate(length)
        self._file.seek(length)

    @property
    def length(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def add(self, text: str) -> None:
        """Adds ASCII text."""
        self._file.write(text.encode("ascii"))

    def sync(self) -> None:
        """Makes what was added durable."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Writes what is left and closes the file."""
        self._file.close()


def require(path: Path, found: int, needed: int, unit: str) -> None:
    """Raises OutputError if a journal has lost what a checkpoint counts on."""
    if found < needed:
        raise OutputError(
            f"{str(path)!r} holds {found} {unit} but the checkpoint counts on {needed}, so it was changed since",
            "begin again in another folder, or overwrite this one (--overwrite)",
        )

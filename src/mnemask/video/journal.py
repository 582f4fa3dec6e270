"""What a file is made of while it is being written, and how a later run goes on with it after a crash."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnemask.errors import OutputError

Mark = Mapping[str, Any]
"""What a format must know to go on after the frames so far, as JSON holds it."""


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
            f"{str(path)!r} holds {found} {unit} but the checkpoint counts on {needed}, so it was changed since; begin "
            "again in another folder, or overwrite this one (--overwrite)"
        )

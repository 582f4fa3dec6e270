"""An append-only file of JSON lines: a process that is killed loses at most the line it was writing."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

from mnemask.errors import InputError, OutputError

Line = dict[str, Any]
_BLOCK = 2**16  # bytes


class Journal:
    """An append-only file of JSON objects, one per line.

    Args:
        path: the file, created if missing. An incomplete last line is cut off: its writer was killed.
        durable: whether each line is on disk when `add` returns (for what cannot be recomputed).

    Raises:
        OutputError: the file cannot be written to.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self.path, self._durable = path, durable
        try:
            # Unbuffered: otherwise bytes that the disk refused would be written with the next line.
            self._file = path.open("a+b", buffering=0)
            self._end = _whole(self._file)
            self._file.truncate(self._end)
            self._identity = os.fstat(self._file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write to {str(path)!r} ({error.strerror})", "make room or unlock it") from error

    @property
    def is_there(self) -> bool:
        """Whether the path still leads to the file that was opened."""
        try:
            return os.path.samestat(self.path.stat(), self._identity)
        except OSError:
            return False

    def add(self, line: Mapping[str, Any]) -> None:
        """Appends a line; if the disk refuses a part of it, none of it is kept."""
        data = json.dumps(line, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
        try:
            left = memoryview(data)
            while left:  # a nearly full disk accepts only a part
                left = left[self._file.write(left) :]
            if self._durable:
                os.fsync(self._file.fileno())
            self._end += len(data)
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._end)
            raise OutputError(f"cannot write to {str(self.path)!r} ({error.strerror})", "make room") from error

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_journal(path: Path) -> Iterator[Line]:
    """Yields the complete lines of a journal; none if there is no file.

    Raises:
        InputError: a complete line is not a JSON object.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            if not text.endswith(b"\n"):  # it was being written when the process was killed
                return
            try:
                line = json.loads(text)
            except ValueError:
                line = None
            if not isinstance(line, dict):
                raise InputError(
                    f"line {number} of {str(path)!r} is damaged", "restore the file from a copy, or delete this line"
                )
            yield line


def _whole(file: FileIO) -> int:
    """Returns how many bytes of a file belong to complete lines."""
    end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - _BLOCK)
        file.seek(begin)
        if (last := file.read(end - begin).rfind(b"\n")) >= 0:
            return begin + last + 1
        end = begin
    return 0

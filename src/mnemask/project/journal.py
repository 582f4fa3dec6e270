"""A file to which lines are only added, so that a process that is killed loses at most the line it was writing."""

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
    """JSON objects, one a line; what was added is on the disk when `add` returns.

    Args:
        path: of the file, made if missing. A last line that is not whole is cut off: its writer was killed.
        durable: whether each line is flushed to the disk (for what cannot be computed again).

    Raises:
        OutputError: the file cannot be written to.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self.path, self._durable = path, durable
        try:
            # Without a buffer: what the disk refused would wait there and be written with the next line.
            self._file = path.open("a+b", buffering=0)
            self._end = _whole(self._file)
            self._file.truncate(self._end)
            self._identity = os.fstat(self._file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write to {str(path)!r} ({error.strerror})", "make room or free it") from error

    @property
    def is_there(self) -> bool:
        """Whether its path still leads to the file that was opened."""
        try:
            return os.path.samestat(self.path.stat(), self._identity)
        except OSError:
            return False

    def add(self, line: Mapping[str, Any]) -> None:
        """Adds a line; where the disk refuses it, nothing of it is kept."""
        data = json.dumps(line, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
        try:
            left = memoryview(data)
            while left:  # a disk that is almost full takes a part
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
    """Yields the whole lines of a journal, none where there is no file.

    Raises:
        InputError: a line before the last is no JSON object.
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
    """Returns how many bytes of a file are whole lines."""
    end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - _BLOCK)
        file.seek(begin)
        if (last := file.read(end - begin).rfind(b"\n")) >= 0:
            return begin + last + 1
        end = begin
    return 0

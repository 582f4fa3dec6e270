"""A file to which lines are only added, so that a process that is killed loses at most the line it was writing."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnemask.errors import InputError, OutputError

Line = dict[str, Any]


class Journal:
    """JSON objects, one a line; what was added is on the disk when `add` returns.

    Args:
        path: of the file, made if missing. A last line that is not whole is cut off: its writer was killed.
        durable: whether each line is flushed to the disk (for what cannot be computed again).

    Attributes:
        lines: that were there when it was opened.

    Raises:
        InputError: a line before the last is no JSON object, so that the file was damaged otherwise.
        OutputError: the file cannot be written to.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self.path, self._durable = path, durable
        self.lines, whole = read_journal(path)
        try:
            self._file = path.open("ab")
            self._file.truncate(whole)
        except OSError as error:
            raise OutputError(f"cannot write to {str(path)!r} ({error.strerror})", "make room or free it") from error

    def add(self, line: Mapping[str, Any]) -> None:
        """Adds a line."""
        try:
            self._file.write(json.dumps(line, separators=(",", ":"), ensure_ascii=True).encode() + b"\n")
            self._file.flush()
            if self._durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write to {str(self.path)!r} ({error.strerror})", "make room") from error

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_journal(path: Path) -> tuple[list[Line], int]:
    """Returns the whole lines of a journal, none where there is no file, and how many bytes they take.

    Raises:
        InputError: a line before the last is no JSON object.
    """
    data = path.read_bytes() if path.exists() else b""
    whole = data.rfind(b"\n") + 1
    lines = []
    for number, text in enumerate(data[:whole].splitlines(), 1):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, dict):
            raise InputError(
                f"line {number} of {str(path)!r} is damaged", "restore the file from a copy, or delete this line"
            )
        lines.append(line)
    return lines, whole

"""Files that wait for more bytes: one that is still being written, and a pipe; the wait can be interrupted."""

import os
import select
import stat
import threading
from pathlib import Path

from mnemask.video.patience import Patience
from mnemask.video.picture import Readable

_LOOK_MILLISECONDS = 100


class GrowingFile:
    """Bytes of a file up to its end, where it waits for more; the file ends when it has not grown for a while.

    It cannot seek, so that a decoder takes it for a pipe and never looks for what is not written yet.
    """

    def __init__(self, path: Path, patience: Patience) -> None:
        self._file = path.open("rb", buffering=0)
        self._patience = patience

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes; none once nothing came for as long as there is patience."""
        while not (data := self._file.read(size)):
            if not self._patience.wait():
                return b""
        self._patience.succeeded()
        return data

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class Pipe:
    """Bytes of a pipe as they come; the pipe ends when its writer closes it or the wait is interrupted."""

    def __init__(self, pipe: Readable, fileno: int, interrupted: threading.Event) -> None:
        # read1 gives what is there; read would wait until all of `size` has come.
        self._read = getattr(pipe, "read1", pipe.read)
        self._interrupted = interrupted
        self._poll = select.poll()
        self._poll.register(fileno, select.POLLIN)

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes; none at the end."""
        while not self._poll.poll(_LOOK_MILLISECONDS):
            if self._interrupted.is_set():
                return b""
        data: bytes = self._read(size)
        return data


class NamedPipe(Pipe):
    """A pipe in the file system; opening it waits for its writer."""

    def __init__(self, path: Path, interrupted: threading.Event) -> None:
        self._file = path.open("rb", buffering=0)
        super().__init__(self._file, self._file.fileno(), interrupted)

    def close(self) -> None:
        """Closes the reading end."""
        self._file.close()


def interruptible(source: Readable, interrupted: threading.Event) -> Readable:
    """Returns the source, as a Pipe where it is one on a system that can wait for several things at once."""
    fileno = getattr(source, "fileno", None)
    if os.name != "posix" or fileno is None:
        return source
    try:
        number = fileno()
    except OSError:  # io.UnsupportedOperation: a file in memory
        return source
    mode = os.fstat(number).st_mode
    return Pipe(source, number, interrupted) if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else source

"""Files that appear under their name only when they are whole, and never outside the folder that was asked for."""

import os
import re
import threading
from pathlib import Path

from mnemask.errors import OutputError

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


def make_folder(folder: Path) -> Path:
    """Returns the folder, made with its parents where missing; raises OutputError where that is impossible."""
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
    """Returns what the file is called until it is complete: masks.mkv is masks.partial.mkv."""
    return target.with_name(f"{target.stem}.partial{target.suffix}")


def temporary_file(target: Path) -> Path:
    """Returns a hidden name beside the target, of its suffix, that no other process or thread uses.

    It is short: one made of the target's name may be too long for the file system where the target is not.
    """
    return target.with_name(f".mnemask-{os.getpid()}-{threading.get_ident() % 10**6}.partial{target.suffix}")


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
        """Makes all of them durable."""
        make_durable(*self._paths)
        self._paths.clear()


def write_whole(path: Path, data: bytes) -> None:
    """Writes the file at once: whoever looks sees the old one or all of the new one."""
    partial = temporary_file(path)
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def write_file(path: Path, content: str | bytes) -> None:
    """Writes the file, whole or not at all; raises OutputError where that is impossible."""
    try:
        write_whole(path, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise OutputError(
            f"cannot write {str(path)!r} ({error.strerror})", "make room or give another place"
        ) from error

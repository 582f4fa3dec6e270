"""What was exported, as files to download: one by one, or all of an export as one zip that is made as it is sent."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import mnemask as mm

_PART = 2**20  # bytes that are read at once
SMALLER = (".json", ".txt", ".csv")  # masks and videos are compressed already


def exported(folder: Path, name: str) -> Path:
    """Returns a file or folder below a folder of exports; raises InputError where there is none of this name."""
    try:
        path = (folder / name).resolve(strict=True)
        inside = folder.resolve() in path.parents
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not inside:
        raise mm.InputError(f"there is no export {name[:80]!r}", "export again")
    return path


def files_of(folder: Path) -> Iterator[Path]:
    """Yields the files below a folder, those of each folder in the order of their names."""
    for name in sorted(path.name for path in folder.iterdir()):  # not paths: an hour of masks is 90,000 of them
        path = folder / name
        if path.is_symlink():
            continue
        if path.is_dir():
            yield from files_of(path)
        elif not path.name.startswith("."):
            yield path


def zipped(folder: Path) -> Iterator[bytes]:
    """Yields the bytes of a zip with all files of a folder, below its name.

    Nothing but one part of a file is held, besides a line of the zip's directory for each file.
    """
    sent = _Sent()
    with zipfile.ZipFile(sent, "w") as archive:
        for path in files_of(folder):
            entry = zipfile.ZipInfo.from_file(
                path, Path(folder.name) / path.relative_to(folder), strict_timestamps=False
            )
            entry.compress_type = zipfile.ZIP_DEFLATED if path.suffix in SMALLER else zipfile.ZIP_STORED
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=entry.file_size > 2**31 - 1) as target:
                while part := source.read(_PART):
                    target.write(part)
                    yield from sent.taken(_PART)
    yield from sent.taken()


class _Sent:
    """A file that is written to once and cannot be read or sought: what a zip is written into as it is sent."""

    def __init__(self) -> None:
        self._parts = bytearray()

    def write(self, part: bytes, /) -> int:
        """Takes bytes in."""
        self._parts += part
        return len(part)

    def flush(self) -> None:
        """Does nothing: what was written is sent when it is taken."""

    def close(self) -> None:
        """Does nothing: there is nothing to let go of."""

    def taken(self, least: int = 1) -> Iterator[bytes]:
        """Yields what was written since as one part, if it is that many bytes."""
        if len(self._parts) >= least:
            yield bytes(self._parts)
            self._parts.clear()

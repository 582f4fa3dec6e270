"""Results on shared storage: s3://, gs:// and whatever else `mnemask.io.storage` opens.

A run needs a folder that supports locks, renaming and resuming, which an object store does not. So a worker writes to
its local disk and copies completed clips, the report last: a clip on the storage with a report is complete.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mnemask.choices import VIDEO_FORMAT_NAMES
from mnemask.errors import OutputError
from mnemask.io.lock import OutputLock
from mnemask.io.storage import is_address, open_storage, reached, shown
from mnemask.io.table import TABLE
from mnemask.io.writer import MASK_FORMATS
from mnemask.io.written import INDEX, PREVIEW, Written
from mnemask.pipeline.places import CHECKPOINT, REPORT

MOMENTS = "moments.json"
_OUTPUTS = {REPORT, TABLE, PREVIEW, *(str(MASK_FORMATS[kind].single_file) for kind in VIDEO_FORMAT_NAMES)}
_RIGHTS = "check its keys, permissions and free space"


@dataclass(slots=True)
class ClipFolder:
    """Where a worker writes a clip.

    Attributes:
        path: the folder, on this machine or on storage that it shares.
        address: the address to copy it to; empty if it needs no copying.
    """

    path: Path
    address: str = ""
    _replaces: bool = False

    def begin_again(self) -> None:
        """Empties a local copy; its new files will replace those of the earlier run at the address once complete."""
        if self.address:
            self._replaces = True
            shutil.rmtree(self.path)
            self.path.mkdir()

    def keep(self) -> None:
        """Copies the completed clip to its address, the report last, so that it is there only with all other files.

        Raises:
            OutputError: the address cannot be written to, or a file that no run wrote is in the way.
        """
        if not self.address:
            return
        file_system, there = open_storage(self.address)
        written = _listed((self.path / INDEX).read_bytes())
        names = [name for name in sorted({INDEX, *written}) if (self.path / name).is_file()]
        names.sort(key=lambda name: name == REPORT)
        with reached(self.address, OutputError, "written to", _RIGHTS):
            file_system.invalidate_cache()
            before = _written_at(file_system, there)
            self._refuse_foreign(_files_at(file_system, there) & {*names} - before)
            # The index stays until the new one replaces it: if this is killed, it tells which files are a run's.
            for name in sorted(before - {INDEX} if self._replaces else (), key=lambda name: name != REPORT):
                if file_system.exists(f"{there}/{name}"):
                    file_system.rm_file(f"{there}/{name}")
            for name in names:
                target = f"{there}/{name}"
                file_system.makedirs(target.rpartition("/")[0], exist_ok=True)
                file_system.put_file(str(self.path / name), target)

    def _refuse_foreign(self, names: Collection[str]) -> None:
        if names:
            raise OutputError(
                f"{min(names)!r} at {shown(self.address)} is in the way and was not written by a run",
                "move it, or give another address",
            )


@contextmanager
def clip_folder(out: str, name: str) -> Iterator[ClipFolder]:
    """Yields the folder to write a clip to; for an address, a local one with the records of the clip from there.

    Args:
        out: the batch's folder, or its address.
        name: the clip's name.

    Raises:
        OutputError: files at its address that no run wrote have names that this run will use.
    """
    if not is_address(out):
        yield ClipFolder(Path(out) / name)
        return
    file_system, root = open_storage(out)
    with TemporaryDirectory(prefix="mnemask-") as scratch:
        folder = ClipFolder(Path(scratch) / "clip", f"{out.rstrip('/')}/{name}")
        folder.path.mkdir()
        with reached(folder.address, OutputError, "read", _RIGHTS):
            place = f"{root.rstrip('/')}/{name}"
            foreign = _files_at(file_system, place) - _written_at(file_system, place)
            folder._refuse_foreign({each for each in foreign if each in _OUTPUTS or each.startswith("masks/")})
            for known in (REPORT, INDEX, MOMENTS):
                if file_system.exists(f"{place}/{known}"):
                    file_system.get_file(f"{place}/{known}", str(folder.path / known))
        yield folder


def _written_at(file_system: Any, there: str) -> set[str]:
    """Returns the names of the files that runs wrote at an address, and of the index that lists them."""
    index = f"{there}/{INDEX}"
    return {INDEX, *_listed(file_system.cat_file(index))} if file_system.exists(index) else set()


def _files_at(file_system: Any, there: str) -> set[str]:
    try:
        paths = file_system.find(there)
    except FileNotFoundError:  # from S3, if the bucket does not exist yet
        return set()
    return {str(path).removeprefix(f"{there}/") for path in paths}


def _listed(index: bytes) -> set[str]:
    """Returns the names in an index of files that runs wrote, in the format of `Written`."""
    names: dict[str, bool] = {}
    for line in filter(None, index.splitlines()):
        name, *state = json.loads(line)
        names[str(name)] = bool(state)  # without a state it is gone
    return {name for name, is_there in names.items() if is_there and ".." not in name.split("/")}


@contextmanager
def batch_folder(out: str, names: Sequence[str]) -> Iterator[Callable[[dict[str, str]], None]]:
    """Yields a function that writes the batch's own files; until the context ends, no other batch can use the folder.

    An address cannot be locked.

    Args:
        out: the batch's folder, or its address.
        names: names of the files that will be written.

    Raises:
        OutputError: another batch uses the folder, it holds a single run, or foreign files have these names.
    """
    if is_address(out):
        yield _results_at(out, names)
        return
    folder = Path(out)
    with OutputLock(folder):
        written = Written(folder)
        if (folder / "masks").exists() or (folder / CHECKPOINT).exists():
            raise OutputError(f"{out!r} holds the run of one video", "give another folder")
        written.refuse_foreign(*(folder / name for name in names))

        def write(files: dict[str, str]) -> None:
            for name, text in files.items():
                written.write(folder / name, text)

        yield write


def _results_at(out: str, names: Sequence[str]) -> Callable[[dict[str, str]], None]:
    file_system, root = open_storage(out)
    root = root.rstrip("/")
    with reached(out, OutputError, "used", "check its keys and permissions, or give another address"):
        there = [name for name in names if file_system.exists(f"{root}/{name}")]
        if there and not (REPORT in there and _is_of_a_batch(file_system.cat_file(f"{root}/{REPORT}"))):
            raise OutputError(f"{shown(out)} holds a {there[0]} not written by mnemask batch", "give another address")

    def write(files: dict[str, str]) -> None:
        with reached(out, OutputError, "written to", _RIGHTS):
            file_system.makedirs(root, exist_ok=True)
            # The report goes first: if the batch is killed in between, it shows that the page is the batch's own.
            for name, text in sorted(files.items(), key=lambda each: each[0] != REPORT):
                file_system.pipe_file(f"{root}/{name}", text.encode())

    return write


def _is_of_a_batch(report: bytes) -> bool:
    try:
        return "manifest" in json.loads(report)
    except (ValueError, TypeError):
        return False

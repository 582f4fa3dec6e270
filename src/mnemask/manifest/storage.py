"""Results on shared storage: s3://, gs:// and what else `mnemask.io.storage` opens.

A run needs a folder that it can lock, rename in and go on in, which an object store is not. So a worker writes on its
own disk and copies what is complete, the report last: a clip on the storage that has one is whole.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mnemask.errors import OutputError
from mnemask.io.lock import OutputLock
from mnemask.io.storage import is_address, open_storage, reached, shown
from mnemask.io.written import INDEX, Written
from mnemask.pipeline.places import CHECKPOINT, REPORT

MOMENTS = "moments.json"
_RIGHTS = "look at its keys, its rights and its room"


@dataclass(slots=True)
class ClipFolder:
    """Where a worker writes a clip.

    Attributes:
        path: the folder, on this machine or on storage that it shares.
        address: where it is to be copied to; empty where it is there already.
    """

    path: Path
    address: str = ""
    _replaces: bool = False

    def begin_again(self) -> None:
        """Lets what is written from now on take the place of an earlier run's, once it is complete."""
        if self.address:
            self._replaces = True
            shutil.rmtree(self.path)
            self.path.mkdir()

    def keep(self) -> None:
        """Copies what is complete to its address, the report last, so that it is there only with all the rest.

        Raises:
            OutputError: it cannot be written there.
        """
        if not self.address:
            return
        file_system, there = open_storage(self.address)
        files = [path for path in sorted(self.path.rglob("*")) if path.is_file()]
        files = [path for path in files if path.name[0] != "." or path.name == INDEX]
        files.sort(key=lambda path: path == self.path / REPORT)
        with reached(self.address, OutputError, "written to", _RIGHTS):
            if self._replaces:
                _remove_listed(file_system, there)
            for path in files:
                target = f"{there}/{path.relative_to(self.path).as_posix()}"
                file_system.makedirs(target.rpartition("/")[0], exist_ok=True)
                file_system.put_file(str(path), target)


@contextmanager
def clip_folder(out: str, name: str) -> Iterator[ClipFolder]:
    """Yields the folder to write a clip to; for an address, one on this machine that holds what is known of it there.

    Args:
        out: the batch's folder, or its address.
        name: of the clip.
    """
    if not is_address(out):
        yield ClipFolder(Path(out) / name)
        return
    file_system, root = open_storage(out)
    with TemporaryDirectory(prefix="mnemask-") as scratch:
        folder = ClipFolder(Path(scratch) / "clip", f"{out.rstrip('/')}/{name}")
        folder.path.mkdir()
        with reached(folder.address, OutputError, "read", _RIGHTS):
            for known in (REPORT, INDEX, MOMENTS):
                there = f"{root.rstrip('/')}/{name}/{known}"
                if file_system.exists(there):
                    file_system.get_file(there, str(folder.path / known))
        yield folder


def _remove_listed(file_system: Any, there: str) -> None:
    """Removes what an earlier run wrote, the report first, and nothing else."""
    listed = file_system.cat_file(f"{there}/{INDEX}").splitlines() if file_system.exists(f"{there}/{INDEX}") else []
    names = {str(json.loads(line)[0]) for line in listed if line}
    for name in sorted(names, key=lambda name: name != REPORT):
        if ".." not in name.split("/") and file_system.exists(f"{there}/{name}"):
            file_system.rm_file(f"{there}/{name}")


@contextmanager
def batch_folder(out: str, names: Sequence[str]) -> Iterator[Callable[[dict[str, str]], None]]:
    """Yields a function that writes the batch's own files; while it is entered, no other batch has the folder.

    Of an address nobody can be kept out.

    Args:
        out: the batch's folder, or its address.
        names: of the files that will be written.

    Raises:
        OutputError: another batch uses the folder, it is that of a single run, or files of others have these names.
    """
    if is_address(out):
        yield _results_at(out)
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


def _results_at(out: str) -> Callable[[dict[str, str]], None]:
    file_system, root = open_storage(out)
    root = root.rstrip("/")
    with reached(out, OutputError, "used", "look at its keys and rights, or give another address"):
        if file_system.exists(f"{root}/{REPORT}") and not _is_of_a_batch(file_system.cat_file(f"{root}/{REPORT}")):
            raise OutputError(f"{shown(out)} holds a report not written by mnemask batch", "give another address")

    def write(files: dict[str, str]) -> None:
        with reached(out, OutputError, "written to", _RIGHTS):
            file_system.makedirs(root, exist_ok=True)
            for name, text in files.items():
                file_system.pipe_file(f"{root}/{name}", text.encode())

    return write


def _is_of_a_batch(report: bytes) -> bool:
    try:
        return "manifest" in json.loads(report)
    except (ValueError, TypeError):
        return False

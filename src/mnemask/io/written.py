"""Index of what a run wrote in a folder: only that may be replaced or removed later, never a file of the user's.

`OUT/.mnemask-written` has one line of JSON per file: its path, size, modification time and digest, recorded before the
file gets its name. A file that was changed since, or that is not listed, belongs to someone else.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from mnemask.errors import OutputError, counted
from mnemask.io.atomic import make_durable, unfinished

INDEX, PREVIEW = ".mnemask-written", "preview.png"

State = tuple[int, int, str]
"""Size, modification time in nanoseconds, digest of the content."""

# Systems write the content of a file some 30 seconds after its name. The index must be there earlier: what a loss of
# power leaves of a file that is not listed is then empty.
_SYNC_SECONDS = 2.0

_ANY: State = (-1, 0, "")
"""State of a file that changes while it is written."""


class Unlisted:
    """Files without an index: either no existing file may be replaced, or any.

    Args:
        replace: whether existing files may be replaced.
    """

    def __init__(self, replace: bool) -> None:
        self._replace = replace

    def publish(self, partial: Path, target: Path, *, durable: bool = False) -> None:
        """Gives a finished file its name; a durable one survives a loss of power from then on."""
        if durable:
            make_durable(partial)
        _place(partial, target, lambda: self._replace)
        if durable:
            make_durable(target)

    def refuse_foreign(self, *paths: Path) -> None:
        """Raises OutputError if one of these names is taken and may not be replaced."""
        taken = [path for path in paths if os.path.lexists(path)]
        if taken and not self._replace:
            raise foreign(*taken)

    def claim(self, path: Path) -> None:
        """Does nothing: there is no index."""

    def remove(self, *paths: Path) -> None:
        """Removes the files if existing files may be replaced."""
        for path in paths:
            if self._replace:
                path.unlink(missing_ok=True)

    def sync(self) -> None:
        """Does nothing: there is no index."""


class Written:
    """The files that runs wrote below a folder.

    Published files are recorded on disk alone, so that memory does not grow with a run's length; files of earlier runs,
    claimed files and files written by `write` are in memory.

    Args:
        folder: folder that holds the index; it need not exist yet.
        index: name of the index; files that only another index lists count as foreign.
    """

    def __init__(self, folder: str | Path, index: str = INDEX) -> None:
        self.folder = Path(folder)
        self._index = self.folder / index
        self._states = self._all()
        self._now: set[str] = set()  # of those in memory, what this run published
        self._more = False  # whether the index has files that are not in memory
        self._begun = False
        self._synced = time.monotonic()
        self._writing = threading.Lock()

    def _read(self) -> Iterator[tuple[str, State | None]]:
        """Yields the file and state of each line; skips lines that were cut off or lead out of the folder."""
        try:
            index = self._index.open("rb")
        except OSError:
            return
        with index:
            for line in index:
                try:
                    path, *state = json.loads(line)
                    pure = PurePosixPath(path)
                    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
                        continue
                    yield path, (int(state[0]), int(state[1]), str(state[2])) if state else None
                except (ValueError, TypeError, IndexError):
                    continue

    def _all(self) -> dict[str, set[State]]:
        """Returns the states of all files in the index, in the order of their last entries."""
        states: dict[str, set[State]] = {}
        for key, state in self._read():
            _learn(states, key, state)
        return states

    def _states_of(self, *paths: Path) -> Mapping[str, set[State]]:
        """Returns at least the states of these files; the index is read only if some may not be in memory."""
        keys = {self._key(path) for path in paths}
        if not self._more or keys <= self._states.keys():
            return self._states
        states: dict[str, set[State]] = {}
        for key, state in self._read():
            if key in keys:
                _learn(states, key, state)
        return states

    def owns(self, path: Path) -> bool:
        """Returns whether a file exists as a run wrote it."""
        return os.path.lexists(path) and _is_as_written(path, self._states_of(path).get(self._key(path)))

    def files(self) -> list[Path]:
        """Returns the files that runs wrote and that still exist unchanged."""
        states = self._all() if self._more else self._states
        return [path for key, known in states.items() if _is_as_written(path := self.folder / key, known)]

    def since(self, path: Path) -> list[Path]:
        """Returns the files recorded or claimed after a file."""
        keys = list(self._all() if self._more else self._states)
        return [self.folder / key for key in keys[keys.index(self._key(path)) + 1 :]]

    def missing(self) -> list[Path]:
        """Returns the files that runs wrote and that no longer exist, including unfinished ones."""
        gone: dict[str, set[State]] = {}
        for key, state in self._read():
            if not os.path.lexists(self.folder / key):
                _learn(gone, key, state)
        return [self.folder / key for key, states in gone.items() if states]

    def refuse_foreign(self, *paths: Path) -> None:
        """Raises OutputError if one of these names is taken by something that no run wrote."""
        there = [path for path in paths if os.path.lexists(path)]
        states = self._states_of(*there)
        if taken := sorted(path for path in there if not _is_as_written(path, states.get(self._key(path)))):
            raise foreign(*taken)

    def publish(self, partial: Path, target: Path, *, durable: bool = False) -> None:
        """Gives a finished file its name, replacing an earlier run's.

        A durable file survives a loss of power from then on, and so does the index with the files recorded before it.

        Raises:
            OutputError: something else has the name, or this run has used it already.
        """
        key = self._key(target)
        # Files of earlier runs are in memory; a file that exists and is not in memory can only be this run's own.
        if key in self._now or (key not in self._states and self.owns(target)):
            raise OutputError(f"{str(target)!r} would be written twice by this run", "give its frames different names")
        self._publish(partial, target, durable)

    def _publish(self, partial: Path, target: Path, durable: bool) -> None:
        key = self._key(target)
        may_replace = not os.path.lexists(target) or self.owns(target)
        state = partial.stat()
        self._note(key, (state.st_size, state.st_mtime_ns, _digest(partial)))
        if durable:
            make_durable(partial)
            self.sync()
        _place(partial, target, lambda: may_replace and self.owns(target))
        if durable:
            make_durable(target)
        if key in self._states:
            self._now.add(key)

    def adopt(self, partial: Path, target: Path) -> None:
        """Gives a finished folder its name, after recording its files as the run's own.

        Raises:
            OutputError: something else has the name, or the folder cannot be renamed.
        """
        if os.path.lexists(target):
            raise foreign(target)
        for path in partial.rglob("*"):
            if path.is_file():
                state = path.stat()
                key = self._key(target / path.relative_to(partial))
                self._note(key, (state.st_size, state.st_mtime_ns, _digest(path)))
        try:
            partial.replace(target)
        except OSError as error:
            raise OutputError(
                f"{str(partial)!r} cannot be renamed ({error.strerror})", "make the folder writable"
            ) from error

    def remove_folder(self, folder: Path) -> None:
        """Removes what runs wrote in a folder; raises OutputError if something else is in it."""
        if not os.path.lexists(folder):
            return
        if folder.is_symlink() or not folder.is_dir():
            raise foreign(folder)
        files = [path for path in folder.rglob("*") if not path.is_dir()]
        self.refuse_foreign(*files)
        self.remove(*files)
        with suppress(OSError):
            folder.rmdir()

    def write(self, path: Path, content: str | bytes) -> None:
        """Writes a file durably, completely or not at all, replacing an earlier one of this or another run.

        Raises:
            OutputError: something else has the name, or the place cannot be written to.
        """
        key = self._key(path)
        if key not in self._states:
            self._states[key] = set(self._states_of(path).get(key, ())) if os.path.lexists(path) else set()
        try:
            with unfinished(path) as partial:
                partial.write_bytes(content.encode() if isinstance(content, str) else content)
                self._publish(partial, path, durable=True)
        except OSError as error:
            raise OutputError(
                f"cannot write {str(path)!r} ({error.strerror})", "make room or give another place"
            ) from error

    def claim(self, path: Path) -> None:
        """Records a file or folder that is about to be created as the run's own, whatever it will hold."""
        self._note(self._key(path), _ANY)

    def claims(self, path: Path) -> bool:
        """Returns whether a file or folder was claimed."""
        return _ANY in self._states.get(self._key(path), ())

    def forget(self, path: Path) -> None:
        """Records that a file or folder in memory is gone, or belongs to someone else from now on."""
        if self._key(path) in self._states:
            self._note(self._key(path), None)

    def settle(self, path: Path) -> None:
        """Records the final state of a claimed file: whoever changes it later makes it theirs."""
        self.forget(path)
        if path.is_file():
            state = path.stat()
            self._note(self._key(path), (state.st_size, state.st_mtime_ns, _digest(path)))

    def take_empty(self, *paths: Path) -> None:
        """Records those of the files that are empty as an unfinished run's own.

        A loss of power leaves them of files whose content, and perhaps lines in the index, had not reached the disk.
        """
        for path in paths:
            if path.is_file() and not path.is_symlink() and not path.stat().st_size and not self.owns(path):
                self._states.setdefault(self._key(path), set())
                self.settle(path)

    def remove(self, *paths: Path) -> None:
        """Removes those of the files that a run wrote, and folders that become empty."""
        there = [path for path in paths if os.path.lexists(path)]
        states, parents = self._states_of(*there), set()
        for path in there:
            if _is_as_written(path, states.get(self._key(path))):
                path.unlink()
                parents |= {each for each in path.parents if self.folder in each.parents}
        for folder in sorted(parents, key=lambda each: len(each.parts), reverse=True):
            with suppress(OSError):
                folder.rmdir()

    def remove_all(self) -> None:
        """Removes everything that runs wrote, and only that; raises OutputError if that is impossible."""
        try:
            # The report is recorded last, so it is removed first: without it, the rest is not taken for a complete run.
            self.remove(*reversed(self.files()))
            self._index.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"the files of an earlier run cannot be removed from {str(self.folder)!r} ({error.strerror})",
                "remove them yourself, or give another folder",
            ) from error
        self._begun = self._more = False
        self._states.clear()
        self._now.clear()

    def sync(self) -> None:
        """Makes the index durable."""
        if self._begun:
            with self._refusals():
                make_durable(self._index)
            self._synced = time.monotonic()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._begun = False  # part of a line may have been written
            raise OutputError(
                f"cannot write {str(self._index)!r} ({error.strerror})", "make room or give another place"
            ) from error

    def _key(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _note(self, key: str, state: State | None) -> None:
        line = (json.dumps([key, *(state or ())]) + "\n").encode("ascii")
        # Opened each time: a disk with a file open for writing cannot be made read-only.
        with self._refusals(), self._writing, self._index.open("ab") as index:
            if not self._begun:
                line = b"\n" + line  # ends a line that a crash cut off
                self._begun = True
            index.write(line)
            if key in self._states or state is None or state == _ANY:
                _learn(self._states, key, state)
            else:
                self._more = True
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self.sync()


def _learn(states: dict[str, set[State]], key: str, state: State | None) -> None:
    """Applies a line of the index to a file's states; None records that the file is gone."""
    known = states[key] = states.pop(key, set())  # the last one recorded comes last
    if state is None or state == _ANY or _ANY in known:
        known.clear()
    if state is not None:
        known.add(state)


def _is_as_written(path: Path, states: Collection[State] | None) -> bool:
    """Returns whether a file exists in one of these states."""
    if not states or path.is_symlink() or not path.is_file():
        return False
    if _ANY in states:
        return True
    found = path.stat()
    if any((size, changed) == (found.st_size, found.st_mtime_ns) for size, changed, _ in states):
        return True
    same_size = {digest for size, _, digest in states if size == found.st_size}
    return bool(same_size) and _digest(path) in same_size


def is_preview(path: Path) -> bool:
    """Returns whether a file is the preview that a run left in its folder, which may hold frames or masks."""
    return path.name == PREVIEW and Written(path.parent).owns(path)


def foreign(path: Path, *others: Path) -> OutputError:
    """Returns the error for paths that are taken by something that this program did not write."""
    more = f" and {counted(len(others), 'more file')} are" if others else " is"
    return OutputError(
        f"{str(path)!r}{more} in the way: not written by this program, or changed since, and so never replaced",
        f"move {'them' if others else 'it'}, or give another folder",
    )


def first_same(paths: Iterable[Path], others: Iterable[Path]) -> tuple[Path, Path] | None:
    """Returns the first of the paths that leads to the same file as one of the others, and that other one."""
    known = {}
    for other in others:
        with suppress(OSError, ValueError):
            state = other.stat()
            known[state.st_dev, state.st_ino] = other
    for path in paths if known else ():
        with suppress(OSError, ValueError):
            state = path.stat()
            if found := known.get((state.st_dev, state.st_ino)):
                return path, found
    return None


def _place(partial: Path, target: Path, may_replace: Callable[[], bool]) -> None:
    """Gives a file its name in one step that fails if the name is taken, if the file system supports such a step."""
    try:
        os.link(partial, target)
    except FileExistsError:
        if not may_replace():
            raise foreign(target) from None
        partial.replace(target)
    except OSError:  # a file system without hard links
        if os.path.lexists(target) and not may_replace():
            raise foreign(target) from None
        partial.replace(target)
    else:
        partial.unlink()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()

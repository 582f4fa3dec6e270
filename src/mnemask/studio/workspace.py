"""The folder of projects, and the only other folders that the studio may read."""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mnemask as mm
from mnemask.choices import VIDEO_SUFFIXES
from mnemask.io.atomic import make_folder, safe_name
from mnemask.io.images import IMAGE_SUFFIXES
from mnemask.model.stcn import STCN
from mnemask.project import follow_video, source_of, state_of
from mnemask.project.about import SETTINGS
from mnemask.studio.exports import EXPORTS, remove_unfinished

log = logging.getLogger(__name__)

MOST_ENTRIES = 2000  # listed per folder


class Workspace:
    """The projects by name, opened on first use and kept open.

    Args:
        folder: the folder with one subfolder per project.
        roots: the folders below which videos may be opened.
        model: the network that `settings` names, shared by all projects made with it; by default each loads its own.
        settings: the settings of new projects.

    Attributes:
        notes: messages to show when a project is opened, by its name.
        before_closing: called with the name of an open project whose video or folder was moved or deleted, before it
            is closed.
    """

    def __init__(
        self, folder: Path, roots: Sequence[Path], model: STCN | None = None, settings: dict[str, Any] | None = None
    ) -> None:
        self.folder = make_folder(folder).resolve()
        self.roots = list(dict.fromkeys(root.resolve() for root in roots))
        self._model, self._settings = model, settings or {}
        self._open: dict[str, mm.Project] = {}
        self.notes: dict[str, str] = {}
        self.before_closing: Callable[[str], None] = lambda name: None
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Returns the names of all projects."""
        return sorted(path.parent.name for path in self.folder.glob("*/project.json"))

    def allowed(self, text: str) -> Path:
        """Returns the real path of a file or folder; raises InputError unless there is one below one of the roots."""
        try:
            path = Path(text).resolve()
        except (OSError, ValueError, RuntimeError):
            path = None
        if path is None or not any(path == root or root in path.parents for root in self.roots):
            named = ", ".join(str(root) for root in self.roots)
            raise mm.InputError(
                f"{text[:200]!r} is not in the folders that the studio was started with ({named})",
                "name its folder when you start it (mnemask studio FOLDER)",
            )
        if not path.exists():
            raise mm.InputError(
                f"{text[:200]!r} no longer exists", "put it back under this name, or open it at its new place"
            )
        if not (path.is_file() or path.is_dir()):  # a named pipe would be waited for
            raise mm.InputError(f"{text[:200]!r} is neither a file nor a folder", "save the video to a file")
        return path

    def browse(self, text: str) -> dict[str, Any]:
        """Returns what can be opened in a folder; without a folder, the roots."""
        if not text:
            return {"path": "", "parent": None, "entries": [_entry(root) for root in self.roots]}
        folder = self.allowed(text)
        if not folder.is_dir():
            raise mm.InputError(f"{text[:200]!r} is not a folder", "choose one")
        parent = "" if folder in self.roots else str(folder.parent)
        entries: list[dict[str, Any]] = []
        images = 0
        try:
            found = sorted(folder.iterdir(), key=lambda path: (not path.is_dir(), path.name.casefold()))
        except OSError as error:
            raise mm.InputError(
                f"{text[:200]!r} cannot be read ({error.strerror})", "let this user read it, or choose another folder"
            ) from error
        for path in found:
            if path.name.startswith(".") or len(entries) >= MOST_ENTRIES:
                continue
            if path.suffix.lower() in IMAGE_SUFFIXES:
                images += 1
            elif path.is_dir() or (path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()):
                entries.append(_entry(path))
        return {"path": str(folder), "parent": parent, "entries": entries, "images": images}

    def open_source(self, text: str) -> str:
        """Returns the name of a video's project, also if the video was moved; created if there is none yet."""
        source = self.allowed(text)
        with self._lock:
            sources = self._sources()
            for name, known in sources.items():
                if known == source:
                    return name
            for name, known in sources.items():
                if not known.exists() and follow_video(self.folder / name, source):
                    self._drop(name)  # it would look for the video at its old place
                    self.notes[name] = f"The video was {str(known)!r} before: its project is continued."
                    log.warning("%s was %s before: continuing project %s", source, known, name)
                    return name
            stem = safe_name(source.stem if source.is_file() else source.name)
            taken = {path.name for path in self.folder.iterdir()}
            name = next(name for name in (stem, *(f"{stem}-{n}" for n in range(2, 10_000))) if name not in taken)
            self._drop(name)  # its folder was deleted
            project = mm.Project.create(self.folder / name, source, self._model, **self._settings)
            self._open[name] = project
            return name

    def project(self, name: str) -> mm.Project:
        """Returns a project, opened if necessary; raises InputError if there is none or its video may not be opened."""
        found = self._open.get(name)  # without the lock, which may be held while a long video is indexed
        if found is not None:
            return found
        with self._lock:
            if name not in self._open:
                if name not in self.names():
                    raise mm.InputError(f"there is no project {name[:80]!r}", "open a video first")
                self.allowed(str(source_of(self.folder / name)))
                opened = mm.Project(self.folder / name, self._network(name))
                remove_unfinished(self.folder / name / EXPORTS)
                self._open[name] = opened
            return self._open[name]

    def _drop(self, name: str) -> None:
        """Closes a project if it is open."""
        if name in self._open:
            self.before_closing(name)
            self._open.pop(name).close()
            self.notes.pop(name, None)

    def _network(self, name: str) -> STCN | None:
        """Returns the shared network if it is the one of a project; None if the project is to load its own."""
        shared = self._settings.get("model", SETTINGS["model"])
        return self._model if state_of(self.folder / name).settings.get("model") == shared else None

    def _sources(self) -> dict[str, Path]:
        """Returns the videos of projects by name; a project without a readable one is skipped with a warning."""
        sources = {}
        for name in self.names():
            try:
                sources[name] = source_of(self.folder / name)
            except mm.InputError as error:
                log.warning("a project is skipped: %s", error)
        return sources

    def close(self) -> None:
        """Closes all projects."""
        with self._lock:
            for project in self._open.values():
                project.close()
            self._open.clear()


def _entry(path: Path) -> dict[str, Any]:
    return {"name": path.name or str(path), "path": str(path), "folder": path.is_dir()}

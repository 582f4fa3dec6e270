"""Masks of files as keys of a project, and the passes that follow them."""

import json
import logging
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from mnemask.errors import InputError, MaskError, MnemaskError
from mnemask.io.atomic import write_file
from mnemask.io.label_files import annotated_frames, interpolated_in, is_annotated, objects_of
from mnemask.io.random_access import FrameAccess
from mnemask.project.project import Project
from mnemask.project.state import State, folded
from mnemask.prompts.colour_ids import ColourIds, MarkedFile
from mnemask.prompts.mask_file import clean_or_refuse, inspect_mask
from mnemask.prompts.mask_folder import given_masks
from mnemask.prompts.mask_matching import match_frames, named_otherwise
from mnemask.prompts.mask_places import never_annotated, refuse_several
from mnemask.prompts.parse import parse_at, refuse_unknown
from mnemask.types import MAX_OBJECTS, Frame, ObjectInfo

log = logging.getLogger(__name__)

_NOTE = "unfollowed.json"
_UNCHANGED = "unchanged"  # in `Key.how`: the mask is that of the project, in a frame in which another was corrected


class Mark(NamedTuple):
    """The mask of one object in one frame, and the colours, as "#rrggbb", that stand for the object in its file."""

    frame: int
    object_id: int
    mask: Bool[Tensor, "H W"]
    painted: Sequence[str] = ()


def read_marks(texts: Sequence[str], frames: FrameAccess, state: State | None) -> list[Mark]:
    """Returns the masks of `FRAME[:ID]=MASK`, by frame; one colour is one object in all files, also of earlier calls.

    Args:
        texts: the frames, ids and files.
        frames: the frames of the video.
        state: the state of the project; None for a new one.

    Raises:
        InputError: a frame does not exist, or was accepted; or a mask does not say which of several objects it shows.
        MaskError: a mask cannot be read, has another size, marks nothing, or contradicts another.
    """
    files, readings = [], []
    marks = sorted(map(parse_at, texts), key=lambda mark: mark.frame)
    names = None if frames.files is None else [path.stem for path in frames.files]
    for doubt, remedy in named_otherwise(marks, names):
        log.warning("%s: %s", doubt, remedy)
    for mark in marks:
        if mark.frame >= len(frames):
            raise InputError(
                f"--at marks frame {mark.frame}, which does not exist", f"the video has frames 0 to {len(frames) - 1}"
            )
        if state is not None and state.is_accepted(mark.frame):
            raise InputError(
                f"--at marks frame {mark.frame}, which was accepted and so cannot be changed",
                "leave it out, or unaccept it in the studio first",
            )
        refuse_several(mark)
        file = _read(mark.path, mark.frame, frames.size, () if state is None else state.objects, mark.object_id)
        if not file.labels:
            raise MaskError(
                f"mask {mark.path} marks no object", "paint each object with its own value, and the background with 0"
            )
        files.append(file)
        readings.append(torch.from_numpy(inspect_mask(mark.path, frames.size).labels))
    ids = ColourIds.of(files, {} if state is None else _colours_in(state))
    found = []
    for file, labels in zip(files, readings, strict=True):
        shown = ids.ids_of(file)
        for object_id in dict.fromkeys(shown.values()):
            own = [label for label, each in shown.items() if each == object_id]
            mask = torch.isin(labels, torch.tensor(own))
            found.append(Mark(file.frame, object_id, mask, ids.painted(file, own, object_id)))
    _say(ids)
    return found


def set_marks(project: Project, marks: Iterable[Mark]) -> list[int]:
    """Sets masks as keys, adding new objects, and returns the frames."""
    marked = []
    for frame, object_id, mask, painted in marks:
        if object_id not in project.state.objects:
            project.add_object(object_id=object_id)
        project.set_key(frame, object_id, mask, {"painted": painted} if painted else None)
        marked.append(frame)
    return marked


def set_corrections(project: Project, place: str | Path, objects: Iterable[int] = ()) -> list[int]:
    """Sets the masks of a file or folder as keys in frames where one differs from a project's; returns these frames.

    Tools give back every frame. Unchanged ones get no key; in changed ones, every object that the file shows gets one.
    If an object of the file is missing in a frame in which the project has it, it is absent there; but if most frames
    are empty, these count as not annotated. New objects are added, with their class in the file, and tracked on through
    frames in which it lacks them; known ones keep their class if they have one. Objects that the file shows in no frame
    stay as they are. One colour is one object in all files.

    Args:
        project: the project to correct.
        place: a folder of masks, or the file or folder of an annotation tool, as for `segment --mask`.
        objects: ids that must exist in the project or the masks; the caller names them.

    Raises:
        MaskError: the masks cannot be read, contradict each other, or are of other frames or another size; nothing is
            changed.
        InputError: a frame to change was accepted, an object does not exist, or a mask does not say which of several
            objects it shows; nothing is changed.
    """
    place = Path(place)
    names = project.frames.file_names
    stems = None if names is None else [Path(name).stem for name in names]
    listed, _ = match_frames(given_masks(place)[0], stems, project.num_frames)
    size, known = project.frames.size, project.state.objects
    files = {frame: _read(listed[frame], frame, size, known) for frame in sorted(listed)}
    colours = ColourIds.of(list(files.values()), _colours_in(project.state), exported=True)
    shown = {frame: colours.ids_of(file) if file.labels else {} for frame, file in files.items()}
    matched = {frame: path for frame, path in listed.items() if shown[frame] or is_annotated(path)}
    if 2 * len(matched) >= len(listed):
        matched = listed
    if never_annotated([bool(shown[frame]) for frame in matched]):
        matched = {frame: path for frame, path in matched.items() if shown[frame]}
    if len(matched) < len(listed):
        log.warning(
            "%s of %s masks in %s are empty: these frames count as not annotated, and stay as they are",
            *(len(listed) - len(matched), len(listed), place),
        )
    if not matched:
        raise MaskError(f"{place} marks no object in any of its {len(listed)} masks", "annotate at least one")
    ids = {object_id for marked in shown.values() for object_id in marked.values()}
    if len(ids) > MAX_OBJECTS:
        raise InputError(
            f"{place} marks {len(ids)} objects, more than {MAX_OBJECTS}", "keep those that you want to track"
        )
    named = {*objects}
    refuse_unknown(named, {*known, *ids})
    _say(colours)

    def masks(frame: int) -> Iterator[_FileMask]:
        return _file_masks(project, frame, matched[frame], shown[frame], ids)

    changed = [frame for frame in matched if any(each.differs for each in masks(frame))]
    if final := [frame for frame in changed if project.state.is_accepted(frame)]:
        raise InputError(f"{place} changes frame {final[0]}, which was accepted", "unaccept it first, or leave it out")
    _warn_of_unshown(project, place, known.keys() - ids, matched)
    holders = dict.fromkeys(path.parent for path in matched.values()) if annotated_frames(place) else ()
    said = {object_id: info for holder in holders for object_id, info in objects_of(holder).items()}
    _name_known(project, place, {i: said[i] for i in sorted(ids & known.keys() & said.keys())}, named)
    for object_id in sorted(ids - known.keys()):
        info = said.get(object_id, ObjectInfo())
        project.add_object(info.name, object_id=object_id, category=info.category)
    for frame in changed:
        keys = project.state.keys_at(frame)
        for each in masks(frame):
            own = [label for label, object_id in shown[frame].items() if object_id == each.object_id]
            painted = colours.painted(files[frame], own, each.object_id)
            how = {"tool": place.name, **({"painted": painted} if painted else {})}
            if each.differs:
                project.set_key(frame, each.object_id, each.mask, how)
            elif each.mask.any():
                old = keys.get(each.object_id)
                project.set_key(frame, each.object_id, each.mask, old.how if old else how | {_UNCHANGED: True})
    return changed


def _read(
    path: Path, frame: int, size: tuple[int, int], known: Collection[int], object_id: int | None = None
) -> MarkedFile:
    """Returns what a file marks in a frame; a mask without ids is of the project's only object, if it has one."""
    reading = inspect_mask(path, size)
    clean_or_refuse(path, reading, "error")
    if object_id is None and reading.ids and reading.kind in ("black and white", "transparency"):
        if len(known) > 1:
            ids = ", ".join(map(str, known))
            raise InputError(
                f"mask {path} for frame {frame} does not say which of the objects {ids} it shows",
                f"give its id, such as --at {frame}:{max(known)}={path.name}, or paint it in the id's grey level",
            )
        object_id = next(iter(known), None)
    return MarkedFile.of(path, frame, reading, object_id)


def _warn_of_unshown(project: Project, place: Path, unshown: Collection[int], frames: Iterable[int]) -> None:
    """Warns of objects that a file shows in no frame, though the project shows them in some of its frames."""
    if not unshown:
        return
    seen = {object_id for frame in frames for object_id in project.labels(frame).unique().tolist()}
    for object_id in sorted(seen.intersection(unshown)):
        name = str(project.state.objects[object_id].info)
        log.warning(
            "%s does not show object %d%s of the project in any frame: it stays as it is; if it is to go, delete it in "
            "the studio",
            *(place, object_id, name and f" ({name})"),
        )


def _name_known(project: Project, place: Path, said: Mapping[int, ObjectInfo], named: Collection[int]) -> None:
    """Gives objects of a project the class and name that a file states, if they have none; warns if they differ.

    Args:
        project: the project.
        place: the file.
        said: what it states, by id.
        named: ids of objects that are named otherwise.
    """
    missing = {}
    for object_id, theirs in said.items():
        own = project.state.objects[object_id].info
        both = ObjectInfo(own.category or theirs.category, own.name or theirs.name)
        other = ObjectInfo(theirs.category or own.category, theirs.name or own.name)
        if other != both and object_id not in named:
            log.warning(
                "%s calls object %d %r, the project %r: the project's is kept; --object %s changes it",
                *(place, object_id, str(theirs), str(own), shlex.quote(f"{object_id}={other}")),
            )
        if both != own:
            missing[object_id] = both
    project.name_objects(missing)


class _FileMask(NamedTuple):
    """The mask of an object in a frame of a file, and whether it differs from the project's."""

    object_id: int
    mask: Bool[Tensor, "H W"]
    differs: bool


def _file_masks(
    project: Project, frame: int, path: Path, shown: Mapping[int, int], ids: set[int]
) -> Iterator[_FileMask]:
    """Yields the mask of each object of a file in a frame, even if empty, but not those that its tool interpolated."""
    stored, unstated = project.labels(frame), interpolated_in(path)
    labels = inspect_mask(path, project.frames.size).labels
    for object_id in sorted(ids - unstated):
        own = [label for label, each in shown.items() if each == object_id]
        mask = torch.from_numpy(np.isin(labels, own))
        yield _FileMask(object_id, mask, not torch.equal(mask, stored == object_id))


def _colours_in(state: State) -> dict[int, tuple[str, ...]]:
    """Returns the colours that have marked each object of a project so far."""
    return {object_id: each.painted for object_id, each in state.objects.items()}


def _say(ids: ColourIds) -> None:
    for note in ids.notes:
        log.info("%s", note)


def correct(
    project: Project, set_keys: Callable[[Project], object], on_frame: Callable[[Frame], None], given: str = ""
) -> None:
    """Sets keys and tracks from them; what an earlier call left unfinished, since it was stopped, is tracked as well.

    Tracking changes the masks of frames that a tool's file shows as they were before. So a file whose keys were all set
    is not compared with the project again until a key changes otherwise.

    Args:
        project: the project to correct.
        set_keys: a function that sets keys, such as `set_corrections`.
        on_frame: called after each tracked frame.
        given: the name and checksum of the file or folder that the keys come from, if it is compared with the project.
    """
    path = project.folder / _NOTE
    note = _Note.read(path)
    start = len(project.actions) if note.unfollowed is None else note.unfollowed
    if given and given == note.given and note.keys_are_unchanged(project):
        if note.unfollowed is None:
            log.info("these masks were imported before, and no mask was set or removed since: nothing is corrected")
            return
    else:
        _Note(start).write(path)
        try:
            set_keys(project)
        except MnemaskError:
            note.write(path)
            raise
        note = _Note(start, given, len(project.actions))
        note.write(path)
    since = [(line["frame"], line["object"]) for line in project.actions[start:] if line["do"] == "set_key"]
    if frames := {frame for frame, object_id in since if (frame, object_id) in project.state.keys}:
        _track(project, frames, on_frame)
    note._replace(unfollowed=None).write(path)


class _Note(NamedTuple):
    """What a project keeps about its last corrections, for the call after one that was stopped.

    Attributes:
        unfollowed: the number of actions before the corrections that have not been tracked to the end; None if all are.
        given: the file or folder whose keys were all set; empty if there is none.
        actions: the number of actions when they were set.
    """

    unfollowed: int | None = None
    given: str = ""
    actions: int = 0

    @classmethod
    def read(cls, path: Path) -> "_Note":
        """Returns what a file says."""
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            if "given" not in said:
                return cls(int(said["actions"]))  # of an earlier version, which noted only unfinished corrections
            unfollowed = said["unfollowed"]
            return cls(None if unfollowed is None else int(unfollowed), str(said["given"]), int(said["actions"]))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, KeyError, TypeError):
            return cls(0)  # damaged: all keys are followed again

    def write(self, path: Path) -> None:
        """Writes the file."""
        write_file(path, json.dumps(self._asdict()), durable=True)

    def keys_are_unchanged(self, project: Project) -> bool:
        """Returns whether a project has the keys that it had when those of `given` were set."""
        return folded(project.actions[: self.actions])[0].keys == project.state.keys


def _track(project: Project, marked: Iterable[int], on_frame: Callable[[Frame], None]) -> None:
    """Tracks from the first of the marked frames to the end, then backwards from each that shows an object first."""
    first, *later = sorted(set(marked))
    project.track(first, on_frame=lambda report, frame: on_frame(frame))
    keys = project.state.keys
    begins: dict[int, int] = {}
    for at, object_id in sorted(keys):
        begins.setdefault(object_id, at)
    for start in (first, *sorted(set(begins.values()).intersection(later))):
        shown = project.labels(start).unique().tolist()
        corrected = [i for i, key in project.state.keys_at(start).items() if not key.how.get(_UNCHANGED)]
        ids = [i for i in corrected if i in shown and (start - 1, i) not in keys]
        if start > first:  # objects marked earlier have been tracked up to here
            ids = [i for i in ids if begins[i] == start]
        if ids and start and not project.state.is_accepted(start - 1):
            project.track(start, "backward", to="key", objects=ids, on_frame=lambda report, frame: on_frame(frame))

"""Masks of files as keys of a project, and the passes that follow them."""

import json
import logging
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
from mnemask.project.state import State
from mnemask.prompts.colour_ids import ColourIds, MarkedFile
from mnemask.prompts.mask_file import clean_or_refuse, inspect_mask
from mnemask.prompts.mask_folder import list_masks, match_frames, never_annotated, refuse_several
from mnemask.prompts.parse import parse_at, refuse_unknown
from mnemask.types import MAX_OBJECTS, Frame

log = logging.getLogger(__name__)

_UNFOLLOWED = "unfollowed.json"


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
    for mark in sorted(map(parse_at, texts), key=lambda mark: mark.frame):
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
    """Sets the masks of a file or folder as keys where they differ from a project's, and returns these frames.

    Tools give back every frame; unchanged ones are left as they are. If an object of the file is missing in a frame, it
    is absent there; but if most frames are empty, these count as not annotated. New objects are added, with their class
    in the file. One colour is one object in all files.

    Args:
        project: the project to correct.
        place: a folder of masks, or the file or folder of an annotation tool, as for `segment --mask`.
        objects: ids that must exist in the project or the masks.

    Raises:
        MaskError: the masks cannot be read, contradict each other, or are of other frames or another size; nothing is
            changed.
        InputError: a frame to change was accepted, an object does not exist, or a mask does not say which of several
            objects it shows; nothing is changed.
    """
    place = Path(place)
    names = project.frames.file_names
    stems = None if names is None else [Path(name).stem for name in names]
    listed, _ = match_frames(list_masks(place), stems, project.num_frames)
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
    refuse_unknown(objects, {*known, *ids})
    _say(colours)

    def differences(frame: int) -> Iterator[tuple[int, Bool[Tensor, "H W"]]]:
        return _differences(project, frame, matched[frame], shown[frame], ids)

    changed = [frame for frame in matched if next(differences(frame), None) is not None]
    if final := [frame for frame in changed if project.state.is_accepted(frame)]:
        raise InputError(f"{place} changes frame {final[0]}, which was accepted", "unaccept it first, or leave it out")
    said = objects_of(next(iter(matched.values())).parent) if annotated_frames(place) else {}
    for object_id in sorted(ids - known.keys()):
        info = said.get(object_id)
        project.add_object(info.name if info else "", object_id=object_id, category=info.category if info else "")
    for frame in changed:
        for object_id, mask in differences(frame):
            own = [label for label, each in shown[frame].items() if each == object_id]
            painted = colours.painted(files[frame], own, object_id)
            project.set_key(frame, object_id, mask, {"tool": place.name, **({"painted": painted} if painted else {})})
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


def _differences(
    project: Project, frame: int, path: Path, shown: Mapping[int, int], ids: set[int]
) -> Iterator[tuple[int, Bool[Tensor, "H W"]]]:
    """Yields the id and the new mask of each object with another mask in a file than in the project."""
    stored, unstated = project.labels(frame), interpolated_in(path)
    labels = inspect_mask(path, project.frames.size).labels
    for object_id in sorted(ids - unstated):
        own = [label for label, each in shown.items() if each == object_id]
        mask = torch.from_numpy(np.isin(labels, own))
        if not torch.equal(mask, stored == object_id):
            yield object_id, mask


def _colours_in(state: State) -> dict[int, tuple[str, ...]]:
    """Returns the colours that have marked each object of a project so far."""
    return {object_id: each.painted for object_id, each in state.objects.items()}


def _say(ids: ColourIds) -> None:
    for note in ids.notes:
        log.info("%s", note)


def correct(project: Project, set_keys: Callable[[Project], Iterable[int]], on_frame: Callable[[Frame], None]) -> None:
    """Sets keys and tracks from them; what an earlier call left unfinished, since it was stopped, is tracked as well.

    Args:
        project: the project to correct.
        set_keys: a function that sets keys and returns their frames, such as `set_corrections`.
        on_frame: called after each tracked frame.
    """
    note = project.folder / _UNFOLLOWED
    earlier = _actions_before(note)
    if earlier is None:
        write_file(note, json.dumps({"actions": len(project.actions)}), durable=True)
    try:
        frames = {*set_keys(project)}
    except MnemaskError:
        if earlier is None:
            note.unlink(missing_ok=True)
        raise
    if earlier is not None:
        since = [(line["frame"], line["object"]) for line in project.actions[earlier:] if line["do"] == "set_key"]
        frames |= {frame for frame, object_id in since if (frame, object_id) in project.state.keys}
    if frames:
        _track(project, frames, on_frame)
    note.unlink(missing_ok=True)


def _actions_before(note: Path) -> int | None:
    """Returns how many actions a project had before corrections that were not followed to the end; None if none are."""
    try:
        return int(json.loads(note.read_text(encoding="utf-8"))["actions"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return 0  # damaged: all keys are followed again


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
        ids = [i for i in project.state.keys_at(start) if i in shown and (start - 1, i) not in keys]
        if start > first:  # objects marked earlier have been tracked up to here
            ids = [i for i in ids if begins[i] == start]
        if ids and start and not project.state.is_accepted(start - 1):
            project.track(start, "backward", to="key", objects=ids, on_frame=lambda report, frame: on_frame(frame))

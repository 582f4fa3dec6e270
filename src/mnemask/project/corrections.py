"""Masks that come back from another tool, and what they correct in a project."""

from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from mnemask.errors import InputError
from mnemask.io.label_files import annotated_frames, objects_of
from mnemask.project.project import Project
from mnemask.prompts.mask_file import inspect_mask
from mnemask.prompts.mask_folder import list_masks, match_frames
from mnemask.types import MAX_OBJECTS


def set_corrections(project: Project, place: str | Path) -> list[int]:
    """Returns the frames in which masks of a file or folder differ from a project's, where they are keys now.

    Tools give back every frame; those that nobody changed stay as they are. Of the objects in the file, one that is not
    in a frame is gone there. New ones are added, with the class that the file says.

    Args:
        project: to correct.
        place: a folder of masks, or the file or folder of an annotation tool, as `--mask` of `segment` takes it.

    Raises:
        MaskError: it cannot be read, is of other frames, or of another size; nothing is changed.
        InputError: a frame that it changes was accepted; nothing is changed.
    """
    place = Path(place)
    names = project.frames.file_names
    stems = None if names is None else [Path(name).stem for name in names]
    matched, _ = match_frames(list_masks(place), stems, project.num_frames)
    ids = {int(i) for path in matched.values() for i in inspect_mask(path, project.frames.size).ids}
    if len(ids) > MAX_OBJECTS:
        raise InputError(f"{place} marks {len(ids)} objects, more than {MAX_OBJECTS}", "keep those that you follow")
    changed = [
        frame for frame, path in matched.items() if next(_differences(project, frame, path, ids), None) is not None
    ]
    if final := [frame for frame in changed if project.state.is_accepted(frame)]:
        raise InputError(
            f"{place} changes frame {final[0]}, which was accepted", "take that back first, or leave it out"
        )
    said = objects_of(next(iter(matched.values())).parent) if annotated_frames(place) else {}
    for object_id in sorted(ids - project.state.objects.keys()):
        info = said.get(object_id)
        project.add_object(info.name if info else "", object_id=object_id, category=info.category if info else "")
    for frame in changed:
        for object_id, mask in _differences(project, frame, matched[frame], ids):
            project.set_key(frame, object_id, mask, {"tool": place.name})
    return changed


def _differences(project: Project, frame: int, path: Path, ids: set[int]) -> Iterator[tuple[int, Bool[Tensor, "H W"]]]:
    """Yields the id and the new mask of each object that a file shows otherwise than the project does."""
    stored = project.labels(frame)
    given = torch.from_numpy(inspect_mask(path, project.frames.size).labels)
    for object_id in sorted(ids):
        mask = given == object_id
        if not torch.equal(mask, stored == object_id):
            yield object_id, mask

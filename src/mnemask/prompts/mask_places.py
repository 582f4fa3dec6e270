"""Which frames the masks of a run are for: those of an image, of a folder, or of a file of an annotation tool."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemask.errors import MaskError
from mnemask.io.label_files import annotated_frames, is_annotated, map_name, objects_of
from mnemask.prompts.mask_folder import SHOWN, folders_of_objects, list_masks, match_frames, match_one
from mnemask.prompts.parse import At
from mnemask.types import ObjectInfo

log = logging.getLogger(__name__)


@dataclass(slots=True)
class MaskPlaces:
    """The masks that `--mask` gives.

    Attributes:
        places: each with its frame.
        objects: what objects are called, where a file says so.
        notes: what was understood and guessed, in words.
    """

    places: list[At] = field(default_factory=list)
    objects: Mapping[int, ObjectInfo] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, mask: Path, first: int, names: Sequence[str] | None, num_frames: int | None) -> "MaskPlaces":
        """Returns the places of an image, a folder of masks or of one folder for each object, or a tool's file.

        Args:
            mask: as the user gave it; an image need not exist.
            first: the number of the frame for what names none.
            names: of all frames, where they are files.
            num_frames: of the video, where it is known.

        Raises:
            MaskError: masks cannot be read, mark nothing, or are of no frame.
        """
        inside = annotated_frames(mask) if mask.exists() else []
        found = cls(objects=dict(objects_of(inside[0].parent)) if inside else {})
        if inside and mask.is_file() and len(inside) == 1:
            found._add_only(inside[0], first, match_one(inside[0], names, num_frames))
        elif inside:
            found._add_folder(mask, None, names, num_frames)
        elif mask.is_dir():
            for object_id, folder in folders_of_objects(mask).items():
                found._add_folder(folder, object_id, names, num_frames)
        else:
            found.places.append(At(first, None, mask))
        return found

    def _add_only(self, path: Path, first: int, frame: int | None) -> None:
        if frame:
            log.warning(
                "the picture in %s is %s: its masks go to frame %s; frames count from 0",
                *(path.parent.name, map_name(path), frame),
            )
        self.places.append(At(first if frame is None else frame, None, path))

    def _add_folder(
        self, folder: Path, object_id: int | None, names: Sequence[str] | None, num_frames: int | None
    ) -> None:
        """Adds the masks in a folder, or in a file that is like one."""
        listed = list_masks(folder)
        empty = [path for path in listed if not is_annotated(path)]
        if len(empty) == len(listed):
            raise MaskError(f"{folder} lists {len(listed)} pictures, and marks an object in none", "annotate one")
        if empty:
            say_not_annotated(folder, empty, len(listed))
        left_out = set(empty)
        masks = [path for path in listed if path not in left_out]
        matched, guessed = match_frames(masks, names, num_frames)
        self.notes += [guessed] if guessed else []
        frames = ", ".join(map(str, list(matched)[:SHOWN])) + (", ..." if len(matched) > SHOWN else "")
        of_object = "" if object_id is None else f" of object {object_id}"
        self.notes.append(f"{len(matched)} masks{of_object} in {folder}, of frames {frames}")
        self.places += [At(frame, object_id, path) for frame, path in matched.items()]


def say_not_annotated(folder: Path, empty: Sequence[Path], total: int) -> None:
    """Warns that empty masks are not taken to say that objects are gone."""
    names = [map_name(path) for path in empty]
    which = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    log.warning(
        "%s of %s masks in %s are empty (%s): they are taken for frames that nobody has annotated, so objects are "
        "followed through them; where objects are gone, say --remove FRAME:ID",
        *(len(empty), total, folder, which),
    )

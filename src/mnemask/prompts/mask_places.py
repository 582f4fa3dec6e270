"""Assigns the masks given by `--mask` to frames: those of an image, of a folder, or of an annotation tool's file."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemask.errors import MaskError, counted
from mnemask.io.label_files import annotated_frames, is_annotated, map_name, objects_of
from mnemask.prompts.mask_folder import folders_of_objects, given_masks
from mnemask.prompts.mask_matching import match_frames, match_one
from mnemask.prompts.parse import FIRST_READ, At, typed
from mnemask.types import ObjectInfo

log = logging.getLogger(__name__)

_SHOWN = 5


@dataclass(slots=True)
class MaskPlaces:
    """The masks given by `--mask`.

    Attributes:
        places: the masks, each with its frame.
        objects: classes and names of objects by id, if a file has them.
        notes: sentences that say how the masks were understood and what was guessed.
    """

    places: list[At] = field(default_factory=list)
    objects: Mapping[int, ObjectInfo] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, mask: Path, names: Sequence[str] | None, num_frames: int | None) -> "MaskPlaces":
        """Returns the masks of an image, of a folder, of one folder for each object, or of an annotation tool's file.

        Args:
            mask: the path as given; an image need not exist.
            names: names of all frames, if they are files.
            num_frames: number of frames of the video, if known.

        Raises:
            MaskError: masks cannot be read, mark nothing, or match no frame.
        """
        inside = annotated_frames(mask) if mask.exists() else []
        found = cls(objects=dict(objects_of(inside[0].parent)) if inside else {})
        if inside and mask.is_file() and len(inside) == 1:
            found._add_only(inside[0], match_one(inside[0], names, num_frames))
        elif inside:
            found._add_folder(mask, None, names, num_frames)
        elif mask.is_dir():
            for object_id, folder in folders_of_objects(mask).items():
                found._add_folder(folder, object_id, names, num_frames)
        else:
            found.places.append(At(FIRST_READ, None, mask))
        return found

    def _add_only(self, path: Path, frame: int | None) -> None:
        if frame:
            log.warning(
                "the picture in %s is called %s: its masks are given to frame %s (counted from 0)",
                *(path.parent.name, map_name(path), frame),
            )
        self.places.append(At(FIRST_READ if frame is None else frame, None, path))

    def _add_folder(
        self, folder: Path, object_id: int | None, names: Sequence[str] | None, num_frames: int | None
    ) -> None:
        """Adds the masks in a folder, or in a file that holds several."""
        masks_here, frames_beside = given_masks(folder)
        empty = [path for path in masks_here if not is_annotated(path)]
        if len(empty) == len(masks_here):
            raise MaskError(
                f"{folder} lists {counted(len(masks_here), 'picture')} but marks no object in any",
                "annotate at least one",
            )
        if empty:
            say_not_annotated(folder, empty, len(masks_here))
        left_out = set(empty)
        masks = [path for path in masks_here if path not in left_out]
        matched, guessed = match_frames(masks, names, num_frames)
        self.notes += [guessed] if guessed else []
        if frames_beside:
            self.notes.append(f"{counted(frames_beside, 'picture')} in {folder} beside their masks: left out")
        frames = ", ".join(map(str, list(matched)[:_SHOWN])) + (", ..." if len(matched) > _SHOWN else "")
        which = f"frame {frames}" if len(matched) == 1 else f"frames {frames}"
        of_object = "" if object_id is None else f" of object {object_id}"
        self.notes.append(f"{counted(len(matched), 'mask')}{of_object} in {folder}, for {which}")
        self.places += [At(frame, object_id, path) for frame, path in matched.items()]


def refuse_several(at: At) -> None:
    """Raises MaskError if the mask of one frame is a tool's file of several pictures, of which any may be meant."""
    pictures = annotated_frames(at.path) if at.path.is_file() else []
    if len(pictures) > 1:
        raise MaskError(
            f"{at.path} has {len(pictures)} pictures, but --at takes the mask of one frame",
            f"name the picture, such as --at {typed(at.frame)}={pictures[0]}, or give the file with --mask",
        )


def never_annotated(marked: Sequence[bool]) -> bool:
    """Returns whether empty masks mean frames that nobody annotated, instead of frames where the objects are gone.

    That is so for tools that write a mask for every frame: each mask that shows something, unless it is the very last
    mask, is followed by several empty ones.

    Args:
        marked: whether each mask shows anything, in frame order.
    """
    shown = [at for at, shows in enumerate(marked) if shows]
    ends = [*shown[1:], len(marked)][: len(shown)]
    empty = [end - at - 1 for at, end in zip(shown, ends, strict=True) if at < len(marked) - 1]
    return bool(empty) and min(empty) > 1


def say_not_annotated(folder: Path, empty: Sequence[Path], total: int) -> None:
    """Warns that empty masks are not taken to mean that objects are gone."""
    names = [map_name(path) for path in empty]
    which = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    log.warning(
        "%s of %s masks in %s are empty (%s): they are taken for frames that nobody annotated, so objects are "
        "tracked through them; where objects are gone, give --remove FRAME:ID",
        *(len(empty), total, folder, which),
    )

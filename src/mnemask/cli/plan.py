"""What the user said of the objects, read when the first frame is known and checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import mnemask as mm

if TYPE_CHECKING:
    from mnemask.given import Prompt
    from mnemask.prompts.parse import At


class PromptPlan:
    """The masks to give at each frame.

    Args:
        mask: file with the masks of the first frame.
        boxes: "x,y,w,h" around objects in the first frame; they get the lowest ids that `mask` leaves free.
        later: "FRAME=MASK" or "FRAME:ID=MASK" for objects that appear later, or corrections.
        clean: whether blended edges in a map of ids are given to the nearest object, not refused.
    """

    def __init__(self, mask: Path | None, boxes: Sequence[str], later: Sequence[str], clean: bool) -> None:
        self.mask = mask
        self.antialiased: Literal["clean", "error"] = "clean" if clean else "error"
        self.boxes = [mm.parse_box(box) for box in boxes]
        self.later = [mm.parse_at(text) for text in later]
        if mask is None and not boxes and not later:
            raise mm.InputError(
                "nothing to track: give the objects' masks with --mask FIRST.png, or a --box x,y,w,h around each"
            )
        self._given: dict[int, dict[int, Prompt]] | None = None

    def __call__(self, frame: mm.Frame) -> Mapping[int, Prompt] | None:
        """Returns the masks that are known in a frame."""
        if self._given is None:
            self._given = self._read(frame)
        return self._given.pop(frame.index, None)

    def check_all_given(self, num_frames: int) -> None:
        """Raises InputError if the video ended before a frame that masks were given for."""
        if self._given:
            raise mm.InputError(
                f"masks were given for frame {min(self._given)} but the video ended after {num_frames} frames "
                "(they count from 0); correct --at"
            )

    def _read(self, first: mm.Frame) -> dict[int, dict[int, Prompt]]:
        given: dict[int, dict[int, Prompt]] = {}
        if self.mask is not None:
            given[first.index] = dict(mm.read_mask(self.mask, first.size, antialiased=self.antialiased))
        unnamed = []
        for at in self.later:
            found: dict[int, Prompt] = dict(mm.read_mask(at.path, first.size, antialiased=self.antialiased))
            if at.object_id is not None:
                found = {at.object_id: _only(found, at.path)}
            elif list(found) == [1]:
                unnamed.append(at)
            here = given.setdefault(at.frame, {})
            if both := sorted(here.keys() & found.keys()):
                raise mm.InputError(
                    f"mask {at.path} marks object {both[0]} in frame {at.frame}, and so does another mask given for "
                    f"it; give each object an id of its own, such as --at {at.frame}:{both[0] + 1}={at.path.name} "
                    "(black and white is id 1)"
                )
            here.update(found)
        at_first = given.setdefault(first.index, {}) if self.boxes else {}
        for box in self.boxes:
            free = next(object_id for object_id in range(1, len(at_first) + 2) if object_id not in at_first)
            at_first[free] = mm.mask_from_box(first.image, box)
        for at in unnamed:
            known = sorted({object_id for frame, masks in given.items() if frame < at.frame for object_id in masks})
            if len(known) > 1:
                _refuse_unnamed(at, known)
        return given


def _refuse_unnamed(at: At, known: Sequence[int]) -> None:
    """Raises InputError if a later mask shows one of several objects, or a new one, and does not say which."""
    from mnemask.prompts import inspect_mask

    kind = inspect_mask(at.path).kind
    if kind in ("black and white", "transparency"):
        last = known[-1]
        raise mm.InputError(
            f"mask {at.path} for frame {at.frame} is {kind if kind == 'black and white' else 'a cut-out'} and does not "
            f"say which object it shows; before it there are {', '.join(map(str, known))}: write --at "
            f"{at.frame}:{last}={at.path.name} to correct object {last}, --at {at.frame}:{last + 1}={at.path.name} "
            "for a new one"
        )


def _only(found: Mapping[int, Prompt], path: Path) -> Prompt:
    """Returns the one mask of a file; raises InputError if there are several."""
    if len(found) > 1:
        raise mm.InputError(
            f"mask {path} marks objects {', '.join(map(str, sorted(found)))}, and --at names one id for it; leave the "
            "id out, or give one object's mask"
        )
    return next(iter(found.values()))

"""What the user said of the objects, read when the first frame is known and checked before anything is computed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import mnemask as mm
from mnemask.given import Prompt


class PromptPlan:
    """The masks to give at each frame.

    Args:
        mask: file with the masks of the first frame.
        boxes: "x,y,w,h" around objects in the first frame; they get the lowest ids that `mask` leaves free.
        later: "FRAME=MASK" for objects that appear later, or corrections.
        clean: whether blended edges in a map of ids are given to the nearest object, not refused.
    """

    def __init__(self, mask: Path | None, boxes: Sequence[str], later: Sequence[str], clean: bool) -> None:
        self.mask = mask
        self.antialiased: Literal["clean", "error"] = "clean" if clean else "error"
        self.boxes = [mm.parse_box(box) for box in boxes]
        self.later: dict[int, list[Path]] = {}
        for text in later:
            index, path = mm.parse_at(text)
            self.later.setdefault(index, []).append(path)
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
        for index, paths in self.later.items():
            for path in paths:
                found = mm.read_mask(path, first.size, antialiased=self.antialiased)
                here = given.setdefault(index, {})
                if both := sorted(here.keys() & found.keys()):
                    raise mm.InputError(
                        f"mask {path} marks object {both[0]} in frame {index}, and so does another mask given for it; "
                        "give each object an id of its own (black and white is id 1)"
                    )
                here.update(found)
        at_first = given.setdefault(first.index, {}) if self.boxes else {}
        for box in self.boxes:
            free = next(object_id for object_id in range(1, len(at_first) + 2) if object_id not in at_first)
            at_first[free] = mm.mask_from_box(first.image, box)
        return given

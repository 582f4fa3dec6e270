"""From clicks and a box to the mask of an object in one frame."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Int32
from torch import Tensor

import mnemask as mm
from mnemask.errors import CheckpointError
from mnemask.model.stcn import STCN
from mnemask.prompts.clicks import ClickSegmenter

Point = tuple[int, int]
Mask = Bool[Tensor, "H W"]
NEAR = 0.03  # of the shorter side: what lies so close to a clicked piece may belong to it


@runtime_checkable
class ClickSession(Protocol):
    """What answers clicks in one frame; what it knows of the frame is computed once."""

    def mask(
        self,
        positive: Sequence[Point],
        negative: Sequence[Point] = (),
        box: tuple[int, int, int, int] | None = None,
        previous: Mask | None = None,
    ) -> Mask:
        """Returns the mask of what was clicked."""
        ...


def open_clicks(model: STCN, frame: mm.Frame, short_side: int) -> ClickSession:
    """Returns what answers clicks in a frame: a network where there is one for these weights, else colours."""
    try:
        return ClickSegmenter(model, short_side=short_side).open(frame)
    except CheckpointError:  # the head belongs to other weights
        return ColourClicks(frame)


def clicked(
    session: ClickSession,
    positive: Sequence[Point],
    negative: Sequence[Point],
    box: tuple[int, int, int, int] | None,
    previous: Mask | None,
) -> Mask:
    """Returns the mask of what was clicked, without pieces far from it that nobody clicked on.

    A piece stays if it holds a click, lies close to one that does, or was there before; a negative click takes a whole
    piece away, unless it is the largest, of which it takes what the network says.
    """
    found = np.asarray(session.mask(positive, negative, box, previous).cpu())
    earlier = np.zeros_like(found) if previous is None else previous.cpu().numpy()
    before = _pieces(earlier)
    largest = int(np.bincount(before[before > 0], minlength=2).argmax())
    gone = _under(before, negative) - _under(before, positive) - {largest}
    found = found & ~np.isin(before, list(gone))
    pieces = _pieces(found)
    wanted = _under(pieces, positive) | {int(piece) for piece in np.unique(pieces[earlier])} - {0}
    if not wanted:  # such as all that is in a box
        return torch.from_numpy(found)
    reach = 2 * max(2, round(NEAR * min(found.shape))) + 1
    around = cv2.dilate(np.isin(pieces, list(wanted)).astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    return torch.from_numpy(found & np.isin(pieces, np.unique(pieces[around])))


def _pieces(mask: Bool[np.ndarray, "H W"]) -> Int32[np.ndarray, "H W"]:
    """Returns the number of the piece that each pixel of a mask belongs to, from 1; 0 outside."""
    pieces: Int32[np.ndarray, "H W"] = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1]
    return pieces


def _under(pieces: Int32[np.ndarray, "H W"], points: Sequence[Point]) -> set[int]:
    """Returns the pieces in which points lie."""
    return {int(pieces[y, x]) for x, y in points} - {0}


class ColourClicks:
    """Clicks answered by colour alone (GrabCut), for weights that have no click head."""

    def __init__(self, frame: mm.Frame) -> None:
        self._frame = frame

    def mask(
        self,
        positive: Sequence[Point],
        negative: Sequence[Point] = (),
        box: tuple[int, int, int, int] | None = None,
        previous: Mask | None = None,
    ) -> Mask:
        """Returns what has the colours of the box or around the clicks; clicks change a previous mask nearby."""
        image = self._frame.image
        found = previous.clone() if previous is not None else torch.zeros(image.shape[1:], dtype=torch.bool)
        if box is not None and (previous is None or not positive):
            found = mm.mask_from_box(image, box)
        if positive and not (previous is not None and all(previous[y, x] for x, y in positive)):
            strokes = {1: _dots(positive), 0: _dots(negative)}
            found = found | mm.mask_from_scribble(image, strokes)[1]
        for x, y in negative:
            if found[y, x]:
                found = found & ~mm.mask_from_scribble(image, {1: _dots([(x, y)]), 0: _dots(positive)})[1]
        return found


def _dots(points: Sequence[Point]) -> list[list[Point]]:
    """Returns a short stroke for each click."""
    return [[(x - 2, y), (x + 2, y)] for x, y in points]

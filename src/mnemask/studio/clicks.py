"""Turns clicks and a box into the mask of an object in one frame."""

from collections.abc import Sequence

import torch

import mnemask as mm
from mnemask.errors import CheckpointError
from mnemask.model.stcn import STCN
from mnemask.project.results import Mask
from mnemask.prompts.clicks import ClickSegmenter, ClickSession, pointed_at

Point = tuple[int, int]


class ColourClicks:
    """Segments from clicks by colour alone (GrabCut), for weights without a click head."""

    def __init__(self, frame: mm.Frame) -> None:
        self._frame = frame

    def mask(
        self,
        positive: Sequence[Point],
        negative: Sequence[Point] = (),
        box: tuple[int, int, int, int] | None = None,
        previous: Mask | None = None,
    ) -> Mask:
        """Returns the pixels with the colours found in the box or around the clicks; clicks change a mask nearby."""
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
        if box is not None:
            return found
        clicks = torch.tensor([*((x, y, 1) for x, y in positive), *((x, y, -1) for x, y in negative)])
        earlier = torch.zeros(image.shape[1:]) if previous is None else previous.float()
        return found & pointed_at(found, clicks.float(), earlier[None, 1::4, 1::4])


def open_clicks(model: STCN, frame: mm.Frame, short_side: int) -> ClickSession | ColourClicks:
    """Returns a click session for a frame: a network if there is one for these weights, otherwise colours."""
    try:
        return ClickSegmenter(model, short_side=short_side).open(frame)
    except CheckpointError:  # the head belongs to other weights
        return ColourClicks(frame)


def _dots(points: Sequence[Point]) -> list[list[Point]]:
    """Returns a short stroke for each click."""
    return [[(x - 2, y), (x + 2, y)] for x, y in points]

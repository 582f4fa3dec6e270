"""Masks of objects that boxes and clicks point at: by a model's click head, or, of boxes alone, by colour."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from mnemask.errors import CheckpointError, InputError, MaskError
from mnemask.model.stcn import STCN
from mnemask.prompts.box import Box, clip_box, doubts_of_mask
from mnemask.prompts.clicks import ClickSegmenter, Place
from mnemask.prompts.sketch import mask_from_box
from mnemask.types import Frame

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pointed:
    """How one object of a frame is pointed at.

    Attributes:
        box: around it.
        on: places on it.
        beside: places beside it.
    """

    box: Box | None = None
    on: Sequence[Place] = ()
    beside: Sequence[Place] = ()

    @property
    def clicks(self) -> int:
        """How many there are."""
        return len(self.on) + len(self.beside)


class ObjectFinder:
    """Finds objects; until `prepare` it knows no model, and finds what is in boxes by colour (GrabCut)."""

    def __init__(self) -> None:
        self._segmenter: ClickSegmenter | None = None

    def prepare(self, model: STCN, *, clicks: bool) -> list[str]:
        """Looks by a model's key encoder from now on; returns what must be said of it.

        Args:
            model: that encodes the frames.
            clicks: whether there are clicks, which nothing but a click head can read.

        Raises:
            CheckpointError: there are clicks, and no click head for this model.
        """
        try:
            self._segmenter = ClickSegmenter(model)
        except CheckpointError:
            if clicks:
                raise
            return ["there is no click head for this model, so what is in a box is found by its colours"]
        return []

    def find(
        self, frame: Frame, pointed: Mapping[int, Pointed], marked: Mapping[int, Bool[Tensor, "H W"] | None]
    ) -> dict[int, Bool[Tensor, "H W"]]:
        """Returns the mask of each object that is pointed at in a frame.

        Args:
            frame: that they are in.
            pointed: how, by object id.
            marked: masks of the same frame, which clicks correct.

        Raises:
            MaskError: nothing was found of one, or its box cannot be right.
            InputError: there are clicks, and no model to look at the frame.
        """
        if not pointed:
            return {}
        if self._segmenter is None:
            return {object_id: _by_colour(frame, how) for object_id, how in pointed.items()}
        session, masks = self._segmenter.open(frame), {}
        for object_id, how in pointed.items():
            masks[object_id] = mask = session.mask(how.on, how.beside, how.box, marked.get(object_id))
            if not bool(mask.any()):
                raise MaskError(
                    f"nothing was found of object {object_id} in frame {frame.index} where its clicks or box are",
                    "click on the middle of it, or give a mask",
                )
            if how.box is not None and not how.clicks:
                for doubt in doubts_of_mask(mask.numpy(), clip_box(how.box, frame.size)[0]):
                    log.warning("%s", doubt)
        return masks


def _by_colour(frame: Frame, how: Pointed) -> Bool[Tensor, "H W"]:
    if how.box is None or how.clicks:
        raise InputError("clicks need a model to look at the frame", "call prepare(model) first")
    return mask_from_box(frame, how.box)

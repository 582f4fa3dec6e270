"""Pixels that several objects of one frame claim: the first one given has them."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, UInt16
from torch import Tensor

from mnemask.errors import MaskError, counted
from mnemask.prompts.colour_ids import MarkedFile
from mnemask.prompts.parse import in_words
from mnemask.prompts.sketch import PointPrompt

log = logging.getLogger(__name__)

MOST_SHARED = 0.5  # of an object's pixels; if others have more, what is left of it is hardly the object


class Overlap(NamedTuple):
    """Pixels that a mask file shares with earlier ones of its frame; `nothing_left`: a label is covered entirely."""

    file: MarkedFile
    pixels: int
    nothing_left: bool


def overlaps(read: Sequence[tuple[MarkedFile, UInt16[np.ndarray, "_ _"]]]) -> Iterator[Overlap]:
    """Yields the overlaps between the files of one frame, in the order given."""
    taken = np.zeros(read[0][0].size, bool)
    for file, labels in read:
        if file.size == taken.shape:  # other sizes are refused once the frame's size is known
            shared = np.where(taken, labels, 0)
            if shared.any():
                left = np.unique(labels[~taken])
                yield Overlap(file, int(np.count_nonzero(shared)), not np.isin(file.labels, left).all())
            taken |= labels > 0


def say_overlaps(found: Sequence[Overlap]) -> None:
    """Warns about masks that overlap; raises MaskError where one is covered entirely, as no tracker accepts that."""
    for file, pixels, nothing_left in found:
        if nothing_left:
            raise MaskError(
                f"an object of mask {file.path} in {in_words(file.frame)} is covered entirely: {pixels} pixels of the "
                "mask belong to masks given before it, and the first mask wins",
                "give it before them, or cut its area out of them",
            )
    if found:
        file, pixels, _ = found[0]
        frames = len({each.file.frame for each in found})
        log.warning(
            "masks overlap in %s, first %s in %s, which shares %d pixels with earlier masks: the first mask wins",
            *(counted(frames, "frame"), file.path, in_words(file.frame), pixels),
        )


def check_pointed(
    masks: Mapping[int, Bool[Tensor, "H W"] | None], pointed: Mapping[int, PointPrompt], frame: int, at: str
) -> None:
    """Warns about objects with a box or clicks that overlap others.

    Args:
        masks: all masks of a frame by object id, the first one given first; None for an object that is gone.
        pointed: box and clicks of each object that has some.
        frame: the frame's number.
        at: what comes before the id of an object in a click on this frame, "FRAME:" or nothing.

    Raises:
        MaskError: a box or clicks select what another object is: one of the two would lose most of its pixels.
    """
    earlier: dict[int, Bool[Tensor, "H W"]] = {}
    for object_id, mask in masks.items():
        if mask is None:
            continue
        # Overlaps between mask files alone were reported before the first frame.
        others = {other: each for other, each in earlier.items() if {object_id, other} & pointed.keys()}
        earlier[object_id] = mask
        shared = {other: int((mask & each).sum()) for other, each in others.items()}
        if not any(shared.values()):
            continue
        other = max(shared, key=shared.__getitem__)
        pixels, area = int((mask & torch.stack([*others.values()]).any(0)).sum()), int(mask.sum())
        if pixels > MOST_SHARED * area:
            one, is_other = (object_id, other) if object_id in pointed else (other, object_id)
            raise _same_object(one, pointed[one], is_other, frame, at)
        log.warning(
            "objects %d and %d overlap in frame %d: %d of %d pixels of object %d belong to objects given before it",
            *(other, object_id, frame, pixels, area, object_id),
        )


def _same_object(object_id: int, how: PointPrompt, other: int, frame: int, at: str) -> MaskError:
    """Returns the error for an object whose box or clicks select what another object is."""
    selects = f"the clicks on object {object_id} select" if how.clicks else f"the box of object {object_id} selects"
    return MaskError(
        f"{selects} what is object {other} already in frame {frame}",
        f"to correct object {other}, give --click {at}{other}=X,Y; for another object, keep object {other} out of it "
        f"(--not {at}{object_id}=X,Y), or mark both in one mask file",
    )

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
            is_part = one == object_id and shared[other] <= MOST_SHARED * int(others[other].sum())
            remedy = _apart(one, is_other, pointed, at) if is_part else _named(one, is_other, at)
            raise MaskError(f"{_selects(one, pointed[one])} what is object {is_other} already in frame {frame}", remedy)
        log.warning(
            "objects %d and %d overlap in frame %d: %d of %d pixels of object %d belong to objects given before it",
            *(other, object_id, frame, pixels, area, object_id),
        )


def _selects(object_id: int, how: PointPrompt) -> str:
    return f"the clicks on object {object_id} select" if how.clicks else f"the box of object {object_id} selects"


def _apart(object_id: int, other: int, pointed: Mapping[int, PointPrompt], at: str) -> str:
    """Returns how to tell an object from a larger one of which it is a part, or into which its mask spills."""
    have_boxes = all(each in pointed and pointed[each].box is not None for each in (object_id, other))
    first = f"give its box before that of object {other}, or " if have_boxes else ""
    return (
        f"if it is a part of object {other}, {first}keep it out of that (--not {at}{other}=X,Y); if not, keep object "
        f"{other} out of it (--not {at}{object_id}=X,Y)"
    )


def _named(object_id: int, other: int, at: str) -> str:
    """Returns how to correct an object by its id, or to tell another one from it."""
    return (
        f"to correct object {other}, give --click {at}{other}=X,Y; for another object, keep object {other} out of it "
        f"(--not {at}{object_id}=X,Y), or mark both in one mask file"
    )

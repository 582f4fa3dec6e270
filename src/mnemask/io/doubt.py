"""Which frames to look at: how sure the network was, and whether a mask leaps or falls to pieces."""

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int32

from mnemask.types import Masks

DOUBTFUL = 0.5  # from here on a frame is worth a look
SURE, UNSURE = 0.97, 0.80  # mean certainty within a mask at which there is no doubt, and nothing but doubt
STEADY, LEAP = 0.15, 0.7  # log2 of the change of area from one frame to the next, likewise
FEW, MANY = 2, 10  # specks, likewise
WHOLE, TORN = 0.04, 0.20  # share of the mask that is apart from its largest piece, likewise
SPECK = 0.05  # of the largest piece: what is smaller is a speck, what is larger may be another part, or another object


class Confidence(NamedTuple):
    """How one object's mask looks in one frame.

    Attributes:
        certainty: mean probability of the pixels of the mask; of the most probable pixel where the mask is empty.
        area: pixels.
        specks: pieces that are small beside the largest.
        apart: share of the area that does not hang together with the largest piece.
    """

    certainty: float
    area: int
    specks: int
    apart: float


class Appearance(NamedTuple):
    """Where one object's mask is in one frame, in pixels; None where it is empty.

    Attributes:
        confidence: how it looks.
        centre: x and y of its centre of mass; the first pixel's is 0, 0.
        box: left, top, width and height of the box around it.
    """

    confidence: Confidence
    centre: tuple[float, float] | None = None
    box: tuple[int, int, int, int] | None = None


def appearance_of(masks: Masks, object_id: int) -> Appearance:
    """Returns where one object of a frame is; no mask at all counts as certain if nothing came close to it."""
    row = masks.object_ids.index(object_id) + 1
    probs, mask = masks.probs[row], masks.labels == object_id
    area = int(mask.sum())
    if not area:
        return Appearance(Confidence(1.0 - float(probs.max()), 0, 0, 0.0))
    certainty = float(probs[mask].mean())
    box, areas, centres = _pieces(mask.cpu().numpy())
    specks, apart = int((areas < SPECK * areas.max()).sum()), float(1 - areas.max() / areas.sum())
    x, y = areas @ centres / areas.sum() + box[:2]
    return Appearance(Confidence(certainty, area, specks, apart), (float(x), float(y)), box)


def doubts(columns: Mapping[str, Float[np.ndarray, " T"]], known: Bool[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """Returns how doubtful each frame of an object is, from 0 to 1; 0 where nothing is known.

    Args:
        columns: the fields of `Confidence` for each frame.
        known: which frames have been tracked.
    """
    certainty, area, specks, apart = (columns[name] for name in Confidence._fields)
    unsure = (SURE - certainty) / (SURE - UNSURE)
    size = np.log2(np.maximum(area, 1) + 16)  # a few pixels more or fewer of a tiny object are no leap
    leap = np.zeros_like(unsure)
    both = known[1:] & known[:-1]
    leap[1:][both] = (np.abs(np.diff(size))[both] - STEADY) / (LEAP - STEADY)
    pieces, torn = (specks - FEW) / (MANY - FEW), (apart - WHOLE) / (TORN - WHOLE)
    worst: Float[np.ndarray, " T"] = np.clip(np.maximum.reduce([unsure, leap, pieces, torn]), 0, 1)
    return np.where(known, worst, 0)


def doubt_between(before: Confidence | None, now: Confidence) -> float:
    """Returns how doubtful a frame of an object is, from 0 to 1, after that before it; None where there is none."""
    rows = [now] if before is None else [before, now]
    columns = {name: np.array([getattr(row, name) for row in rows], np.float32) for name in Confidence._fields}
    return float(doubts(columns, np.ones(len(rows), bool))[-1])


def _pieces(
    mask: Bool[np.ndarray, "H W"],
) -> tuple[tuple[int, int, int, int], Int32[np.ndarray, " N"], Float64[np.ndarray, "N 2"]]:
    """Returns the box around a mask, and area and centre (x, y in the box) of each piece that hangs together."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    cut = np.ascontiguousarray(mask[top : top + height, left : left + width].view(np.uint8))
    count, _, stats, centres = cv2.connectedComponentsWithStats(cut, connectivity=8)
    areas: Int32[np.ndarray, " N"] = np.asarray(stats[1:count, cv2.CC_STAT_AREA], np.int32)
    return (left, top, width, height), areas, np.asarray(centres[1:count], np.float64)


def certainty_now(masks: Masks) -> dict[int, Confidence]:
    """Returns the confidence in each object of a frame."""
    with torch.no_grad():
        return {object_id: appearance_of(masks, object_id).confidence for object_id in masks.object_ids}
